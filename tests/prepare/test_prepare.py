"""Prepared data sets hold what plain Python makes of the same events."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mqsa_jax.data.prepared import ITEMS, read_prepared
from mqsa_jax.data.sources import load_histories
from mqsa_jax.errors import FolderError, SettingError, UserError
from tests.prepare.log_cases import (
    by_user,
    core,
    prepared,
    random_events,
    read_back,
    write_csv,
)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("min_user", "min_item"), [(1, 1), (3, 1), (1, 4), (5, 5), (7, 3)])
def test_core_order_and_counts(tmp_path, seed, min_user, min_item):
    events = random_events(seed)
    log = write_csv(tmp_path / "log.csv", events)
    left = core(sorted(set(events)), min_user, min_item)
    folder = tmp_path / "out"
    manifest = prepared(log, folder, min_user=min_user, min_item=min_item)
    expected = by_user(left)
    assert read_back(folder) == expected
    assert manifest["users"] == len(expected)
    assert manifest["items"] == len({item for _, item, _ in left})
    assert manifest["interactions"] == len(left)
    tied = sum(
        sum(other == time for _, other in row) > 1 for row in expected.values() for _, time in row
    )
    assert manifest["ties"] == tied > 0
    trained = [item for row in expected.values() for item, _ in row[:-2]]
    counts = pq.read_table(folder / ITEMS).to_pylist()
    assert {row["item"]: row["count"] for row in counts} == {
        item: trained.count(item) for _, item, _ in left
    }


def test_repeats_are_dropped_if_asked(tmp_path):
    events = random_events(4)
    first = {}
    for user, item, time in sorted(events, key=lambda event: event[2]):
        first.setdefault((user, item), time)
    log = write_csv(tmp_path / "log.csv", events)
    prepared(log, tmp_path / "out", keep_repeats=False, min_user=1, min_item=1)
    assert read_back(tmp_path / "out") == by_user([(*key, time) for key, time in first.items()])


def write_formats(folder, events):
    """The same events in every format; the first is CSV."""
    names = ("user_id", "item_id", "timestamp")
    rows = [dict(zip(names, event, strict=True)) for event in events]
    csv = write_csv(folder / "log.csv", events)
    files = [csv, folder / "packed.csv.gz", folder / "log.tsv", folder / "log.inter"]
    files[1].write_bytes(gzip.compress(csv.read_bytes()))
    body = "".join("\t".join(map(str, event)) + "\n" for event in events)
    files[2].write_text("\t".join(names) + "\n" + body)
    files[3].write_text("user_id:token\titem_id:token\ttimestamp:float\n" + body)
    dat = folder / "log.dat"
    dat.write_text("".join(f"{user}::{item}::3::{time}\n" for user, item, time in events))
    reviews = folder / "reviews.json.gz"
    keys = ("reviewerID", "asin", "unixReviewTime")
    lines = [
        json.dumps({**dict(zip(keys, event, strict=True)), "text": '{"a"}'}) for event in events
    ]
    reviews.write_bytes(gzip.compress("\n".join(lines).encode()))
    new_reviews = folder / "reviews.jsonl"
    keys = ("user_id", "parent_asin", "timestamp")
    lines = [json.dumps(dict(zip(keys, (u, i, 1000 * t), strict=True))) for u, i, t in events]
    new_reviews.write_text("\r\n".join(lines))
    parquet = folder / "log.parquet"
    moments = pa.array([row["timestamp"] * 10**6 for row in rows], pa.timestamp("us"))
    columns = {name: [row[name] for row in rows] for name in names[:2]}
    pq.write_table(pa.table({**columns, "datetime": moments}), parquet)
    lists, histories = folder / "lists.parquet", by_user(events)
    columns = {
        "uid": list(histories),
        "item_id": [[item for item, _ in row] for row in histories.values()],
        "timestamp": [[time for _, time in row] for row in histories.values()],
    }
    pq.write_table(pa.table(columns), lists)
    json_lists = folder / "lists.jsonl"
    json_lists.write_text(
        "".join(
            json.dumps({"user": user, "items": [i for i, _ in row], "times": [t for _, t in row]})
            + "\n"
            for user, row in histories.items()
        )
    )
    return [*files, dat, reviews, new_reviews, parquet, lists, json_lists]


def test_all_formats_give_the_same_files(tmp_path):
    events = [(f"é{user}", item, time) for user, item, time in sorted(set(random_events(5)))]
    manifests = {}
    for file in write_formats(tmp_path, events):
        folder = tmp_path / f"out_{file.name}"
        manifests[file.name] = prepared(file, folder, min_user=3, min_item=3)
    assert len(manifests) == 10
    assert len({json.dumps(manifest["files"]) for manifest in manifests.values()}) == 1


def test_folders_and_patterns_are_read_as_one_log(tmp_path):
    events = random_events(6)
    whole = write_csv(tmp_path / "whole.csv", events)
    parts = tmp_path / "parts"
    (parts / "deep").mkdir(parents=True)
    write_csv(parts / "a.csv", events[:50])
    write_csv(parts / "deep" / "b.csv", events[50:])
    (parts / "_SUCCESS").write_text("")
    expected = prepared(whole, tmp_path / "1")["files"]
    assert prepared(parts, tmp_path / "2")["files"] == expected
    assert prepared(f"{parts}/**/*.csv", tmp_path / "3")["files"] == expected
    assert (
        prepared([parts / "deep" / "b.csv", parts / "a.csv"], tmp_path / "4")["files"] == expected
    )


@pytest.mark.parametrize(
    ("texts", "unit", "seconds"),
    [
        (["1500000000", "1.5e9", "1500000000.25"], "auto", [1500000000] * 3),
        (["1500000000123", "1500000001000"], "auto", [1500000000, 1500000001]),
        (["1500000000123456"], "auto", [1500000000]),
        (["3", "2", "1"], "auto", [1, 2, 3]),
        (["3000", "2000"], "ms", [2, 3]),
        (["-5", "0"], "auto", [-5, 0]),
        (["2017-07-14", "2017-07-14T02:40:00Z"], "auto", [1499990400, 1500000000]),
        (["2017-07-14 02:40", "2017-07-14T04:40:00.5+02:00"], "auto", [1500000000] * 2),
        (["2017-07-13T23:10:01-03:30"], "auto", [1500000001]),
    ],
)
def test_times(tmp_path, texts, unit, seconds):
    rows = [("u", f"i{place}", text) for place, text in enumerate(texts)]
    log = write_csv(tmp_path / "log.csv", rows)
    prepared(log, tmp_path / "out", min_user=1, min_item=1, time_unit=unit)
    assert [time for _, time in read_back(tmp_path / "out")["u"]] == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "2017-02-30", "2017-07-14T25:00", "nan", "inf", "1e300"]
)
def test_a_time_that_is_none_is_a_malformed_row(tmp_path, text):
    log = write_csv(tmp_path / "log.csv", [("u", "a", "5"), ("u", "b", text)])
    lines = []
    prepared(log, tmp_path / "out", say=lines.append, min_user=1, min_item=1)
    assert f"  {log}:3: no time that can be read" in lines
    assert read_back(tmp_path / "out") == {"u": [("a", 5)]}


def test_times_of_two_units_are_refused(tmp_path):
    log = write_csv(tmp_path / "log.csv", [("u", "a", 1500000000), ("u", "b", 1500000000123)])
    with pytest.raises(SettingError, match="times look like 1 in s and 1 in ms: .*time_unit"):
        prepared(log, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("ids", "kind", "order"),
    [
        (["10", "9", "0"], int, [0, 9, 10]),
        (["10", "09"], str, ["09", "10"]),
        (["10", "-9"], str, ["-9", "10"]),
        (["10", "1" * 19], str, ["10", "1" * 19]),
        (["Z", "a", "é", "😀", 'x"y'], str, ["Z", "a", 'x"y', "é", "😀"]),
    ],
)
def test_ids_are_kept_as_they_are(tmp_path, ids, kind, order):
    rows = [("u", name, time) for time, name in enumerate(ids)]
    log = write_csv(tmp_path / "log.csv", rows)
    prepared(log, tmp_path / "out", min_user=1, min_item=1)
    assert pq.read_table(tmp_path / "out" / ITEMS).column("item").to_pylist() == order
    assert {type(name) for name in order} == {kind}


@pytest.mark.parametrize(("value", "expected"), [("7", "7"), (7, 7)])
def test_formats_with_types_keep_them(tmp_path, value, expected):
    lines = [json.dumps({"user": value, "item": value, "time": time}) for time in range(3)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    pq.write_table(
        pa.table({"user": [value] * 3, "item": [value] * 3, "time": [0, 1, 2]}),
        tmp_path / "log.parquet",
    )
    for name in ("log.jsonl", "log.parquet"):
        prepared(tmp_path / name, tmp_path / f"out_{name}", min_user=1, min_item=1)
        assert list(read_back(tmp_path / f"out_{name}")) == [expected]


def test_ratings_below_the_least_are_dropped(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user,item,time,stars\nu,a,1,4\nu,b,2,3.5\nu,c,3,\nu,d,4,five\nu,e,5,5\n")
    lines = []
    options = {"min_user": 1, "min_item": 1}
    manifest = prepared(log, tmp_path / "out", say=lines.append, min_rating=4.0, **options)
    assert read_back(tmp_path / "out") == {"u": [("a", 1), ("e", 5)]}
    assert {"step": "malformed rows dropped", "rows": 2} in manifest["steps"]
    assert {"step": "rating 4 or more", "events": 2} in manifest["steps"]
    prepared(log, tmp_path / "all", **options)
    assert len(read_back(tmp_path / "all")["u"]) == 5


def test_many_ties_are_warned_of(tmp_path):
    events = [("u", f"i{place}", place // 2) for place in range(20)]
    lines = []
    log = write_csv(tmp_path / "log.csv", events)
    prepared(log, tmp_path / "out", say=lines.append, min_user=1, min_item=1)
    assert any("more than a fifth" in line for line in lines)


def test_strict_refuses_malformed_rows(tmp_path):
    log = write_csv(tmp_path / "log.csv", [("u", "a", "5"), ("u", "b", "x")])
    with pytest.raises(UserError, match=f"1 of 2 rows are malformed; the first: {log}:3"):
        prepared(log, tmp_path / "out", strict=True)


def test_an_empty_core_is_told_with_its_rounds(tmp_path):
    log = write_csv(tmp_path / "log.csv", [("u", "a", 1), ("u", "b", 2), ("v", "a", 3)])
    with pytest.raises(
        SettingError, match="min_user 2 and min_item 2: 3 events, and then 1, 0 after the rounds"
    ):
        prepared(log, tmp_path / "out", min_user=2, min_item=2)
    assert list(tmp_path.iterdir()) == [log]


def test_a_folder_that_is_there_is_kept_unless_it_is_to_be_replaced(tmp_path):
    log = write_csv(tmp_path / "log.csv", random_events(7))
    prepared(log, tmp_path / "out")
    with pytest.raises(FolderError):
        prepared(log, tmp_path / "out")
    from mqsa_jax.prepare.dataset import prepare
    from mqsa_jax.prepare.engines import engine_maker
    from mqsa_jax.prepare.options import PrepareOptions

    options = PrepareOptions(min_user=1, min_item=1)
    make = engine_maker()
    manifest = prepare([str(log)], tmp_path / "out", options, make, overwrite=True, say=str)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "out"]


def test_order_of_rows_does_not_matter(tmp_path):
    events = random_events(8)
    shuffled = [events[place] for place in np.random.default_rng(0).permutation(len(events))]
    first = prepared(write_csv(tmp_path / "a.csv", events), tmp_path / "1")
    second = prepared(write_csv(tmp_path / "b.csv", shuffled), tmp_path / "2")
    assert first["files"] == second["files"]


def test_histories_are_those_of_the_text_file(tmp_path):
    rng = np.random.default_rng(1)
    rows = [rng.integers(1, 30, rng.integers(3, 9)).tolist() for _ in range(25)]
    text = tmp_path / "histories.txt"
    text.write_text(
        "".join(f"{user} {' '.join(map(str, row))}\n" for user, row in enumerate(rows, 1))
    )
    events = [
        (f"U{user:04}", f"I{item:05}", 10**9 + 60 * place)
        for user, row in enumerate(rows, 1)
        for place, item in enumerate(row)
    ]
    order = rng.permutation(len(events))
    log = write_csv(tmp_path / "log.csv", [events[place] for place in order])
    prepared(log, tmp_path / "out", min_user=1, min_item=1)
    expected, actual = load_histories(str(text)), load_histories(str(tmp_path / "out"))
    np.testing.assert_array_equal(actual.items, expected.items)
    np.testing.assert_array_equal(actual.offsets, expected.offsets)
    assert actual.item_ids.tolist() == [f"I{item:05}" for item in expected.item_ids]


def test_short_histories_are_skipped_by_leave_one_out(tmp_path):
    events = [("a", "x", 1), ("a", "y", 2), ("b", "x", 1), ("b", "y", 2), ("b", "z", 3)]
    prepared(write_csv(tmp_path / "log.csv", events), tmp_path / "out", min_user=1, min_item=1)
    with pytest.warns(UserWarning, match="skipped 1 of 2 histories"):
        histories = read_prepared(tmp_path / "out")
    assert histories.user_ids.tolist() == ["b"] and histories.num_items == 3
