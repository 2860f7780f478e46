"""What a file tells of the items, row by row: titles and attributes, found by the items' ids.

A file is CSV, TSV, Parquet or JSON lines with a column of item ids; or one JSON object whose keys
are the ids, as S3-Rec's files of attributes are.

Shape legend: V items of the run, N rows of a file that belong to them.
"""

import contextlib
import dataclasses
import gzip
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import duckdb
import numpy as np

from mqsa_jax.data.ids import Ids, Lookup, ids_like
from mqsa_jax.errors import UserError
from mqsa_jax.prepare.columns import KNOWN, guessed_column, shown_names
from mqsa_jax.prepare.input_files import format_of

KNOWN_ITEM = KNOWN["item"].split()
"""Names by which the column of the items is guessed."""
VALUE = "value"
"""Name of the one column of a JSON object by id."""
_READERS = {
    "csv": "read_csv(?, all_varchar=true, delim=',', header=true)",
    "tsv": "read_csv(?, all_varchar=true, delim='\t', header=true)",
    "json": "read_json(?, format='newline_delimited', maximum_depth=2)",
    "parquet": "read_parquet(?)",
}


@dataclasses.dataclass(frozen=True, eq=False)
class ItemRows:
    """The rows of a file that are of items of the run."""

    path: str
    index_N: np.ndarray
    """[N] int32 item index."""
    columns: Mapping[str, Sequence[Any]]
    """By name, N values each; without the column of the ids."""
    unknown: int
    """Rows of other items."""


def read_item_rows(path: str, item_ids: Ids, columns: Sequence[str] | None = None) -> ItemRows:
    """The rows of a file that are of a run's items.

    Args:
      path: of the file.
      item_ids: [V] vocabulary of the run.
      columns: likely names of the one column that is wanted, the likeliest first, of which one must
        be there; None: all columns.

    Raises:
      UserError: naming the file, if it cannot be read, has no column of item ids or none of the
        wanted columns, or knows no item of the run.
    """
    by_id = _read_by_id(path)
    if by_id is not None:
        ids, values = list(by_id), {VALUE: list(by_id.values())}
    else:
        ids, values = _read_columns(path, columns)
    # Whatever is no integer is compared as text: a number that is none stands for no item.
    ids = [each if type(each) in (int, str) else "" if each is None else str(each) for each in ids]
    index_N = Lookup(item_ids).indices(ids_like(item_ids, ids)) if ids else np.zeros(0, np.int32)
    known_N = index_N >= 0
    if not known_N.any():
        raise UserError(f"{path}: none of its {len(ids)} items is in the run's data: other ids?")
    kept = {
        name: [value for value, known in zip(column, known_N, strict=True) if known]
        for name, column in values.items()
    }
    return ItemRows(path, index_N[known_N], kept, int((~known_N).sum()))


def _read_columns(path: str, wanted: Sequence[str] | None) -> tuple[list, dict[str, list]]:
    """Ids, and values by column."""
    kind = format_of(path)
    if kind not in _READERS:
        raise UserError(f"{path}: the name must end with .csv, .tsv, .json, .jsonl or .parquet")
    reader = _READERS[kind]
    try:
        with duckdb.connect() as base:
            described = base.execute(f"DESCRIBE SELECT * FROM {reader}", [path]).fetchall()
            names = [name for name, *_ in described]
            item = guessed_column(names, KNOWN_ITEM)
            if item is None:
                raise UserError(
                    f"{path}: no column looks like the item's among {shown_names(names)}"
                )
            others = [name for name in names if name != item]
            if wanted is not None:
                found = guessed_column(others, wanted)
                if found is None:
                    raise UserError(
                        f"{path}: has no column {' or '.join(wanted)}; it has {shown_names(names)}"
                    )
                others = [found]
            chosen = ", ".join(map(_quoted, [item, *others]))
            rows = base.execute(f"SELECT {chosen} FROM {reader}", [path]).fetchall()
    except duckdb.Error as error:
        raise UserError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    ids, *columns = map(list, zip(*rows, strict=True)) if rows else [[] for _ in [item, *others]]
    return ids, dict(zip(others, columns, strict=True))


def _read_by_id(path: str) -> dict[str, Any] | None:
    """The object of a JSON file whose keys are ids; None for JSON lines and other formats.

    A file of one line is an object by id unless it names a column of items.
    """
    if format_of(path) != "json":
        return None
    with _opened(path) as file:
        lines = (line for line in file if not line.isspace())
        first, second = next(lines, ""), next(lines, None)
        value = _parsed(first)
        if isinstance(value, dict) and (
            second is not None or guessed_column(list(value), KNOWN_ITEM)
        ):
            return None
        if second is not None:
            value = _parsed("".join(itertools.chain([first, second], lines)))
    if not isinstance(value, dict):
        raise UserError(f"{path}: neither one JSON object by item id nor an object a line")
    return value


@contextlib.contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    try:
        opener = gzip.open if path.lower().endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8-sig") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    except (OSError, EOFError) as error:
        raise UserError(f"{path}: cannot be read: {error}; check the file") from None


def _parsed(text: str) -> Any:
    """The value of JSON text; None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
