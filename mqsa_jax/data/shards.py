"""Row groups of a prepared data set's Parquet shards: read one by one, known to be whole.

A row group is what can be read at random. Shape legend: U users of a row group.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mqsa_jax.data.histories import MIN_ITEMS, Histories
from mqsa_jax.data.ids import Ids
from mqsa_jax.data.prepared import HISTORIES, check_file, shard_columns
from mqsa_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class RowGroup:
    """One row group of a shard."""

    path: Path
    stamp: tuple[int, int]
    """Bytes of the shard and time of its last change, when its checksum was verified."""
    index: int
    """Of the row group in its shard."""
    num_rows: int
    """Users, those too short to be split included."""
    first_row: int
    """Index of its first user in the data set."""

    def read(self, ids: Ids | None, item_ids: Ids) -> tuple[Histories, np.ndarray]:
        """The histories that can be split, and bool [U] which of the row group's users they are.

        Args:
          ids: the users' ids by index in the data set; None: the indices stand for them.
          item_ids: the vocabulary.

        Raises:
          UserError: naming the shard, if it is damaged, or has changed since it was verified.
        """
        import pyarrow.parquet as pq

        with readable(self.path):
            if _stamp(self.path) != self.stamp:
                raise UserError(
                    f"{self.path}: has changed while it is in use; prepare the data set again"
                )
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                names = [name for name in file.schema_arrow.names if name not in ("user", "times")]
                table = file.read_row_group(self.index, columns=names, use_threads=False)
            columns = shard_columns(table)
        item_N, length_U = columns["items"], columns["lengths"]
        if item_N.size and not (item_N.min() >= 0 and item_N.max() < len(item_ids)):
            raise UserError(
                f"{self.path}: damaged (an item outside the vocabulary); prepare the data set again"
            )
        cuts = None
        if "before_valid" in columns:
            cuts = np.stack([columns["before_valid"], columns["before_test"]], 1).astype(np.int64)
        rows = slice(self.first_row, self.first_row + self.num_rows)
        user_ids = np.arange(rows.start, rows.stop) if ids is None else ids[rows]
        histories = Histories(item_N, np.append(0, np.cumsum(length_U)), user_ids, item_ids, cuts)
        kept_U = length_U >= (MIN_ITEMS if cuts is None else 0)
        return (histories if kept_U.all() else histories.of_users(kept_U)), kept_U


def verified_groups(folder: Path, files: dict[str, str]) -> Iterator[RowGroup]:
    """All row groups of a folder, in the order of the users; each shard is verified on the way.

    Args:
      folder: of the data set.
      files: SHA-256 of each of its files, by name.

    Raises:
      UserError: naming the file that is missing, damaged or changed.
    """
    import pyarrow.parquet as pq

    first_row = 0
    for name in sorted(name for name in files if name.startswith(f"{HISTORIES}/")):
        path = folder / name
        with readable(path):
            stamp = _stamp(path)
            check_file(path, files[name])
            with pq.ParquetFile(path) as file:
                sizes = [
                    file.metadata.row_group(index).num_rows
                    for index in range(file.metadata.num_row_groups)
                ]
        for index, num_rows in enumerate(sizes):
            if num_rows:
                yield RowGroup(path, stamp, index, num_rows, first_row)
            first_row += num_rows


@contextlib.contextmanager
def readable(path: Path) -> Iterator[Any]:
    """Turns what reading a shard may raise into a UserError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: missing; prepare the data set again") from None
    # Arrow's errors are ValueErrors, OSErrors and others, depending on which byte is damaged.
    except (OSError, ValueError, LookupError, ArithmeticError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: damaged ({reason}); prepare the data set again") from None


def _stamp(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
