"""Which items of a history train, validate and test.

Leave-one-out: the last item tests, the one before it validates, the rest trains. After a split by
time (`Histories.cuts`): the first item from each cut on is the target, what comes before it is
read, and what comes before the validation cut trains.
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np

from mqsa_jax.config import ExcludeSeen
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.ids import Ids
from mqsa_jax.errors import UserError

Split = Literal["train", "valid", "test"]
SAMPLE_SEED = 0
"""Of the users who are drawn for evaluation: those of all runs and models, whatever their seed."""


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
    kept = _with_target(histories, split)
    if not kept.num_users:
        raise _no_target(split)
    return kept


def evaluated_blocks(
    data: Dataset, split: Literal["valid", "test"], sample: int = 0
) -> Iterator[Histories]:
    """`with_target` of each block of a data set, without blocks in which there are none.

    Args:
      data: in memory or streamed.
      split: what is evaluated.
      sample: users to draw, the same ones every time, of whom those with a target are taken; 0, or
        the number of users or more: all.

    Raises:
      UserError: if there are none in any block.
    """
    found, first = False, 0
    drawn = None
    if 0 < sample < data.num_users:
        rng = np.random.default_rng(SAMPLE_SEED)
        drawn = np.sort(rng.choice(data.num_users, sample, replace=False, shuffle=False))
    for block in data.blocks():
        behind = first + block.num_users
        if drawn is not None:
            begin, end = np.searchsorted(drawn, (first, behind))
            kept_U = np.zeros(block.num_users, bool)
            kept_U[drawn[begin:end] - first] = True
            block = block.of_users(kept_U)
        first = behind
        kept = _with_target(block, split)
        if kept.num_users:
            found = True
            yield kept
    if not found:
        raise _no_target(split)


def evaluated_users(data: Dataset, split: Literal["valid", "test"], sample: int = 0) -> Ids:
    """[U] ids of the users whom a split evaluates; see `evaluated_blocks`."""
    return np.concatenate([block.user_ids for block in evaluated_blocks(data, split, sample)])


def _with_target(histories: Histories, split: Literal["valid", "test"]) -> Histories:
    """The histories of the users whom a split evaluates, who may be none."""
    if histories.cuts is None:
        return histories
    next_cut_U = histories.cuts[:, 1] if split == "valid" else histories.lengths
    begin_U = histories.cuts[:, _CUT[split]]
    kept_U = (begin_U > 0) & (next_cut_U > begin_U)
    return histories if kept_U.all() else histories.of_users(kept_U)


def _no_target(split: str) -> UserError:
    return UserError(f"no user has a {split} target behind the cut; choose other times")


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


def item_counts(data: Dataset, max_len: int) -> np.ndarray:
    """[V] int64 occurrences of each item among the last `max_len` training items of all users."""
    total_V = np.zeros(data.num_items, np.int64)
    for block in data.blocks():
        _, source_N = recent(block, "train", max_len).flat_index()
        total_V += np.bincount(block.items[source_N], minlength=data.num_items)
    return total_V


def target_counts(data: Dataset, max_len: int) -> np.ndarray:
    """[V] int64 training positions whose next item each one is."""
    total_V = np.zeros(data.num_items, np.int64)
    for block in data.blocks():
        _, source_N = training_inputs(block, max_len).flat_index()
        total_V += np.bincount(block.items[source_N + 1], minlength=data.num_items)
    return total_V


def user_counts(data: Dataset, max_len: int) -> np.ndarray:
    """[V] int64 users who have each item among their last `max_len` training items."""
    total_V = np.zeros(data.num_items, np.int64)
    for block in data.blocks():
        owner_N, source_N = recent(block, "train", max_len).flat_index()
        pair_N = np.unique(owner_N * data.num_items + block.items[source_N])
        total_V += np.bincount(pair_N % data.num_items, minlength=data.num_items)
    return total_V
