"""What lists are asked for: after which histories, without which items; and lists of popular items.

Shape legend: U users of a block, K items of a list, V items, N items of all histories together.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from mqsa_jax.config import ExcludeSeen
from mqsa_jax.data.attributes import Attributes
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.ids import Ids, Lookup
from mqsa_jax.data.splits import Slices
from mqsa_jax.inference.evaluation_set import Protocol, Queries, UserQueries
from mqsa_jax.inference.lists import ListMaker, Lists
from mqsa_jax.inference.ranks import NO_ITEM

Block = TypeVar("Block")


def queries_of(
    item_N: np.ndarray,
    length_U: np.ndarray,
    num_items: int,
    max_len: int,
    exclude_seen: ExcludeSeen,
) -> Queries:
    """Queries after whole histories of item indices.

    Args:
      item_N: [N] int32 indices of all histories, one after the other, each oldest first.
      length_U: [U] items of each; one of 0 gets an empty list.
      num_items: V.
      max_len: items of a history that are read.
      exclude_seen: left out: all items of the history, the last `max_len`, or none.
    """
    offsets = np.concatenate([[0], np.cumsum(length_U, dtype=np.int64)])
    whole = Slices(offsets[:-1], offsets[1:])
    return _queries_after(item_N, whole, num_items, max_len, exclude_seen)


def _queries_after(
    item_N: np.ndarray,
    whole: Slices,
    num_items: int,
    max_len: int,
    exclude_seen: ExcludeSeen,
    traits: Attributes | None = None,
) -> Queries:
    recent = Slices(np.maximum(whole.begin, whole.end - max_len), whole.end)
    policies = {"history": whole, "window": recent, "none": Slices(whole.end, whole.end)}
    if exclude_seen not in policies:
        raise ValueError(f"exclude_seen must be one of {tuple(policies)}, got {exclude_seen!r}")
    seen = policies[exclude_seen]
    return Queries(item_N, num_items, recent, seen, np.zeros(len(whole.end), np.int32), traits)


class KnownUsers:
    """The users of a data set, as queries."""

    def __init__(self, histories: Histories, max_len: int, protocol: Protocol, held_out: bool):
        """Takes their histories without the protocol's held-out items, or whole."""
        if held_out:
            every = np.arange(histories.num_users)
            self._all = UserQueries(histories, protocol, max_len).of_users(every)
        else:
            whole = Slices(histories.offsets[:-1], histories.offsets[1:])
            self._all = _queries_after(
                histories.items,
                whole,
                histories.num_items,
                max_len,
                protocol.exclude_seen,
                histories.traits,
            )

    def queries(self, users: np.ndarray) -> Queries:
        """Those of users [U], by their index in the data set."""
        known = self._all
        return Queries(
            known.items,
            known.num_items,
            known.inputs[users],
            known.seen[users],
            known.targets[users],
            known.traits and known.traits.of_rows(users),
        )


def allowed_items(
    lookup: Lookup, num_items: int, allow: Ids | None, deny: Ids | None
) -> tuple[np.ndarray | None, np.ndarray]:
    """[V] whether each item may be recommended, None if all may; and positions of ids not known.

    Args:
      lookup: of the vocabulary.
      num_items: V.
      allow: ids of which alone some are recommended; None: all.
      deny: ids that are never recommended; None: none. It wins over `allow`.

    Returns:
      The mask, and the indices, in `allow` followed by `deny`, of ids outside the vocabulary.
    """
    if allow is None and deny is None:
        return None, np.zeros(0, np.int64)
    allowed_V = np.full(num_items, allow is None)
    unknown, begin = [], 0
    for ids, value in ((allow, True), (deny, False)):
        if ids is not None:
            index_N = lookup.indices(ids)
            allowed_V[index_N[index_N >= 0]] = value
            unknown.append(begin + np.flatnonzero(index_N < 0))
            begin += len(ids)
    return allowed_V, np.concatenate(unknown)


def with_popular(
    lists: Lists, empty_U: np.ndarray, count_V: np.ndarray, allowed_V: np.ndarray | None
) -> Lists:
    """The lists with the most popular items, without scores, for users of empty histories.

    Args:
      lists: of U users.
      empty_U: [U] whether nothing is known of the user.
      count_V: [V] occurrences of each item in training; those of 0 are not recommended.
      allowed_V: [V] whether an item may be recommended; None: all may.
    """
    count_V = count_V if allowed_V is None else np.where(allowed_V, count_V, 0)
    best_K = np.argsort(-count_V, kind="stable")[: lists.items.shape[1]]
    item_K = np.where(count_V[best_K] > 0, best_K, NO_ITEM).astype(np.int32)
    items, scores = lists.items.copy(), lists.scores.copy()
    items[empty_U] = item_K
    scores[empty_U] = np.nan
    return Lists(items, scores)


def lists_of_blocks(
    maker: ListMaker, blocks: Iterable[tuple[Block, Queries]]
) -> Iterator[tuple[Block, Queries, Lists]]:
    """The lists of each block; the next one is read and started before one is given."""
    running: tuple[Any, ...] | None = None
    for block, queries in blocks:
        started = block, queries, maker.start(queries)
        if running is not None:
            yield *running[:2], running[2].wait()
        running = started
    if running is not None:
        yield *running[:2], running[2].wait()
