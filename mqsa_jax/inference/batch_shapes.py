"""Few static shapes for batches of any size, so that a server compiles all its programs at start.

Shape legend: B histories of a batch, R rows of T positions that they are packed into.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from mqsa_jax.data.packing import pack
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.data.splits import Slices


class BatchShape(NamedTuple):
    """Sizes that a batch is filled up to."""

    histories: int
    """B."""
    rows: int
    """R."""


SHAPES = (
    BatchShape(1, 1),
    BatchShape(2, 1),
    BatchShape(4, 2),
    BatchShape(8, 2),
    BatchShape(16, 4),
    BatchShape(8, 8),
    BatchShape(32, 8),
    BatchShape(32, 32),
)
"""Ascending in R, which costs most. Short histories share rows, two to four in each."""
MAX_BATCH = SHAPES[-1].histories


def batch_size(num_histories: int) -> int:
    """B of the first shape that holds so many histories.

    Raises:
      ValueError: if there are more than `MAX_BATCH`, or none.
    """
    return _shape(num_histories, 0).histories


def _shape(num_histories: int, num_rows: int) -> BatchShape:
    if num_histories:
        for shape in SHAPES:
            if shape.histories >= num_histories and shape.rows >= num_rows:
                return shape
    raise ValueError(f"a batch has 1 to {MAX_BATCH} histories, got {num_histories}")


def packed_batch(
    rows: Sequence[np.ndarray], max_len: int
) -> tuple[Sequences, Int[np.ndarray, " B"]]:
    """Histories packed into rows [R, T], of one of `SHAPES`.

    Args:
      rows: histories of item indices, oldest first, none of them empty; the last `max_len` items
        are read.
      max_len: T.

    Returns:
      The rows, and [B] the position of each history's newest item in the flat [R, T]; behind the
      last history a position outside.

    Raises:
      ValueError: if there are more than `MAX_BATCH` histories, or none.

    Example:
      >>> rows = [np.array([4, 5]), np.array([6])]
      >>> sequences, last_B = packed_batch(rows, max_len=4)
      >>> sequences.item.tolist(), sequences.position.tolist(), last_B.tolist()
      ([[4, 5, 6, 0]], [[2, 3, 3, 0]], [1, 2])
    """
    batch_size(len(rows))
    kept = [row[-max_len:] for row in rows]
    end_1B = np.cumsum([len(row) for row in kept])[None]
    begin_1B = np.concatenate([[[0]], end_1B[:, :-1]], axis=1)
    packed = pack(Slices(begin_1B, end_1B), np.arange(len(kept))[None], max_len)
    used = packed.segment_ids.shape[1]
    shape = _shape(len(kept), used)
    item_RT = packed.scatter(np.concatenate(kept)[packed.source])[0]
    behind = ((0, shape.rows - used), (0, 0))
    sequences = Sequences(
        np.pad(item_RT, behind),
        np.pad(packed.position[0], behind),
        np.pad(packed.segment_ids[0], behind, constant_values=-1),
    )
    last_B = np.full(shape.histories, shape.rows * max_len, np.int32)
    length_B = (end_1B - begin_1B)[0]
    last_B[: len(kept)] = packed.row[0] * max_len + packed.column[0] + length_B - 1
    return sequences, last_B
