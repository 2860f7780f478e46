"""Files of what items or users are: JSON, JSON lines, CSV, TSV or Parquet, as columns of values.

Attributes of a model, and titles and attributes that a person sees, are read here alike.
"""

import itertools
import json
import math
import os
from collections.abc import Sequence
from typing import Any, Literal

from mqsa_jax.data.attributes import Column, Id
from mqsa_jax.errors import SettingError, UserError
from mqsa_jax.prepare.attribute_tables import Described, attribute_table, finite, parts_of
from mqsa_jax.prepare.columns import KNOWN, guessed_column
from mqsa_jax.prepare.input_files import Format, check_start, format_of, open_text, readable

Role = Literal["item", "user"]
"""What a file of attributes describes."""
DESCRIBED: dict[Role, Described] = {
    "item": Described("item", "item_attributes", "attribute_columns"),
    "user": Described("user", "user_traits", "trait_columns"),
}
TITLES = Described("item", "item_titles", "title_column")
KNOWN_TITLE = ("title", "name", "item_title", "item_name", "product_title", "product_name")
"""Names by which the column of the titles is guessed, the likeliest first."""
NAMELESS = "attribute"
"""Column of a JSON object whose values have no name."""
_SHOWN = 40
"""Characters of an odd value that a message repeats."""


def read_attribute_file(path: str, role: Role, columns: str | None = None) -> list[Column]:
    """Reads a file of attributes.

    A JSON file is one object `{id: values}`, the values being one, a list of them, or an object of
    such by field; or it has an object a line. That and other files are tables with a column of ids,
    which may occur in many rows: a raw log is one too. Decimal numbers are numbers, of which an
    owner gets the mean; integers, text and truth values name categories. A text that is no entry of
    a list may hold several, with `|` between them. Null, NaN and empty text are missing.

    Args:
      path: of the file.
      role: what it describes.
      columns: names of the columns to read, with commas between; None: all but that of the ids.

    Raises:
      UserError: naming the file, if it cannot be read, its values are of no such kind, or a column
        that is asked for is not there.
    """
    described = DESCRIBED[role]
    wanted = None if columns is None else [name.strip() for name in columns.split(",")]
    format = _checked_format(path, described)
    by_id = _object_by_id(path, format, described)
    if by_id is not None:
        found = _columns_of_object(path, by_id)
        _check_wanted(path, described, [column.name for column in found], wanted or [])
        return [column for column in found if wanted is None or column.name in wanted]
    with attribute_table(path, format, described) as table:
        _check_wanted(path, described, table.names, wanted or [])
        other: Role = "user" if role == "item" else "item"
        if wanted is None and guessed_column(table.names, KNOWN[other].split()) is not None:
            raise SettingError(
                f"{path} has columns of users and items, as a log has: name those that "
                f"describe {role}s with {{{described.columns}}}"
            )
        chosen = wanted or [name for name in table.names if name != table.owner]
        return [table.column(name) for name in chosen]


def read_titles(path: str, column: str | None = None) -> Column:
    """Reads the titles of items, as text that is left whole; of several, each is there.

    Args:
      path: as of `read_attribute_file`; of a JSON object by id, the values may be the titles.
      column: name of the column; None: the first of `KNOWN_TITLE` that there is.

    Raises:
      UserError: as `read_attribute_file`; or if the titles are no text.
    """
    known = KNOWN_TITLE if column is None else (column,)
    format = _checked_format(path, TITLES)
    by_id = _object_by_id(path, format, TITLES)
    if by_id is not None:
        return _titles_of_object(path, by_id, known)
    with attribute_table(path, format, TITLES) as table:
        others = [name for name in table.names if name != table.owner]
        return table.text(_title_name(path, others, known))


def _checked_format(path: str, described: Described) -> Format:
    """The format of a file that is there and not of another encoding."""
    if not os.path.isfile(path):
        raise SettingError(f"{{{described.file}}} {path}: no such file; check the path")
    format = format_of(path)
    if format not in ("json", "csv", "tsv", "parquet"):
        raise UserError(
            f"{path}: no known format; names end with .json, .jsonl, .csv, .tsv or .parquet"
        )
    if format != "parquet":
        check_start(path)
    return format


