"""Files of attributes, and what is wrong with them."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mqsa_jax.errors import UserError
from mqsa_jax.prepare.attribute_files import read_attribute_file


def read(path, content, role="item", columns=None):
    """By column: whether it is one of numbers, and its sorted pairs."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = read_attribute_file(str(path), role, columns)
    pairs = {
        each.name: sorted(zip(each.owners, each.values, strict=True), key=str) for each in found
    }
    return pairs, {each.name for each in found if each.is_number}


def test_json_of_lists(tmp_path):
    pairs, numbers = read(tmp_path / "a.json", '{"4": [1, 2, 2], "7": [], "9": "x", "8": null}')
    assert pairs == {"attribute": [("4", "1"), ("4", "2"), ("4", "2"), ("9", "x")]}
    assert not numbers


def test_json_of_fields_with_missing_values(tmp_path):
    text = """{
      "4": {"brand": "x", "price": 2.5, "new": true},
      "7": {"brand": ["x", "y", ""], "price": [1, 2.0], "new": null},
      "9": {"price": NaN, "brand": []}
    }"""
    pairs, numbers = read(tmp_path / "a.json", text)
    assert pairs["brand"] == [("4", "x"), ("7", "x"), ("7", "y")]
    assert pairs["price"] == [("4", 2.5), ("7", 1.5)] and numbers == {"price"}
    assert pairs["new"] == [("4", "true")]
    chosen, _ = read(tmp_path / "a.json", text, columns="brand, new")
    assert chosen.keys() == {"brand", "new"}


def test_text_may_hold_several_values_but_for_the_entries_of_lists(tmp_path):
    expected = {"genre": [("7", "Action"), ("7", "Sci-Fi"), ("8", "Action")]}
    table = "item,genre\n7,Action| Sci-Fi |\n8,Action\n9,|\n"
    assert read(tmp_path / "a.csv", table) == (expected, set())
    text = '{"7": {"genre": "Action| Sci-Fi |"}, "8": {"genre": "Action"}, "9": {"genre": "|"}}'
    assert read(tmp_path / "a.json", text) == (expected, set())
    lists = '{"item": 7, "tags": ["a|b"], "kind": 5}\n{"item": 8, "tags": ["c"], "kind": "x|y"}\n'
    pairs, _ = read(tmp_path / "a.jsonl", lists)
    assert pairs == {"tags": [(7, "a|b"), (8, "c")], "kind": [(7, "5"), (8, "x"), (8, "y")]}
    assert read(tmp_path / "b.json", '{"7": ["a|b"]}')[0] == {"attribute": [("7", "a|b")]}


def test_a_json_file_has_one_object_by_id_or_an_object_a_line(tmp_path):
    rows = {"one": '{"item": 7, "brand": "x"}', "two": '{"item": 7, "brand": "x"}\n{"item": 8}\n'}
    for name, text in rows.items():
        assert read(tmp_path / f"{name}.json", text)[0] == {"brand": [(7, "x")]}
    pretty = '{\n  "7": "x",\n  "8": "y"\n}\n'
    assert read(tmp_path / "a.jsonl", pretty)[0] == {"attribute": [("7", "x"), ("8", "y")]}


TABLE = "item_id,brand,price,year\n007,x,1.5,2001\n007,y,2.5,2001\n8,,,\n9,z,nan,2002\n"
EXPECTED = {
    "brand": [("007", "x"), ("007", "y"), ("9", "z")],
    "price": [("007", 2.0)],
    "year": [("007", "2001"), ("9", "2002")],
}


def test_csv_with_several_rows_an_item(tmp_path):
    assert read(tmp_path / "a.csv", TABLE) == (EXPECTED, {"price"})
    assert read(tmp_path / "a.tsv", TABLE.replace(",", "\t")) == (EXPECTED, {"price"})
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(TABLE.encode()))
    assert read(tmp_path / "b.csv.gz", None) == (EXPECTED, {"price"})


def test_parquet_and_json_lines_with_lists(tmp_path):
    table = pa.table(
        {
            "item": [7, 8, 7],
            "tags": [["a", "b"], None, ["a"]],
            "sizes": [[1.0, 2.0], [], [6.0]],
            "o'clock": [1, 2, None],
        }
    )
    pq.write_table(table, tmp_path / "it's.parquet")
    expected = {
        "tags": [(7, "a"), (7, "b")],
        "sizes": [(7, 3.0)],
        "o'clock": [(7, "1"), (8, "2")],
    }
    assert read(tmp_path / "it's.parquet", None) == (expected, {"sizes"})
    lines = '{"item": 7, "tags": ["a"], "price": 1.5}\n{"item": 8, "tags": null}\n'
    pairs, numbers = read(tmp_path / "a.jsonl", lines)
    assert pairs == {"tags": [(7, "a")], "price": [(7, 1.5)]} and numbers == {"price"}


def test_columns_of_a_log(tmp_path):
    log = "user,item,time,brand\n1,5,10,x\n2,5,20,x\n2,6,30,y\n"
    pairs, _ = read(tmp_path / "log.csv", log, columns="brand")
    assert pairs == {"brand": [("5", "x"), ("6", "y")]}
    with pytest.raises(UserError, match=r"name those that describe users with trait_columns"):
        read(tmp_path / "log.csv", log, role="user")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '{"1": ', r"a\.json: not readable as JSON \("),
        ("a.json", "[" * 100_000, r"a\.json: not readable as JSON \("),
        ("a.json", "[1]", r"a\.json: must be one object"),
        ("a.json", "{}", r"a\.json: must be one object"),
        ("a.json", '{"1": [[2]]}', r"'1': \[2\] is no attribute"),
        ("a.json", '{"1": {"price": {"a": 1}}}', r"'1': \{\"a\": 1\} is no attribute"),
        ("a.json", '{"1": [1.5, "x"]}', "'attribute' has decimal numbers and text"),
        ("a.json", '{"1": [1e999]}', "'attribute' has a number that is too large or infinite"),
        ("a.json", '{"1": [1.5, %s]}' % ("9" * 400), "too large or infinite"),
        ("a.csv", "a,b\n1,2\n", r"a\.csv: no column looks like the item's among: 'a', 'b'"),
        ("a.csv", "", r"a\.csv: "),
        ("a.parquet", "nothing", r"a\.parquet: cannot be read: "),
        ("a.jsonl", '{"item": 7, "tags": {"a": 1}}\n', "'tags' holds STRUCT.* attribute_columns"),
        ("a.csv", b"\xff\xfei\0", r"a\.csv: not UTF-8 text"),
        ("a.jsonl", '{"item": 7.5, "tags": "x"}\n', "'item' holds DOUBLE; ids are integers"),
        ("a.csv.gz", "item,a\n", r"a\.csv\.gz: "),
        ("a.txt", "1 2\n", r"a\.txt: no known format"),
    ],
)
def test_what_is_no_file_of_attributes_is_told_in_one_line(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / name, content)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 + len(str(tmp_path))


def test_missing_files_and_columns_are_named(tmp_path):
    with pytest.raises(UserError, match=r"item_attributes .*none\.json: no such file"):
        read_attribute_file(str(tmp_path / "none.json"), "item")
    for name, text in (("a.json", '{"1": {"brand": "x"}}'), ("a.csv", "item,brand\n1,x\n")):
        with pytest.raises(UserError, match=r"attribute_columns: .* has no column 'brnd', but"):
            read(tmp_path / name, text, columns="brand,brnd")
