"""Histories as a model reads them: packed into rows, side by side."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Int, Int32

from mqsa_jax.pytree import pytree_dataclass


@pytree_dataclass
class Sequences:
    """Histories packed into rows, each contiguous and oldest first."""

    item: Int32[Array, "*B T"]
    """Item index, 0 to V - 1; any valid index at padding."""
    position: Int32[Array, "*B T"]
    """Row of the position table: T - 1 for the newest item of a history."""
    segment_ids: Int32[Array, "*B T"]
    """Number of the history within its batch; -1 at padding."""

    @classmethod
    def of(cls, histories: Sequence[Sequence[int] | np.ndarray], max_len: int) -> "Sequences":
        """One history a row, aligned right, [B, T] NumPy arrays with T = `max_len`.

        Args:
          histories: item indices of each, 0 to V - 1, oldest first; only the last `max_len` are
            read. `LoadedRun.indices` makes them of the ids of the data.
          max_len: T; that of the recommender.

        Raises:
          ValueError: if a history is not a sequence of indices, or `max_len` is below 1.

        Example:
          >>> Sequences.of([[7, 8, 9]], max_len=4).item.tolist()
          [[0, 7, 8, 9]]
        """
        if max_len < 1:
            raise ValueError(f"max_len must be at least 1, got {max_len}")
        item_BT = np.zeros((len(histories), max_len), np.int32)
        segment_ids_BT = np.full(item_BT.shape, -1, np.int32)
        for row, history in enumerate(histories):
            kept = _indices(history)[-max_len:]
            if kept.size:
                item_BT[row, -kept.size :] = kept
                segment_ids_BT[row, -kept.size :] = row
        position_BT = np.broadcast_to(np.arange(max_len, dtype=np.int32), item_BT.shape)
        return cls(item_BT, position_BT, segment_ids_BT)


def position_units(sequences: Sequences) -> Int[Array, "*B T"]:
    """[..., T] a number for each position that does not depend on where it was packed.

    Dropout draws its masks by these numbers (`layers/dropout.py`).
    """
    return sequences.segment_ids * sequences.segment_ids.shape[-1] + sequences.position


def _indices(history: Sequence[int] | np.ndarray) -> np.ndarray:
    """The history as an array; ValueError unless it holds item indices."""
    item_N = np.asarray(history)
    if item_N.ndim != 1:
        raise ValueError(f"a history must be a sequence of item indices, got {history!r}")
    if not item_N.size:
        return item_N.astype(np.int32)
    if not np.issubdtype(item_N.dtype, np.integer):
        raise ValueError(f"item indices must be integers, got {item_N.dtype}")
    if item_N.min() < 0 or item_N.max() > np.iinfo(np.int32).max:
        raise ValueError(f"item indices must be 0 to V - 1, got {item_N.min()} to {item_N.max()}")
    return item_N
