"""Files of lists: what is written is read again, and nothing is left half-written."""

import csv
import io
import json

import numpy as np
import pyarrow.parquet
import pytest

from mqsa_jax.data.ids import STRING
from mqsa_jax.errors import UserError
from mqsa_jax.inference.explanations import Attention, Explanations, Origins
from mqsa_jax.inference.list_files import arrow_ids, list_table, opened_lists
from mqsa_jax.inference.list_outputs import check_output
from mqsa_jax.inference.lists import Lists

ODD = ["plain", "a,b", 'quo"te', "new\nline", "cr\rx", " é ", "{\\"]
ITEMS = np.array([f"i{name}" for name in ODD], STRING)
LISTS = Lists(
    np.array([[2, 1, 0], [3, -1, -1], [-1, -1, -1], [6, 5, 4]], np.int32),
    np.array([[3, 2.5, 1e-7], [1, -np.inf, -np.inf], [-np.inf] * 3, [np.nan] * 3], np.float32),
)
USERS = np.array(["a,\n1", "2", "nobody", 'q"'], STRING)
ROWS = [
    ("a,\n1", 1, 'iquo"te', 3.0),
    ("a,\n1", 2, "ia,b", 2.5),
    ("a,\n1", 3, "iplain", float(np.float32(1e-7))),
    ("2", 1, "inew\nline", 1.0),
    ('q"', 1, "i{\\", None),
    ('q"', 2, "i é ", None),
    ('q"', 3, "icr\rx", None),
]


def written(path, *tables):
    with opened_lists(str(path)) as write:
        for table in tables:
            write(table)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def table(why=None):
    return list_table("user", arrow_ids(USERS), LISTS, arrow_ids(ITEMS), why)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "ndjson", "parquet"])
def test_rows_are_read_again(tmp_path, ending):
    path = tmp_path / f"lists.{ending}"
    written(path, table(), table())
    if ending == "parquet":
        rows = pyarrow.parquet.read_table(path).to_pylist()
    elif ending == "csv":
        rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))
        assert path.read_text().startswith("user,rank,item,score\n")
    else:
        rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    found = [(row["user"], int(row["rank"]), row["item"], score(row["score"])) for row in rows]
    assert found == ROWS + ROWS
    assert all(list(row) == ["user", "rank", "item", "score"] for row in rows)


def score(value):
    return None if value in (None, "") else float(np.float32(value))


def test_numbers_stay_numbers(tmp_path):
    numbers = list_table("user", arrow_ids(np.arange(4)), LISTS, arrow_ids(np.arange(10, 17)))
    written(tmp_path / "lists.jsonl", numbers)
    first = (tmp_path / "lists.jsonl").read_text().splitlines()[0]
    assert first == '{"user": 0, "rank": 1, "item": 12, "score": 3}'


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_reasons_are_lists(tmp_path, ending):
    attention = Attention(
        np.array([[1, 0, -1]] * 4, np.int32), np.array([[0.75, 0.25, 0]] * 4, np.float32)
    )
    shape = (4, 3, 3)
    origins = Origins(np.full(shape, -1, np.int32), np.zeros(shape), np.zeros(shape))
    origins.items[0, 1, 0], origins.counts[0, 1, 0], origins.probabilities[0, 1, 0] = 4, 2, 0.5
    path = tmp_path / f"lists.{ending}"
    written(path, table(Explanations({"long": attention}, origins)))
    if ending == "parquet":
        rows = pyarrow.parquet.read_table(path).to_pylist()
    else:
        rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    for row in rows:
        assert row["short_attention"] == []
        assert row["long_attention"] == [
            {"item": "ia,b", "weight": 0.75},
            {"item": "iplain", "weight": 0.25},
        ]
    transitions = [row["transitions"] for row in rows]
    assert transitions[1] == [{"item": "icr\rx", "count": 2.0, "probability": 0.5}]
    assert not any(transitions[:1] + transitions[2:])


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_failure_leaves_what_was_there(tmp_path, ending):
    path = tmp_path / f"lists.{ending}"
    path.write_text("before")
    with pytest.raises(RuntimeError), opened_lists(str(path)) as write:
        write(table())
        raise RuntimeError
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "before"


def test_bad_places_are_refused(tmp_path):
    (tmp_path / "in.csv").write_text("")
    for output, nested, message in (
        ("lists.txt", False, "the ending must be one of .csv, .parquet, .jsonl"),
        (str(tmp_path / "no" / "a.csv"), False, "no folder"),
        (str(tmp_path), False, "the ending must be"),
        (str(tmp_path / "a.csv"), True, "CSV has no room for --explain"),
        (None, True, "CSV has no room for --explain"),
        (str(tmp_path / "in.csv"), False, "is a file that is read"),
    ):
        with pytest.raises(UserError, match=message):
            check_output(output, nested, (None, str(tmp_path / "in.csv")))