def _check_wanted(
    path: str, described: Described, names: Sequence[str], wanted: Sequence[str]
) -> None:
    for name in wanted:
        if name not in names:
            raise described.no_column(path, repr(name), names)


def _title_name(path: str, names: Sequence[str], known: Sequence[str]) -> str:
    found = guessed_column(names, known)
    if found is None:
        raise TITLES.no_column(path, " or ".join(known), names)
    return found


def _object_by_id(path: str, format: Format, described: Described) -> dict[str, Any] | None:
    """The object that a JSON file holds by id; None for an object a line, and other formats.

    An object on a single line is one by id unless it names a column of ids.
    """
    if format != "json":
        return None
    try:
        with readable(path), open_text(path, errors="strict") as file:
            lines = (line for line in file if not line.isspace())
            first, second = next(lines, ""), next(lines, None)
            value = _parsed(first)
            if isinstance(value, dict):
                is_row = guessed_column(list(value), described.owner_names) is not None
                if second is not None or is_row:
                    return None
            else:
                value = json.loads("".join(itertools.chain([first, second or ""], lines)))
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; convert it to UTF-8") from None
    except (ValueError, RecursionError) as error:
        problem = str(error) or "nested too deeply"
        raise UserError(f"{path}: not readable as JSON ({problem})") from None
    if not isinstance(value, dict) or not value:
        raise UserError(
            f'{path}: must be one object like {{"17": [3, 5]}}, with an {described.owner} or more, '
            "or an object a line"
        )
    return value


def _parsed(text: str) -> Any:
    """The value of JSON text; None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _fields(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {NAMELESS: value}


def _columns_of_object(path: str, by_id: dict[str, Any]) -> list[Column]:
    """The columns of `{id: values}`."""
    cells: dict[str, list[tuple[Id, Any]]] = {}
    for owner, value in by_id.items():
        for name, values in _fields(value).items():
            column = cells.setdefault(name, [])
            for each in values if isinstance(values, list) else _parts(values):
                if each is None or each == "" or each != each:
                    continue
                if not isinstance(each, str | int | float):
                    raise UserError(f"{path}: {owner!r}: {_shown(each)} is no attribute")
                column.append((owner, each))
    return [_column(path, name, pairs) for name, pairs in cells.items()]


def _parts(value: Any) -> list[Any]:
    return parts_of(value) if isinstance(value, str) else [value]


def _column(path: str, name: str, pairs: list[tuple[Id, Any]]) -> Column:
    """A column of values from JSON, whose kinds must agree."""
    kinds = {type(value) for _, value in pairs}
    if float not in kinds:
        values = [_category(value) for _, value in pairs]
        return Column(name, [owner for owner, _ in pairs], values, is_number=False)
    if kinds - {int, float}:
        raise UserError(f"{path}: {name!r} has decimal numbers and text; give one kind of value")
    numbers: dict[Id, list[float]] = {}
    for owner, value in pairs:
        numbers.setdefault(owner, []).append(finite(path, name, value))
    means = [math.fsum(value / len(each) for value in each) for each in numbers.values()]
    return Column(name, list(numbers), means, is_number=True)


def _titles_of_object(path: str, by_id: dict[str, Any], known: Sequence[str]) -> Column:
    """The titles of `{id: title}`, or a field of `{id: {field: title}}`."""
    rows = {owner: _fields(value) for owner, value in by_id.items()}
    names = list(dict.fromkeys(name for fields in rows.values() for name in fields))
    if NAMELESS in names and len(names) > 1:
        raise UserError(f"{path}: some items have fields and others do not; give one kind")
    is_bare = names == [NAMELESS] and known == KNOWN_TITLE
    name = NAMELESS if is_bare else _title_name(path, names, known)
    titles = {owner: fields[name] for owner, fields in rows.items() if fields.get(name) is not None}
    for owner, title in titles.items():
        if not isinstance(title, str):
            raise SettingError(
                f"{path}: {owner!r}: {_shown(title)} is no title; {{item_attributes}} takes "
                "attributes"
            )
    return Column(name, list(titles), list(titles.values()), is_number=False)


def _category(value: str | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
