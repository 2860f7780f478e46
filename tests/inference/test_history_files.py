"""Histories that a user gives: what is read, and that whatever is damaged is one clear error."""

import gzip
import json
import sys
import types

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from mqsa_jax.data.ids import STRING, ids_like
from mqsa_jax.errors import UserError
from mqsa_jax.inference.history_files import (
    UserColumn,
    read_given_histories,
    read_item_list,
)

NUMBERS = np.array([5, 17, 230])
NAMES = np.array(["17", "B,01", "é"], STRING)


def read(path):
    return [(user, items) for _, user, items in read_given_histories(str(path))]


def test_lines_are_histories_of_their_own(tmp_path):
    path = tmp_path / "given.jsonl"
    lines = [
        '\ufeff{"user": 1, "items": [17, "5"]}',
        "",
        '{"user": 1, "items": [], "more": null}',
        '{"items": ["c", "a", "b", "d"], "times": [3, 1, 2.5, 3], "user": "x\\ny,\\""}',
    ]
    path.write_text("\r\n".join(lines), encoding="utf-8")
    expected = [(1, [17, "5"]), (1, []), ('x\ny,"', ["a", "b", "c", "d"])]
    assert read(path) == expected
    packed = tmp_path / "given.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read(packed) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"user": 1, "items": [' + "9" * 5000 + "]}", "not JSON"),
        ("[1, 2]", "is no object"),
        ('{"items": [1]}', 'lacks "user"'),
        ('{"user": 1}', 'lacks "items"'),
        ('{"user": 1, "items": 7}', '"items" is 7, no list'),
        ('{"user": 1.5, "items": [7]}', "1.5 is no id"),
        ('{"user": true, "items": [7]}', "true is no id"),
        ('{"user": 1, "items": [7, null]}', "null is no id"),
        ('{"user": 1, "items": [7, NaN]}', "NaN is no id"),
        ('{"user": 1, "items": [[7]]}', r"\[7\] is no id"),
        ('{"user": 1, "items": [7], "times": [1, 2]}', '"times" must be a list as long'),
        ('{"user": 1, "items": [7], "times": [Infinity]}', 'Infinity in "times" is no number'),
        ('{"user": 1, "items": [7], "times": ["1"]}', 'in "times" is no number'),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "given.jsonl"
    path.write_text('{"user": 1, "items": [7]}\n' + line + "\n")
    with pytest.raises(UserError, match=f"given.jsonl:2: .*{message}") as error:
        read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "no histories"),
        ("a.jsonl", b"\n \n", "no histories"),
        ("a.jsonl", '{"user": 1, "items": []}'.encode("utf-16"), ":1: not UTF-8 text"),
        ("a.jsonl", b'{"user": "\xff", "items": []}', ":1: not UTF-8 text"),
        ("a.jsonl.gz", b'{"user": 1, "items": []}', "gzip"),
        ("a.jsonl.gz", gzip.compress(b'{"user": 1, "items": []}' * 99, mtime=0)[:-12], "gzip"),
        ("b.jsonl", None, "no such file"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.*{message}"):
        read(tmp_path / name)
    folder = tmp_path / "folder.jsonl"
    folder.mkdir()
    with pytest.raises(UserError, match="is a directory"):
        read(folder)


def test_other_files_are_read_by_the_readers_of_raw_data(tmp_path, monkeypatch):
    module = types.ModuleType("mqsa_jax.prepare.raw_histories")
    asked = []

    def read_raw_histories(inputs):
        asked.append(inputs)
        yield "a", ["x,1", "y"]
        yield "b", ["z"]

    module.read_raw_histories = read_raw_histories
    monkeypatch.setitem(sys.modules, "mqsa_jax.prepare", types.ModuleType("mqsa_jax.prepare"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    reviews = tmp_path / "reviews.jsonl"
    reviews.write_text('{"reviewerID": "A", "asin": "B", "unixReviewTime": 1}\n')
    for path in (tmp_path / "log.csv", reviews):
        assert read(path) == [("a", ["x,1", "y"]), ("b", ["z"])]
    assert asked == [[str(tmp_path / "log.csv")], [str(reviews)]]


def test_ids_are_of_the_kind_of_the_data():
    values = [17, "17", "017", "+17", " 17", "B,01", "", -1, 10**30, "1" * 19, "\ud800", "a\0b"]
    assert ids_like(NUMBERS, values).tolist() == [17, 17, *[-1] * 7, 10**18 + int("1" * 18), -1, -1]
    texts = ids_like(NAMES, values).tolist()
    assert texts[:6] == ["17", "17", "017", "+17", " 17", "B,01"] and texts[-2:] == ["", ""]
    assert ids_like(NUMBERS, []).dtype == np.int64


def test_lists_of_items(tmp_path):
    path = tmp_path / "items.txt"
    path.write_bytes(b"\xef\xbb\xbf17\r\n\n 5 \nB,01\n")
    assert read_item_list(str(path), NUMBERS).tolist() == [17, 5, -1]
    assert read_item_list(str(path), NAMES).tolist() == ["17", " 5 ", "B,01"]
    assert read_item_list(None, NAMES) is None
    with pytest.raises(UserError, match="cannot be read"):
        read_item_list(str(tmp_path / "none"), NUMBERS)


def test_users_are_of_the_kind_of_the_first():
    numbers, names = UserColumn(), UserColumn()
    assert [numbers.add("f:1", user) for user in (7, "8")] == [7, 8]
    with pytest.raises(UserError, match="f:3: user 'x' is no integer"):
        numbers.add("f:3", "x")
    assert [names.add("f:1", user) for user in ("a", 8)] == ["a", "8"]
    for odd in ("", "a\0", "\ud800"):
        with pytest.raises(UserError, match="f:3: .* is no user id"):
            names.add("f:3", odd)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["user", "items", "times", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)
GOOD = st.fixed_dictionaries(
    {
        "user": st.integers() | st.text(max_size=4),
        "items": st.lists(st.integers() | st.text(max_size=4), max_size=5),
    }
)
LINE = (JSON | GOOD).map(json.dumps)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(LINE, max_size=4), st.binary(max_size=6), st.integers(0, 200))
def test_damaged_lines_are_errors_of_one_line(tmp_path_factory, lines, extra, where):
    path = tmp_path_factory.mktemp("lines") / "given.jsonl"
    content = ('{"user": 1, "items": [7]}\n' + "\n".join(lines)).encode()
    where += len(b'{"user": 1, "items": [7]}\n')
    content = content[:where] + extra + content[where:]
    path.write_bytes(content)
    column = UserColumn()
    try:
        histories = list(read_given_histories(str(path)))
        users = [column.add(place, user) for place, user, _ in histories]
    except UserError as error:
        assert str(path) in str(error) and len(str(error).splitlines()) == 1
        return
    # Every line that is not blank is a history.
    assert len(users) == sum(bool(line.decode().strip()) for line in content.split(b"\n"))
    for _, _, items in histories:
        assert len(ids_like(NUMBERS, items)) == len(ids_like(NAMES, items)) == len(items)
