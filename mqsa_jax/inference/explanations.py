"""Why an item is recommended: what the model attends to, and what led to the item in training.

Shape legend: U users of a block, K items of a list, A attended items, N transitions, T positions,
V items.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.sparse

from mqsa_jax.inference.evaluation_set import Queries
from mqsa_jax.inference.lists import Lists
from mqsa_jax.inference.ranks import NO_ITEM

NUM_REASONS = 3
"""Attended items of a branch, and transitions, that an explanation names at most."""
BRANCHES = ("short", "long")
LOOKUPS = 1 << 20
"""Transitions that are looked up at a time, at most: bounds the memory."""


@dataclasses.dataclass(frozen=True, eq=False)
class Attention:
    """The history items that a branch attends to most, of U users."""

    items: np.ndarray
    """[U, A] int32, the largest weight first; -1 behind the last."""
    weights: np.ndarray
    """[U, A] float32 attention weights."""


@dataclasses.dataclass(frozen=True, eq=False)
class Origins:
    """The strongest transitions into each recommended item from items of the history."""

    items: np.ndarray
    """[U, K, N] int32 item that the transition starts at, most probable first; -1 behind."""
    counts: np.ndarray
    """[U, K, N] float32 weighted count in training."""
    probabilities: np.ndarray
    """[U, K, N] float32 that count over the sum of all counts from the same item."""


@dataclasses.dataclass(frozen=True, eq=False)
class Explanations:
    """Why each item of U lists is there."""

    attention: dict[str, Attention]
    """By branch; empty for a model without attention."""
    origins: Origins


def largest_attention(weight_UT: np.ndarray, rows: Sequence[np.ndarray]) -> Attention:
    """The history items of largest weight; of equal ones the newer.

    Args:
      weight_UT: [U, T] weights, those of the newest item at T - 1.
      rows: U histories of item indices; an empty one attends to nothing.
    """
    length = weight_UT.shape[1]
    item_UT = np.full(weight_UT.shape, NO_ITEM, np.int32)
    for item_T, row in zip(item_UT, rows, strict=True):
        kept = row[-length:]
        item_T[length - len(kept) :] = kept
    weight_UT = np.where(item_UT == NO_ITEM, -1, weight_UT)[:, ::-1]
    order_UA = np.argsort(-weight_UT, axis=1, kind="stable")[:, :NUM_REASONS]
    weight_UA = np.take_along_axis(weight_UT, order_UA, axis=1)
    item_UA = np.take_along_axis(item_UT[:, ::-1], order_UA, axis=1)
    return Attention(item_UA, np.maximum(weight_UA, 0).astype(np.float32))


class TransitionLookup:
    """Counts of transitions by their pair (i, j)."""

    def __init__(self, transitions: scipy.sparse.csr_array):
        """Takes [V, V] counts in training."""
        matrix = transitions.copy()
        matrix.sum_duplicates()
        self._num_items = matrix.shape[0]
        row_M = np.repeat(np.arange(self._num_items), np.diff(matrix.indptr))
        self._key_M = row_M * self._num_items + matrix.indices
        self._count_M = matrix.data.astype(np.float32)
        self._total_V = matrix.sum(axis=1).astype(np.float32)

    def counts(self, from_N: np.ndarray, to_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Counts and probabilities of pairs; 0 where there is no transition or an index is -1."""
        if not len(self._key_M):
            return np.zeros(from_N.shape, np.float32), np.zeros(from_N.shape, np.float32)
        key_N = from_N * self._num_items + to_N
        entry_N = np.minimum(np.searchsorted(self._key_M, key_N), len(self._key_M) - 1)
        found_N = (self._key_M[entry_N] == key_N) & (from_N >= 0) & (to_N >= 0)
        count_N = np.where(found_N, self._count_M[entry_N], 0)
        return count_N, count_N / np.where(found_N, self._total_V[from_N], 1)


def strongest_origins(
    transitions: TransitionLookup, lists: Lists, rows: Sequence[np.ndarray]
) -> Origins:
    """The most probable transitions from the items of each history into those of its list.

    Args:
      transitions: those of training.
      lists: of U users.
      rows: U histories of item indices, as far as the model reads them, oldest first.
    """
    num_users, k = lists.items.shape
    width = max([1, *map(len, rows)])
    step = max(LOOKUPS // (k * width), 1)
    parts = []
    for begin in range(0, num_users, step):
        some = slice(begin, begin + step)
        from_UT = np.full((len(rows[some]), width), NO_ITEM, np.int64)
        for from_T, row in zip(from_UT, rows[some], strict=True):
            # An item that occurs twice is one reason.
            own = np.unique(row)
            from_T[: len(own)] = own
        parts.append(_origins_of(transitions, from_UT, lists.items[some]))
    shape = (0, k, NUM_REASONS)
    blank = (np.zeros(shape, np.int32), *(np.zeros(shape, np.float32) for _ in range(2)))
    return Origins(*map(np.concatenate, zip(blank, *parts, strict=True)))


def _origins_of(lookup: TransitionLookup, from_UT: np.ndarray, item_UK: np.ndarray) -> tuple:
    """Items, counts and probabilities [U, K, N]."""
    from_UKT, to_UKT = np.broadcast_arrays(from_UT[:, None], item_UK[..., None].astype(np.int64))
    count_UKT, probability_UKT = lookup.counts(from_UKT, to_UKT)
    order_UKN = np.argsort(-probability_UKT, axis=-1, kind="stable")[..., :NUM_REASONS]
    item, count, probability = (
        np.take_along_axis(each, order_UKN, axis=-1)
        for each in (from_UKT, count_UKT, probability_UKT)
    )
    item = np.where(count > 0, item, NO_ITEM)
    behind = ((0, 0), (0, 0), (0, NUM_REASONS - item.shape[-1]))
    return (
        np.pad(item.astype(np.int32), behind, constant_values=NO_ITEM),
        np.pad(count.astype(np.float32), behind),
        np.pad(probability.astype(np.float32), behind),
    )


def rows_read(queries: Queries) -> list[np.ndarray]:
    """The items of each of U histories that the model reads."""
    inputs = queries.inputs
    bounds = zip(inputs.begin.tolist(), inputs.end.tolist(), strict=True)
    return [queries.items[begin:end] for begin, end in bounds]
