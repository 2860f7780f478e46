"""Recommenders that are counted, not trained: transitions from the latest items, popularity.

score(u, j) = prior_j + sum_k decay^k M[item k steps before the newest of u, j],  k = 0 .. K - 1
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.inference.evaluation import (
    Protocol,
    Visit,
    build_evaluation_set,
    by_user,
)
from mqsa_jax.inference.ranking import target_ranks, top_items


@dataclasses.dataclass(frozen=True, eq=False)
class Counting:
    """What such a recommender is made of."""

    matrix: scipy.sparse.csr_array
    """[V, V] M."""
    decay: float = 1.0
    """Weight of one item further back."""
    num_recent: int = 1
    """K; 0: the prior alone."""
    prior: np.ndarray | None = None
    """[V] score of each item for everybody; None: 0."""

    def scores(self, histories: Histories, split: splits.Split, max_len: int) -> Any:
        """[U, V] sparse scores without the prior."""
        inputs = splits.window(histories, split, max_len)
        users, items, weights = [], [], []
        for back in range(self.num_recent):
            source = inputs.end - 1 - back
            (user,) = np.nonzero(source >= inputs.begin)
            users.append(user)
            items.append(histories.items[source[user]])
            weights.append(np.full(user.size, self.decay**back))
        shape = (histories.num_users, histories.num_items)
        if not users:
            return scipy.sparse.csr_array(shape)
        places = (np.concatenate(users), np.concatenate(items))
        recent = scipy.sparse.csr_array((np.concatenate(weights), places), shape=shape)
        return (recent @ self.matrix).tocsr()


def counting_ranks(
    counting: Counting, histories: Histories, max_len: int, protocol: Protocol
) -> np.ndarray:
    """[U] rank of every user's target, by the last `max_len` items before it."""
    return _visit_users(counting, histories, max_len, protocol, target_ranks)


def counting_top_items(
    counting: Counting, histories: Histories, max_len: int, protocol: Protocol, k: int
) -> np.ndarray:
    """[U, k] int32 items that each user scores highest, best first, without those seen.

    -1 in the places that are left where fewer than k items score above 0: all others tie, and which
    of them came first would be chance.
    """

    def visit(score_BV, target_B, seen_user_M, seen_item_M):
        del target_B
        top_BK = top_items(score_BV, seen_user_M, seen_item_M, k)
        return jnp.where(jnp.take_along_axis(score_BV, top_BK, axis=1) > 0, top_BK, -1)

    return _visit_users(counting, histories, max_len, protocol, visit)


def _visit_users(
    counting: Counting, histories: Histories, max_len: int, protocol: Protocol, visit: Visit
) -> np.ndarray:
    score_UV = counting.scores(histories, protocol.split, max_len)
    data = build_evaluation_set(histories, protocol, max_len, 1)
    results, visit_chunk = [], jax.jit(visit)
    chunks = len(data.target)
    for chunk in range(chunks):
        # The users that `build_evaluation_set` deals to this chunk of one shard.
        own_UV = score_UV[chunk::chunks].toarray()
        own_UV += 0 if counting.prior is None else counting.prior
        dense_BV = np.zeros((data.target.shape[-1], histories.num_items), np.float32)
        dense_BV[: len(own_UV)] = own_UV
        known = (array[chunk, 0] for array in (data.target, data.seen_user, data.seen_item))
        results.append(visit_chunk(dense_BV, *known))
    return by_user(np.stack(results)[:, None], histories.num_users)
