"""Files of what items or users are: JSON, JSON lines, CSV, TSV or Parquet, as columns of values."""

import gzip
import json
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from mqsa_jax.data.attributes import Column, Id
from mqsa_jax.errors import SettingError, UserError
from mqsa_jax.prepare.columns import KNOWN, guessed_column
from mqsa_jax.prepare.input_files import SEPARATORS, format_of, open_text, readable

if TYPE_CHECKING:
    import duckdb

Role = Literal["item", "user"]
"""What a file describes."""
SETTINGS: dict[Role, tuple[str, str]] = {
    "item": ("item_attributes", "attribute_columns"),
    "user": ("user_traits", "trait_columns"),
}
"""Settings that name the file, and its columns."""
_NUMBERS = ("FLOAT", "DOUBLE", "DECIMAL")
_INTEGERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
)
_SHOWN = 40
"""Characters of an odd value that a message repeats."""


def read_attribute_file(path: str, role: Role, columns: str | None = None) -> list[Column]:
    """Reads a file of attributes.

    A `.json` file is one object `{id: values}`, the values being one, a list of them, or an object
    of such by field. Other files are tables with a column of ids, which may occur in many rows: a
    raw log is one too. Decimal numbers are numbers, of which an owner gets the mean; integers, text
    and truth values name categories. Null, NaN and empty text are missing.

    Args:
      path: of the file.
      role: what it describes.
      columns: names of the columns to read, with commas between; None: all but that of the ids.

    Raises:
      UserError: naming the file, if it cannot be read, its values are of no such kind, or a column
        that is asked for is not there.
    """
    if not os.path.isfile(path):
        raise SettingError(f"{{{SETTINGS[role][0]}}} {path}: no such file; check the path")
    format = format_of(path)
    if format not in ("json", "csv", "tsv", "parquet"):
        raise UserError(
            f"{path}: no known format; names end with .json, .jsonl, .csv, .tsv or .parquet"
        )
    wanted = None if columns is None else [name.strip() for name in columns.split(",")]
    if path.lower().removesuffix(".gz").endswith(".json"):
        found = _columns_of_object(path, _read_object(path))
        names = [column.name for column in found]
        _check_wanted(path, role, names, wanted or [])
        return [column for column in found if wanted is None or column.name in wanted]
    return _read_table(path, format, role, wanted)


