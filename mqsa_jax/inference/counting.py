"""Ranks and lists by counted models: the same ranking path as for trained ones."""

import jax
import jax.numpy as jnp
import numpy as np

from mqsa_jax.data.histories import Histories
from mqsa_jax.inference.evaluation import (
    Protocol,
    ScoreFn,
    build_evaluation_set,
    by_user,
)
from mqsa_jax.inference.ranks import target_ranks, top_items
from mqsa_jax.models.counted import CountedModel


def counting_ranks(
    counting: CountedModel, histories: Histories, max_len: int, protocol: Protocol
) -> np.ndarray:
    """[U] rank of every user's target, by the last `max_len` items before it."""
    return _map_user_scores(counting, histories, max_len, protocol, target_ranks)


def counting_top_items(
    counting: CountedModel, histories: Histories, max_len: int, protocol: Protocol, k: int
) -> np.ndarray:
    """[U, k] int32 items that each user scores highest, best first, without those seen.

    -1 in the places that are left where fewer than k items score above 0: all others tie, and which
    of them came first would be chance.
    """

    def listed(score_BV, target_B, seen_user_M, seen_item_M):
        del target_B
        top_BK = top_items(score_BV, seen_user_M, seen_item_M, k)
        return jnp.where(jnp.take_along_axis(score_BV, top_BK, axis=1) > 0, top_BK, -1)

    return _map_user_scores(counting, histories, max_len, protocol, listed)


def _map_user_scores(
    counting: CountedModel,
    histories: Histories,
    max_len: int,
    protocol: Protocol,
    score_fn: ScoreFn,
) -> np.ndarray:
    score_UV = counting.scores(histories, protocol.split, max_len)
    data = build_evaluation_set(histories, protocol, max_len, 1)
    results, map_chunk = [], jax.jit(score_fn)
    chunks = len(data.target)
    for chunk in range(chunks):
        # The users that `build_evaluation_set` deals to this chunk of one shard.
        own_UV = score_UV[chunk::chunks].toarray()
        own_UV += 0 if counting.prior is None else counting.prior
        dense_BV = np.zeros((data.target.shape[-1], histories.num_items), np.float32)
        dense_BV[: len(own_UV)] = own_UV
        known = (array[chunk, 0] for array in (data.target, data.seen_user, data.seen_item))
        results.append(map_chunk(dense_BV, *known))
    return by_user(np.stack(results)[:, None], histories.num_users)
