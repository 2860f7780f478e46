"""Recommended lists as a file: CSV, JSON lines or Parquet, a row an item, written block by block.

Tables are made by Arrow, column by column. A file appears whole under its name, or not at all.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from mqsa_jax.data.ids import Ids, is_text
from mqsa_jax.errors import UserError
from mqsa_jax.inference.explanations import BRANCHES, Attention, Explanations, Origins
from mqsa_jax.inference.list_outputs import file_kind
from mqsa_jax.inference.lists import Lists
from mqsa_jax.inference.ranks import NO_ITEM

Write = Callable[[pa.Table], None]
ROWS_AT_A_TIME = 1 << 18
"""Rows that become text at a time: bounds the memory."""


class ReaderLeft(Exception):
    """Whoever read standard output does not any more, as after `head`."""


def arrow_ids(ids: Ids) -> pa.Array:
    """Ids as an Arrow array of int64 or strings."""
    return pa.array(ids.tolist(), pa.string()) if is_text(ids) else pa.array(ids)


def list_table(
    first: str,
    users: pa.Array,
    lists: Lists,
    item_ids: pa.Array,
    why: Explanations | None = None,
) -> pa.Table:
    """A row for each item of the lists, those of a user in order.

    Args:
      first: name of the first column, for example `user`.
      users: [U] ids.
      lists: of the U users.
      item_ids: [V] ids.
      why: adds columns of reasons.
    """
    listed_UK = lists.items != NO_ITEM
    user_N, rank_N = np.nonzero(listed_UK)
    score_N = lists.scores[listed_UK]
    columns = {
        first: users.take(pa.array(user_N)),
        "rank": pa.array((rank_N + 1).astype(np.int32)),
        "item": item_ids.take(pa.array(lists.items[listed_UK])),
        "score": pa.array(score_N, mask=np.isnan(score_N)),
    }
    if why is not None:
        blank = np.zeros((len(lists.items), 0))
        for branch in BRANCHES:
            attention = why.attention.get(branch, Attention(blank.astype(np.int32), blank))
            columns[f"{branch}_attention"] = _attended(attention, user_N, item_ids)
        columns["transitions"] = _origins(why.origins, user_N, rank_N, item_ids)
    return pa.table(columns)


def _attended(attention: Attention, user_N: np.ndarray, item_ids: pa.Array) -> pa.Array:
    item_NA = attention.items[user_N]
    return _nested(item_NA, {"weight": attention.weights[user_N]}, item_ids)


def _origins(
    origins: Origins, user_N: np.ndarray, rank_N: np.ndarray, item_ids: pa.Array
) -> pa.Array:
    values = {
        "count": origins.counts[user_N, rank_N],
        "probability": origins.probabilities[user_N, rank_N],
    }
    return _nested(origins.items[user_N, rank_N], values, item_ids)


def _nested(item_NA: np.ndarray, values: dict[str, np.ndarray], item_ids: pa.Array) -> pa.Array:
    """[N] lists of structs of an item and its values, without what is behind the last item."""
    kept_NA = item_NA != NO_ITEM
    offsets = np.concatenate([[0], np.cumsum(kept_NA.sum(1))]).astype(np.int32)
    parts = {"item": item_ids.take(pa.array(item_NA[kept_NA].astype(np.int32)))}
    parts |= {
        name: pa.array(value_NA[kept_NA].astype(np.float32)) for name, value_NA in values.items()
    }
    structs = pa.StructArray.from_arrays(list(parts.values()), names=list(parts))
    return pa.ListArray.from_arrays(pa.array(offsets), structs)


@contextlib.contextmanager
def opened_lists(output: str | None) -> Iterator[Write]:
    """A function that appends a table to a file, or to standard output.

    Whatever fails inside, the file is left as it was.
    """
    kind = file_kind(output)
    if output is None:
        with _writer(kind, _Stdout()) as write:
            yield write
        return
    path = Path(output)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(draft, "wb") as file:
            with _writer(kind, file) as write:
                yield write
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        draft.unlink(missing_ok=True)


class _Stdout:
    """Standard output in bytes, where a reader may leave."""

    closed = False

    def write(self, content: bytes) -> int:
        """Writes, and flushes, so that errors come here."""
        try:
            buffer = getattr(sys.stdout, "buffer", None)
            if buffer is None:
                sys.stdout.write(bytes(content).decode())
            else:
                sys.stdout.flush()
                buffer.write(content)
                buffer.flush()
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
            raise ReaderLeft from None
        return len(content)


@contextlib.contextmanager
def _writer(kind: str, file: Any) -> Iterator[Write]:
    if kind == "parquet":
        with contextlib.ExitStack() as stack:
            opened: list[pa.parquet.ParquetWriter] = []

            def write_table(table: pa.Table) -> None:
                if not opened:
                    writer = pa.parquet.ParquetWriter(file, table.schema)
                    opened.append(stack.enter_context(writer))
                opened[0].write_table(table)

            yield write_table
        return
    code = _csv_lines if kind == "csv" else _json_lines
    header = kind == "csv"

    def write(table: pa.Table) -> None:
        nonlocal header
        if header:
            file.write((",".join(table.column_names) + "\n").encode())
            header = False
        for begin in range(0, len(table), ROWS_AT_A_TIME):
            file.write(code(table.slice(begin, ROWS_AT_A_TIME)))

    yield write


def _csv_lines(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pa.csv.write_csv(table, sink, pa.csv.WriteOptions(include_header=False))
    return sink.getvalue().to_pybytes()


def _json_lines(table: pa.Table) -> bytes:
    """A line of JSON a row."""
    if any(pa.types.is_nested(field.type) for field in table.schema):
        rows = (json.dumps(row, ensure_ascii=False) for row in table.to_pylist())
        return "".join(f"{row}\n" for row in rows).encode()
    parts: list = []
    for index, name in enumerate(table.column_names):
        parts.append(("{" if index == 0 else ", ") + json.dumps(name) + ": ")
        parts.append(_json_values(table[name].combine_chunks()))
    lines = pc.binary_join_element_wise(*parts, "}\n", "")
    return "".join(lines.to_pylist()).encode()


def _json_values(values: pa.Array) -> pa.Array:
    """Each value as JSON text."""
    if not pa.types.is_string(values.type):
        return pc.fill_null(values.cast(pa.string()), "null")
    coded = values.dictionary_encode()
    texts = [json.dumps(text, ensure_ascii=False) for text in coded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(coded.indices)