def _check_wanted(path: str, role: Role, names: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in names:
            shown = ", ".join(map(repr, names[:20])) or "none"
            raise SettingError(
                f"{{{SETTINGS[role][1]}}}: {path} has no column {name!r}, but: {shown}"
            )


def _read_object(path: str) -> dict[str, Any]:
    try:
        with readable(path), open_text(path) as file:
            value = json.load(file)
    except (ValueError, RecursionError) as error:
        problem = str(error) or "nested too deeply"
        raise UserError(f"{path}: not readable as JSON ({problem})") from None
    if not isinstance(value, dict) or not value:
        raise UserError(f'{path}: must be one object like {{"17": [3, 5]}}, with an item or more')
    return value


def _columns_of_object(path: str, described: dict[str, Any]) -> list[Column]:
    """The columns of `{id: values}`; the one of values without a name is ``attribute``."""
    cells: dict[str, list[tuple[Id, Any]]] = {}
    for owner, value in described.items():
        fields = value if isinstance(value, dict) else {"attribute": value}
        for name, values in fields.items():
            column = cells.setdefault(name, [])
            for each in values if isinstance(values, list) else [values]:
                if each is None or each == "" or each != each:
                    continue
                if not isinstance(each, str | int | float):
                    raise UserError(f"{path}: {owner!r}: {_shown(each)} is no attribute")
                column.append((owner, each))
    return [_column(path, name, pairs) for name, pairs in cells.items()]


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
        numbers.setdefault(owner, []).append(_finite(path, name, value))
    means = [math.fsum(value / len(each) for value in each) for each in numbers.values()]
    return Column(name, list(numbers), means, is_number=True)


def _category(value: str | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _finite(path: str, name: str, value: float | int) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UserError(f"{path}: {name!r} has a number that is too large or infinite")
    return number


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _read_table(path: str, format: str, role: Role, wanted: list[str] | None) -> list[Column]:
    # Imported late: it slows the start.
    import duckdb

    try:
        with readable(path), duckdb.connect() as connection:
            table = _opened(connection, path, format)
            names = table.columns
            owner = guessed_column(names, KNOWN[role].split())
            if owner is None:
                shown = ", ".join(map(repr, names[:20]))
                raise UserError(f"{path}: no column looks like the {role}'s among: {shown}")
            _check_wanted(path, role, names, wanted or [])
            other: Role = "user" if role == "item" else "item"
            if wanted is None and guessed_column(names, KNOWN[other].split()) is not None:
                raise SettingError(
                    f"{path} has columns of users and items, as a log has: name those that "
                    f"describe {role}s with {{{SETTINGS[role][1]}}}"
                )
            if format in ("csv", "tsv"):
                # As text: `007` is not 7 where ids are text.
                table = _opened(connection, path, format, text=owner)
            chosen = wanted or [name for name in names if name != owner]
            return [_table_column(connection, table, path, owner, name) for name in chosen]
    except (duckdb.Error, gzip.BadGzipFile) as error:
        lines = str(error).splitlines() or ["damaged"]
        raise UserError(f"{path}: cannot be read: {lines[0]}") from None


def _opened(
    connection: "duckdb.DuckDBPyConnection", path: str, format: str, text: str | None = None
) -> "duckdb.DuckDBPyRelation":
    """The table of a file, whose types all rows decide; `text`: a column of text."""
    file = _literal(path)
    if format == "parquet":
        return connection.sql(f"FROM read_parquet({file})")
    if format == "json":
        return connection.sql(
            f"FROM read_json({file}, format = 'newline_delimited', sample_size = -1)"
        )
    separator = _literal(SEPARATORS[format])
    types = "" if text is None else f", types = {{{_name(text)}: 'VARCHAR'}}"
    return connection.sql(
        f"FROM read_csv({file}, header = true, delim = {separator}, sample_size = -1{types})"
    )


def _table_column(
    connection: "duckdb.DuckDBPyConnection",
    table: "duckdb.DuckDBPyRelation",
    path: str,
    owner: str,
    name: str,
) -> Column:
    """A column of a table: the distinct values, or the mean number, of each owner."""
    types = dict(zip(table.columns, map(str, table.types), strict=True))
    if types[owner] != "VARCHAR" and types[owner] not in _INTEGERS:
        raise UserError(f"{path}: {owner!r} holds {types[owner]}; ids are integers or strings")
    kind, value = types[name], _name(name)
    if kind.endswith("[]"):
        kind, value = kind.removesuffix("[]"), f"unnest({value})"
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION")):
        raise UserError(f"{path}: {name!r} holds {types[name]}; give values or lists of values")
    pairs = table.query(
        "described", f"SELECT {_name(owner)} AS owner, {value} AS value FROM described"
    )
    if kind.startswith(_NUMBERS):
        means = pairs.query(
            "pairs",
            "SELECT owner, avg(value::DOUBLE) FROM pairs WHERE owner IS NOT NULL AND value IS NOT "
            "NULL AND NOT isnan(value::DOUBLE) GROUP BY owner ORDER BY owner",
        ).fetchall()
        values = [_finite(path, name, mean) for _, mean in means]
        return Column(name, [owner for owner, _ in means], values, is_number=True)
    found = pairs.query(
        "pairs",
        "SELECT DISTINCT owner, value::VARCHAR FROM pairs WHERE owner IS NOT NULL AND value IS NOT "
        "NULL AND value::VARCHAR <> '' ORDER BY ALL",
    ).fetchall()
    return Column(
        name, [owner for owner, _ in found], [value for _, value in found], is_number=False
    )


def _literal(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def _name(name: str) -> str:
    """A column's name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
