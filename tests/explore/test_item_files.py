"""Titles and attributes from files of every kind, and what is refused."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from mqsa_jax.data.attributes import encode
from mqsa_jax.data.ids import STRING
from mqsa_jax.errors import UserError
from mqsa_jax.explore.attributes import NONE, OTHER, Categories, Numbers, read_attributes
from mqsa_jax.explore.catalogue import Catalogue, titles_of
from mqsa_jax.prepare.attribute_files import read_attribute_file

NUMBERS = np.array([5, 17, 30])
TITLES = ["Drum, small", "", 'The "Kite"']
ROWS = [("17", ""), ("5", "Drum,  small"), ("30", 'The "Kite"'), ("99", "Gone")]


def write(path):
    """The titles as a file of the kind that its name says."""
    ids, titles = ([row[at] for row in ROWS] for at in (0, 1))
    if path.suffix == ".parquet":
        table = {"price": [1.0] * 4, "parent_asin": list(map(int, ids)), "Title": titles}
        pyarrow.parquet.write_table(pa.table(table), path)
        return path
    separator = "\t" if path.suffix == ".tsv" else ","
    quoted = ['"' + title.replace('"', '""') + '"' for title in titles]
    lines = [separator.join(row) for row in zip(ids, quoted, strict=True)]
    texts = {
        ".csv": "\n".join([f"item_id{separator}title", *lines]),
        ".tsv": "\n".join([f"item_id{separator}title", *lines]),
        ".jsonl": "\n".join(json.dumps({"asin": i, "title": t, "x": [1]}) for i, t in ROWS),
        ".json": json.dumps(dict(ROWS)),
    }
    path.write_text(texts[path.suffix])
    return path


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_titles_come_from_every_kind_of_file(tmp_path, ending):
    path = write(tmp_path / f"items{ending}")
    assert titles_of(str(path), None, NUMBERS) == (TITLES, 1)


def test_packed_files_pretty_json_and_ids_that_are_strings(tmp_path):
    packed = tmp_path / "items.csv.gz"
    packed.write_bytes(gzip.compress(b"ItemID,name\nB01,One\nA9,Two\n"))
    names = np.array(["A9", "B01", "C"], STRING)
    assert titles_of(str(packed), None, names) == (["Two", "One", ""], 0)
    pretty = tmp_path / "pretty.json"
    pretty.write_text(json.dumps({"B01": "One"}, indent=2))
    assert titles_of(str(pretty), None, names) == (["", "One", ""], 0)


def test_an_item_has_the_first_of_several_titles(tmp_path):
    path = tmp_path / "titles.csv"
    path.write_text("item,title\n5,Zebra\n17,Kite\n5,Apple\n17,Ball\n")
    assert titles_of(str(path), None, NUMBERS) == (["Zebra", "Kite", ""], 0)


def test_titles_stay_whole_and_are_text_whatever_they_look_like(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item,title\n5,Face|Off\n17,007\n30,1.50\n")
    assert titles_of(str(path), None, NUMBERS) == (["Face|Off", "007", "1.50"], 0)
    # Numbers and text in one column.
    lines = tmp_path / "items.json"
    lines.write_text('{"item": 5, "title": 1984}\n{"item": 17, "title": "Dune"}\n')
    assert titles_of(str(lines), None, NUMBERS) == (["1984", "Dune", ""], 0)
    fields = tmp_path / "fields.json"
    fields.write_text(json.dumps({"17": {"brand": "x", "Title": "Kite|Red"}, "5": {}}))
    assert titles_of(str(fields), None, NUMBERS) == (["", "Kite|Red", ""], 0)


def test_a_named_column_wins(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item,title,german\n5,Drum,Trommel\n")
    assert titles_of(str(path), "german", NUMBERS) == (["Trommel", "", ""], 0)


@pytest.mark.parametrize(
    "name, content, column, message",
    [
        ("a.csv", "item,brand\n5,x\n", None, "has no column title or name or .*, but: 'brand'"),
        ("a.csv", "item,title\n5,x\n", "german", "has no column german, but: 'title'"),
        ("a.csv", "title,brand\nx,y\n", None, "no column looks like the item's among: 'title'"),
        ("a.json", '{"5": "Drum"}', "german", "has no column german, but: 'attribute'"),
        ("a.json", '{"5": "Drum", "17": {"title": "x"}}', None, "some items have fields and other"),
        ("a.csv", "item,title\n6,x\n7,y\n", None, "none of its 2 items is in the run's data"),
        ("a.csv", "item,title\n", None, "none of its 0 items"),
        ("a.json", '{"5": ["x"]}', None, r"'5': \[\"x\"\] is no title; item_attributes takes"),
        ("a.json", '{"5": {"brand": "x"}}', None, "has no column title or .*, but: 'brand'"),
        ("a.jsonl", '{"item": 5, "title": ["x"]}', None, r"'title' holds VARCHAR\[\]; give text"),
        ("a.json", "[1, 2]", None, "must be one object like .* or an object a line"),
        ("a.json", "{", None, "not readable as JSON"),
        ("a.json", b"\xff\xfe{", None, "not UTF-8 text"),
        ("a.txt", "5 x", None, "no known format; names end with .json"),
        ("a.parquet", "no parquet", None, "cannot be read"),
    ],
)
def test_files_of_no_use_are_refused_in_a_line(tmp_path, name, content, column, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        titles_of(str(path), column, NUMBERS)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_search_finds_all_words_the_id_first_then_beginnings_then_the_frequent():
    titles = ["Red kite", "Kite red 30", "A red kite", "Drum"]
    catalogue = Catalogue(np.array([5, 17, 30, 305]), titles, np.array([1, 2, 9, 4]))
    assert catalogue.search("KITE red", 9) == [1, 2, 0]  # 1 begins with it; then counts 9, 1
    assert catalogue.search("red k", 9) == [0, 2, 1]  # begins with it: 0
    assert catalogue.search("30", 9) == [2, 3, 1]  # the id 30, then 305, then the title
    assert catalogue.search("", 2) == [2, 3]
    assert catalogue.search("plane", 9) == []
    assert catalogue.item(2) == {"index": 2, "id": "30", "title": "A red kite", "count": 9}


def test_json_attributes_are_categories_and_the_rarest_colours(tmp_path):
    path = tmp_path / "attributes.json"
    path.write_text(json.dumps({"5": [1, 2], "17": [1], "30": [], "44": [1]}))
    found, unknown = read_attributes(str(path), None, NUMBERS)
    (attribute,) = found.values()
    assert unknown == 1 and isinstance(attribute, Categories)
    assert attribute.names == ["1", "2"] and attribute.members(0).tolist() == [0, 1]
    assert attribute.colours(3) == {
        "kind": "categories",
        "values": [{"name": "1", "count": 2, "value": 0}, {"name": "2", "count": 1, "value": 1}],
        "colour": [1, 0, NONE],
    }
    assert attribute.search("2", 9) == [{"name": "2", "count": 1, "value": 1}]


def test_values_beyond_the_colours_are_other(tmp_path):
    ids = np.arange(20)
    path = tmp_path / "items.csv"
    lines = [f"{item},{'x|' if item < 18 else ''}v{item:02d}" for item in ids]
    path.write_text("\n".join(["item,genre", *lines]))
    found, _ = read_attributes(str(path), None, ids)
    colours = found["genre"].colours(20)
    # x is the most frequent; then the values that occur once, by name, seven of which fit.
    assert [value["name"] for value in colours["values"]] == ["x", *(f"v0{i}" for i in range(7))]
    assert colours["colour"] == [*range(1, 8), *[0] * 11, OTHER, OTHER]


def test_many_numbers_are_a_scale_of_ranks_and_few_are_categories(tmp_path):
    ids = np.arange(14)
    path = tmp_path / "items.csv"
    price = [*range(1, 13), 1000, ""]
    path.write_text("\n".join(["item,price,stars", *(f"{i},{price[i]},{i % 3}" for i in ids)]))
    found, _ = read_attributes(str(path), None, ids)
    assert isinstance(found["stars"], Categories) and isinstance(found["price"], Numbers)
    colours = found["price"].colours(14)
    assert (colours["low"], colours["middle"], colours["high"]) == (1, 7, 1000)
    # 13 numbers: the smallest has half of itself below, the largest 12 and a half.
    assert colours["share"][0] == round(0.5 / 13, 3)
    assert colours["share"][12:] == [round(12.5 / 13, 3), -1]


def test_the_map_has_the_attributes_of_the_model(tmp_path):
    """Values and owners are those of `encode`, which makes the attributes of a model."""
    path = tmp_path / "items.csv"
    path.write_text("item,genre,brand\n5,Action|Sci-Fi,x\n17, Sci-Fi |Drama,x\n30,Action,y\n9,z,\n")
    found, unknown = read_attributes(str(path), "genre", NUMBERS)
    encoded = encode(read_attribute_file(str(path), "item", "genre"), NUMBERS, np.ones(3), 10, 0.5)
    assert unknown == encoded.num_unknown == 1 and found.keys() == {"genre"}
    lists = encoded.attributes
    of_model = {
        name: [row for row in range(3) if a in lists.of_rows(np.array([row])).attribute]
        for a, name in enumerate(lists.names)
    }
    # Drama is of one item alone, which tells a model nothing.
    assert of_model == {"genre = Action": [0, 2], "genre = Sci-Fi": [0, 1]}
    genres = found["genre"]
    assert {name: genres.members(i).tolist() for i, name in enumerate(genres.names)} == {
        "Action": [0, 2],
        "Sci-Fi": [0, 1],
        "Drama": [1],
    }


def test_decimal_numbers_are_a_scale_of_means_or_a_few_categories(tmp_path):
    ids = np.arange(13)
    path = tmp_path / "items.csv"
    rows = [f"{item},{item / 2 + 0.25},{item % 2 + 0.5}" for item in ids]
    path.write_text("\n".join(["item,price,size", *rows, "0,1.25,0.5"]))
    found, _ = read_attributes(str(path), None, ids)
    # Item 0 has the mean of 0.25 and 1.25.
    assert found["price"].number_V.tolist() == [0.75, *(item / 2 + 0.25 for item in range(1, 13))]
    assert found["size"].names == ["0.5", "1.5"]
