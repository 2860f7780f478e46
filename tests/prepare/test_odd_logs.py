"""Logs that were read wrongly, lost rows or ended in a traceback once."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mqsa_jax.errors import SettingError, UserError
from tests.prepare.log_cases import prepared, random_events, read_back, write_csv

ROWS = {"user_id": ["u", "u", "v"], "item_id": ["a", "b", "a"], "timestamp": [1, 2, 3]}


@pytest.mark.parametrize("name", ["log[1].parquet", "log?.parquet", "l*.parquet", "a'b.parquet"])
def test_letters_of_patterns_in_names_are_letters(tmp_path, name):
    other = {**ROWS, "user_id": ["x", "x", "x"]}
    pq.write_table(pa.table(other), tmp_path / "log1.parquet")
    pq.write_table(pa.table(ROWS), tmp_path / name)
    prepared(tmp_path / name, tmp_path / "out", min_user=1, min_item=1)
    assert list(read_back(tmp_path / "out")) == ["u", "v"]


def test_rows_without_a_list_are_counted(tmp_path):
    times = pa.array([[1, 2], None, [], [3]], pa.list_(pa.int64()))
    items = pa.array([["a", "b"], ["a"], [], None], pa.list_(pa.string()))
    table = pa.table({"uid": list("uvwx"), "item_id": items, "timestamp": times})
    pq.write_table(table, tmp_path / "log.parquet")
    lines = []
    prepared(tmp_path / "log.parquet", tmp_path / "out", say=lines.append, min_user=1, min_item=1)
    assert list(read_back(tmp_path / "out")) == ["u"]
    assert "malformed rows dropped: 3 rows" in lines


@pytest.mark.parametrize("name", ["filename", "file_row_number", "row", "problem", "file"])
def test_columns_of_any_name_are_columns(tmp_path, name):
    pq.write_table(pa.table({**ROWS, name: [7, 8, 9]}), tmp_path / "log.parquet")
    try:
        prepared(tmp_path / "log.parquet", tmp_path / "out", min_user=1, min_item=1)
    except UserError as error:
        assert name == "file_row_number" and "\n" not in str(error)
    else:
        assert list(read_back(tmp_path / "out")) == ["u", "v"]


def test_float_ids_that_are_no_integers_are_malformed(tmp_path):
    ids = [1.0, float("inf"), 1e25, -float("inf"), 0.5, float("nan")]
    table = pa.table({"user": ids, "item": [3.0] * 6, "time": range(6)})
    pq.write_table(table, tmp_path / "log.parquet")
    prepared(tmp_path / "log.parquet", tmp_path / "out", min_user=1, min_item=1)
    assert list(read_back(tmp_path / "out")) == [1]


def test_columns_that_cannot_be_told_apart_are_refused(tmp_path):
    pq.write_table(pa.table({**ROWS, "USER_ID": [5, 5, 5]}), tmp_path / "log.parquet")
    with pytest.raises(UserError, match="'user_id' and 'USER_ID' differ in case alone"):
        prepared(tmp_path / "log.parquet", tmp_path / "out")
    log = write_csv(tmp_path / "log.csv", random_events(0))
    with pytest.raises(SettingError, match="user_column and item_column are both 'user_id'"):
        prepared(log, tmp_path / "out", item_column="user_id")


def test_the_first_json_line_may_lack_values(tmp_path):
    rows = [{"meta": 1}, {"user": None, "item": 5, "time": 1}, {"user": "u", "item": 6, "time": 2}]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prepared(tmp_path / "log.jsonl", tmp_path / "out", min_user=1, min_item=1)
    assert read_back(tmp_path / "out") == {"u": [(6, 2)]}


def test_headers_may_hold_newlines_and_endings_capitals(tmp_path):
    text = 'user,item,"a\nb",time\nu,i,x,1\nu,"j\nk",y,2\n'
    (tmp_path / "log.CSV.GZ").write_bytes(gzip.compress(text.encode()))
    lines = []
    prepared(tmp_path / "log.CSV.GZ", tmp_path / "out", say=lines.append, min_user=1, min_item=1)
    assert read_back(tmp_path / "out") == {"u": [("i", 1), ("j\nk", 2)]}
    assert "read: 2 rows" in lines


def test_outputs_that_cannot_be_are_named(tmp_path):
    log = write_csv(tmp_path / "log.csv", random_events(0))
    with pytest.raises(UserError, match="log.csv: is a file, not a folder"):
        prepared(log, log / "out")
