"""Which items of a history train, validate and test.

Leave-one-out: the last item tests, the one before it validates, the rest trains. After a split by
time (`Histories.cuts`): the first item from each cut on is the target, what comes before it is
read, and what comes before the validation cut trains.
"""

import dataclasses
from typing import Literal

import numpy as np

from mqsa_jax.config import ExcludeSeen
from mqsa_jax.data.histories import Histories
from mqsa_jax.errors import UserError

Split = Literal["train", "valid", "test"]


@dataclasses.dataclass(frozen=True, eq=False)
class Slices:
    """A slice `items[begin:end]` of the flat item array for each of U users."""

    begin: np.ndarray
    """[U] int64."""
    end: np.ndarray
    """[U] int64, not below `begin`."""

    def __getitem__(self, index: np.ndarray | slice | int) -> "Slices":
        return Slices(self.begin[index], self.end[index])

    @property
    def lengths(self) -> np.ndarray:
        """[U] int64 number of items."""
        return self.end - self.begin

    def flat_index(self) -> tuple[np.ndarray, np.ndarray]:
        """[N] the slice that each item belongs to, and [N] its index in the flat item array."""
        lengths = self.lengths.ravel()
        owner = np.repeat(np.arange(lengths.size), lengths)
        start = np.cumsum(lengths) - lengths
        return owner, np.arange(owner.size) - start[owner] + self.begin.ravel()[owner]


_HELD_OUT = {"train": 2, "valid": 2, "test": 1}
"""Items at the end of a history that a split's input must not see."""
_CUT = {"train": 0, "valid": 0, "test": 1}
"""Column of `Histories.cuts` that a split's input must not reach."""


def _ends(histories: Histories, split: Split) -> np.ndarray:
    """int64 [U] index behind the last item of each user that a split may read."""
    if histories.cuts is None:
        return histories.offsets[1:] - _HELD_OUT[split]
    return histories.offsets[:-1] + histories.cuts[:, _CUT[split]]


def with_target(histories: Histories, split: Literal["valid", "test"]) -> Histories:
    """The histories of the users whom a split evaluates: all, or after a split by time those with
    items before the cut and a target behind it.

    Raises:
      UserError: if there are none.
    """
    if histories.cuts is None:
        return histories
    next_cut_U = histories.cuts[:, 1] if split == "valid" else histories.lengths
    begin_U = histories.cuts[:, _CUT[split]]
    kept_U = (begin_U > 0) & (next_cut_U > begin_U)
    if not kept_U.any():
        raise UserError(f"no user has a {split} target behind the cut; choose other times")
    if kept_U.all():
        return histories
    return histories.of_users(kept_U)


def recent(histories: Histories, split: Split, max_len: int) -> Slices:
    """The last `max_len` items that the model may read for a split.

    For training these are inputs and targets together: all but the newest are input, all but the
    oldest are targets. It is also what transitions are counted in.
    """
    end = _ends(histories, split)
    return Slices(np.maximum(histories.offsets[:-1], end - max_len), end)


def training_inputs(histories: Histories, max_len: int) -> Slices:
    """Inputs of training; the target of the item at index n is the item at n + 1."""
    kept = recent(histories, "train", max_len)
    return Slices(kept.begin, np.maximum(kept.end - 1, kept.begin))


def targets(histories: Histories, split: Literal["valid", "test"]) -> np.ndarray:
    """[U] int32 the item that each user's evaluation looks for, of users who have one."""
    return histories.items[_ends(histories, split)]


def seen(
    histories: Histories, split: Literal["valid", "test"], policy: ExcludeSeen, max_len: int
) -> Slices:
    """Items that a user has consumed before the target and that `policy` excludes from the ranking.

    `history` excludes all of them; `window`, as the authors' code does, the last `max_len` of the
    training items and for the test the validation item; `none` nothing.
    The target may be among those excluded.
    """
    end = _ends(histories, split)
    if policy == "none":
        return Slices(end, end)
    if policy == "history":
        return Slices(histories.offsets[:-1], end)
    return Slices(recent(histories, "train", max_len).begin, end)


def item_counts(histories: Histories, max_len: int) -> np.ndarray:
    """[V] int64 occurrences of each item among the last `max_len` training items of all users."""
    _, source_N = recent(histories, "train", max_len).flat_index()
    return np.bincount(histories.items[source_N], minlength=histories.num_items)


def target_counts(histories: Histories, max_len: int) -> np.ndarray:
    """[V] int64 training positions whose next item each one is."""
    _, source_N = training_inputs(histories, max_len).flat_index()
    return np.bincount(histories.items[source_N + 1], minlength=histories.num_items)


def user_counts(histories: Histories, max_len: int) -> np.ndarray:
    """[V] int64 users who have each item among their last `max_len` training items."""
    owner_N, source_N = recent(histories, "train", max_len).flat_index()
    pair_N = np.unique(owner_N * histories.num_items + histories.items[source_N])
    return np.bincount(pair_N % histories.num_items, minlength=histories.num_items)
