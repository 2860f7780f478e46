"""Where the expressions are computed: what DuckDB and Spark have in common."""

import abc
from collections.abc import Iterator
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from mqsa_jax.prepare.columns import Columns
from mqsa_jax.prepare.input_files import InputFiles

READ_COLUMNS = ("file", "row", "problem")
"""Columns of what was read, beside `user`, `item`, `time` and `rating`."""


class Engine(abc.ABC):
    """Computes Ibis expressions. To be closed, or used as a context."""

    name: str

    @abc.abstractmethod
    def read(self, files: InputFiles, columns: Columns) -> ir.Table:
        """The rows of files: `READ_COLUMNS`, and a column for each role that there is.

        Rows that cannot be read are there too, with their problem. `row` is null where an engine
        does not number the rows.
        """

    @abc.abstractmethod
    def keep(self, name: str, table: ir.Table) -> ir.Table:
        """Computes a table once; it replaces one of that name."""

    @abc.abstractmethod
    def drop(self, name: str) -> None:
        """Lets go of a table."""

    @abc.abstractmethod
    def values(self, table: ir.Table) -> pa.Table:
        """The rows of a small table."""

    @abc.abstractmethod
    def sorted_events(
        self, coded: ir.Table, users: np.ndarray, counts: np.ndarray
    ) -> Iterator[pa.RecordBatch]:
        """`user`, `item`, `time` of all events, ordered by all three, some at a time.

        Args:
          coded: events with codes.
          users: codes that occur, ascending.
          counts: events of each.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Ends what the engine has started, and deletes what it has written."""

    def row(self, table: ir.Table, **values: ir.Scalar) -> dict[str, Any]:
        """Several aggregates of a table, in one pass."""
        return self.values(table.aggregate(**values)).to_pylist()[0]

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
