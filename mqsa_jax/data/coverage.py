"""How much of a data set can be trained on and ranked: positions, targets consumed before.

What is counted here limits every model's result. It is said in warnings and in result files.
"""

import warnings
from typing import Literal

import numpy as np

from mqsa_jax.config import ExcludeSeen
from mqsa_jax.data import splits
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.histories import MIN_ITEMS
from mqsa_jax.data.user_groups import cold_targets
from mqsa_jax.errors import UserError

_MIN_TRAINED = 2
"""Fewest training items that give a training position: an input and its target."""


def num_training_positions(data: Dataset, max_len: int) -> int:
    """Positions of an epoch: pairs of an item and the next one, among the training items."""
    return sum(int(splits.training_inputs(block, max_len).lengths.sum()) for block in data.blocks())


def check_trainable(data: Dataset) -> None:
    """Refuse data without any training position; warn of users without one.

    Raises:
        UserError: no history has two training items, an input and its target.
    """
    untrained, users, by_time = 0, data.num_users, False
    for block in data.blocks():
        trained_U = splits.recent(block, "train", int(block.lengths.max())).lengths
        untrained += int((trained_U < _MIN_TRAINED).sum())
        by_time = block.cuts is not None
    if untrained == users and by_time:
        raise UserError(
            f"nothing to train on: none of the {users} users has {_MIN_TRAINED} items before the "
            "validation cut; choose a later one"
        )
    if untrained == users:
        raise UserError(
            f"nothing to train on: each of the {users} histories has {MIN_ITEMS} items, of "
            f"which two are held out; give histories of {MIN_ITEMS + 1} items or more. If the "
            "lines of the file are single interactions (user item rating timestamp), put the "
            "items of each user on one line, oldest first"
        )
    if untrained:
        reason = "one item or none" if by_time else f"histories of {MIN_ITEMS} items"
        warnings.warn(
            f"{untrained} of {users} users have no training position ({reason}); they are "
            "evaluated all the same",
            UserWarning,
            stacklevel=2,
        )


def consumed_targets(
    data: Dataset,
    split: Literal["valid", "test"],
    policy: ExcludeSeen,
    max_len: int,
    sample: int = 0,
) -> int:
    """Users whose target is among the items that `policy` excludes: misses for every model.

    Users are those of `splits.evaluated_blocks`.
    """
    consumed = 0
    for block in splits.evaluated_blocks(data, split, sample):
        owner_N, source_N = splits.seen(block, split, policy, max_len).flat_index()
        target_U = splits.targets(block, split)
        consumed += np.unique(owner_N[block.items[source_N] == target_U[owner_N]]).size
    return consumed


def untrained_targets(
    data: Dataset, split: Literal["valid", "test"], max_len: int, sample: int = 0
) -> int:
    """Users whose target never occurs among the training items that the model reads.

    Users are those of `splits.evaluated_blocks`.
    """
    return int(cold_targets(data, split, max_len, sample).sum())


def warn_of_consumed_targets(
    data: Dataset, policy: ExcludeSeen, max_len: int, sample: int = 0
) -> None:
    """Warn, with the numbers, if `policy` excludes some targets from the ranking.

    Users are those of `splits.evaluated_blocks`.
    """
    told = []
    for split, name in (("valid", "validation"), ("test", "test")):
        if consumed := consumed_targets(data, split, policy, max_len, sample):
            users = len(splits.evaluated_users(data, split, sample))
            told.append(f"{consumed} of {users} {name} targets")
    if told:
        warnings.warn(
            f"{' and '.join(told)} were consumed before and count as misses "
            f"(exclude_seen={policy})",
            UserWarning,
            stacklevel=2,
        )
