"""Tables of what items or users are: a column of ids, and columns of values, read by DuckDB."""

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from mqsa_jax.data.attributes import Column
from mqsa_jax.errors import SettingError, UserError
from mqsa_jax.prepare.columns import KNOWN, guessed_column, shown_names
from mqsa_jax.prepare.input_files import SEPARATORS, Format

if TYPE_CHECKING:
    import duckdb


class Described(NamedTuple):
    """What a file describes, and the settings that name it."""

    owner: Literal["item", "user"]
    """What its ids are of."""
    file: str
    """Setting that names the file."""
    columns: str
    """Setting that names its columns."""

    @property
    def owner_names(self) -> list[str]:
        """Names by which the column of ids is guessed."""
        return KNOWN[self.owner].split()

    def no_column(self, path: str, wanted: str, names: Sequence[str]) -> SettingError:
        """The error for a column that a file of the columns `names` does not have."""
        shown = shown_names(names) or "none"
        return SettingError(f"{{{self.columns}}}: {path} has no column {wanted}, but: {shown}")


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
"""Characters of a type that a message repeats."""


class AttributeTable:
    """A file of rows with a column of ids."""

    names: list[str]
    """Of the columns."""
    owner: str
    """Name of the column of ids."""

    def __init__(
        self,
        connection: "duckdb.DuckDBPyConnection",
        path: str,
        format: Format,
        described: Described,
    ):
        self._connection, self._path, self._format = connection, path, format
        self._described = described
        self.names = self._table().columns
        owner = guessed_column(self.names, described.owner_names)
        if owner is None:
            raise UserError(
                f"{path}: no column looks like the {described.owner}'s among: "
                f"{shown_names(self.names)}"
            )
        self.owner = owner

    def column(self, name: str) -> Column:
        """The values of each owner, each once; or the mean, if they are decimal numbers."""
        table = self._with_text_ids
        kind = self._kind(table, name)
        is_list = kind.endswith("[]")
        kind = kind.removesuffix("[]")
        if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION")):
            raise SettingError(
                f"{self._path}: {name!r} holds {_shortened(kind)}; give values or lists of values, "
                f"or name other columns with {{{self._described.columns}}}"
            )
        value = f"unnest({_name(name)})" if is_list else _name(name)
        if kind.startswith(_NUMBERS):
            return self._means(table, name, value)
        return self._distinct(table, name, _as_text(value, kind), packed=not is_list)

    @functools.cached_property
    def _with_text_ids(self) -> "duckdb.DuckDBPyRelation":
        """The rows with ids as text: `007` is not 7 where ids are text."""
        return self._table(self.owner)

    def text(self, name: str) -> Column:
        """The text of each owner as it stands, be it a number or not."""
        table = self._table(self.owner, name)
        kind = self._kind(table, name)
        if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION")):
            raise UserError(f"{self._path}: {name!r} holds {_shortened(kind)}; give text")
        return self._distinct(table, name, _as_text(_name(name), kind), packed=False)

    def _table(self, *texts: str) -> "duckdb.DuckDBPyRelation":
        """The rows; all of them decide the types, but for columns of text in delimited files."""
        file = _literal(self._path)
        if self._format == "parquet":
            return self._connection.sql(f"FROM read_parquet({file})")
        if self._format == "json":
            return self._connection.sql(
                f"FROM read_json({file}, format = 'newline_delimited', sample_size = -1)"
            )
        separator = _literal(SEPARATORS[self._format])
        types = ", ".join(f"{_name(name)}: 'VARCHAR'" for name in dict.fromkeys(texts))
        given = f", types = {{{types}}}" if types else ""
        return self._connection.sql(
            f"FROM read_csv({file}, header = true, delim = {separator}, sample_size = -1{given})"
        )

    def _kind(self, table: "duckdb.DuckDBPyRelation", name: str) -> str:
        """The type of a column. Raises UserError if that of the ids is of no use."""
        types = dict(zip(table.columns, map(str, table.types), strict=True))
        if types[self.owner] != "VARCHAR" and types[self.owner] not in _INTEGERS:
            raise UserError(
                f"{self._path}: {self.owner!r} holds {_shortened(types[self.owner])}; ids are "
                "integers or strings"
            )
        return types[name]

    def _means(self, table: "duckdb.DuckDBPyRelation", name: str, value: str) -> Column:
        rows = table.query(
            "described",
            f"SELECT owner, avg(value) FROM ({self._pairs(f'{value}::DOUBLE')}) WHERE owner IS NOT "
            "NULL AND value IS NOT NULL AND NOT isnan(value) GROUP BY owner ORDER BY owner",
        ).fetchall()
        values = [finite(self._path, name, mean) for _, mean in rows]
        return Column(name, [owner for owner, _ in rows], values, is_number=True)

    def _distinct(
        self, table: "duckdb.DuckDBPyRelation", name: str, value: str, *, packed: bool
    ) -> Column:
        """Each value once, in the order of the rows; `packed`: a text may hold several."""
        rows = table.query(
            "described",
            f"SELECT owner, value FROM ({self._pairs(value)}) WHERE owner IS NOT NULL AND value IS "
            "NOT NULL AND value <> '' GROUP BY owner, value ORDER BY min(row), value",
        ).fetchall()
        pairs = [
            (owner, part) for owner, text in rows for part in (parts_of(text) if packed else [text])
        ]
        return Column(
            name, [owner for owner, _ in pairs], [part for _, part in pairs], is_number=False
        )

    def _pairs(self, value: str) -> str:
        return (
            f"SELECT {_name(self.owner)} AS owner, {value} AS value, row FROM "
            "(SELECT *, row_number() OVER () AS row FROM described)"
        )


@contextlib.contextmanager
def attribute_table(path: str, format: Format, described: Described) -> Iterator[AttributeTable]:
    """The table of a file; what DuckDB raises becomes a UserError that names the file.

    Raises:
      UserError: if the file cannot be read, or no column holds ids.
    """
    # Imported late: it slows the start.
    import duckdb

    try:
        with duckdb.connect() as connection:
            yield AttributeTable(connection, path, format, described)
    except duckdb.Error as error:
        lines = str(error).splitlines() or ["damaged"]
        raise UserError(f"{path}: cannot be read: {lines[0]}") from None


def parts_of(text: str) -> list[str]:
    """The values that a text holds, which `|` separates.

    >>> parts_of("Action| Sci-Fi |"), parts_of(" ")
    (['Action', 'Sci-Fi'], [])
    """
    return [part for each in text.split("|") if (part := each.strip())]


def finite(path: str, name: str, value: float | int) -> float:
    """A number of a file; raises UserError if it is infinite or too large."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UserError(f"{path}: {name!r} has a number that is too large or infinite")
    return number


def _as_text(value: str, kind: str) -> str:
    """SQL of a value as text; in JSON, which values of several kinds are, text has quotes."""
    return f"({value}) ->> '$'" if kind == "JSON" else f"{value}::VARCHAR"


def _shortened(kind: str) -> str:
    return kind if len(kind) <= _SHOWN else kind[:_SHOWN] + "..."


def _literal(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def _name(name: str) -> str:
    """A column's name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
