"""Lists with the ids of the data, as plain Python values."""

import dataclasses
from typing import Any

import numpy as np

from mqsa_jax.data.ids import Ids
from mqsa_jax.inference.explanations import BRANCHES, Attention, Explanations
from mqsa_jax.inference.lists import Lists
from mqsa_jax.inference.ranks import NO_ITEM

Scored = tuple[int | str, float | None]
"""Id of an item and its score, or an attended item and its weight."""


@dataclasses.dataclass(frozen=True)
class Transition:
    """A transition of the training data into a recommended item."""

    item: int | str
    """Id of the history's item where it starts."""
    count: float
    """Weighted count in training."""
    probability: float
    """The count over the sum of the counts of all transitions from that item."""


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """An item of a list, and why it is there."""

    item: int | str
    """Id of the item."""
    score: float | None
    """None for popular items, recommended where nothing of the history is known."""
    short_attention: tuple[Scored, ...]
    """History items of largest attention weight in the short branch; empty without attention."""
    long_attention: tuple[Scored, ...]
    """The same of the long branch."""
    transitions: tuple[Transition, ...]
    """From items of the history, most probable first; empty if none was seen in training."""


def named_lists(item_ids: Ids, lists: Lists, why: Explanations | None = None) -> list[list[Any]]:
    """For each user pairs (id, score), best first; or a `Recommendation` each.

    Args:
      item_ids: [V] ids of the items.
      lists: of U users.
      why: reasons; None: pairs are enough.
    """
    pairs = [_named(item_ids, *user) for user in zip(lists.items, lists.scores, strict=True)]
    if why is None:
        return pairs
    nothing = Attention(*(np.zeros((len(lists.items), 0), np.int32) for _ in range(2)))
    branches = [why.attention.get(branch, nothing) for branch in BRANCHES]
    out = []
    for user, listed in enumerate(pairs):
        attended = [
            tuple(_named(item_ids, each.items[user], each.weights[user])) for each in branches
        ]
        out.append(
            [
                Recommendation(*pair, *attended, _transitions(item_ids, why, user, rank))
                for rank, pair in enumerate(listed)
            ]
        )
    return out


def _named(item_ids: Ids, item_N: np.ndarray, value_N: np.ndarray) -> list[Scored]:
    """Pairs of id and value, None for NaN."""
    kept = item_N != NO_ITEM
    pairs = zip(item_ids[item_N[kept]].tolist(), value_N[kept].tolist(), strict=True)
    return [(name, None if np.isnan(value) else value) for name, value in pairs]


def _transitions(item_ids: Ids, why: Explanations, user: int, rank: int) -> tuple[Transition, ...]:
    origins = why.origins
    kept = origins.items[user, rank] != NO_ITEM
    parts = (
        item_ids[origins.items[user, rank][kept]].tolist(),
        origins.counts[user, rank][kept].tolist(),
        origins.probabilities[user, rank][kept].tolist(),
    )
    return tuple(Transition(*each) for each in zip(*parts, strict=True))
