"""Ranks and lists by counted models: the same ranking path as for trained ones."""

import functools
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mqsa_jax.data.dataset import Dataset
from mqsa_jax.inference.evaluation import (
    ScoreFn,
    best_items_fn,
    by_user,
    ranks_and_lists_fn,
    shard_ranks,
    without_left_out,
)
from mqsa_jax.inference.evaluation_set import (
    EvaluationSet,
    Protocol,
    Queries,
    UserQueries,
    pack_queries,
)
from mqsa_jax.models.counted import CountedModel, recommendable


def counting_ranks(
    counting: CountedModel, data: Dataset, max_len: int, protocol: Protocol
) -> np.ndarray:
    """[U] rank of every user's target, by the last `max_len` items before it."""
    return _map_users(counting, data, max_len, protocol, shard_ranks)


def counting_ranks_and_lists(
    counting: CountedModel, data: Dataset, max_len: int, protocol: Protocol, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """[U] ranks, and [U, k] int32 items that score above 0, from one pass over the users."""
    score_fn = ranks_and_lists_fn(k, listed_scores(best_items_fn(k)))
    return _map_users(counting, data, max_len, protocol, score_fn)


def _map_users(
    counting: CountedModel,
    data: Dataset,
    max_len: int,
    protocol: Protocol,
    score_fn: ScoreFn,
) -> Any:
    """`map_counted_scores` of all users whom a protocol evaluates, block by block; on the host."""
    parts = []
    for block in protocol.evaluated(data):
        queries = UserQueries(block, protocol, max_len)
        packed = pack_queries(queries, max_len, num_shards=1)
        result = map_counted_scores(counting, queries, packed, score_fn=score_fn)
        parts.append(jax.tree.map(np.asarray, result))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def map_counted_scores(
    counting: CountedModel,
    queries: Queries | UserQueries,
    data: EvaluationSet,
    allowed_V: np.ndarray | None = None,
    score_fn: ScoreFn = shard_ranks,
) -> Any:
    """As `map_user_scores`, chunk after chunk: only one chunk's scores [B, V] are at hand.

    Args:
      counting: the model.
      queries: U histories.
      data: `pack_queries` of them, for one shard.
      allowed_V: [V] whether an item may be listed; None: all may.
      score_fn: what is made of the scores.
    """
    score_UV = counting.scores(queries.items, queries.inputs)
    results = []
    for index in range(len(data.chunks.user)):
        chunk = jax.tree.map(itemgetter(index), data.chunks)
        user_N = chunk.user[0][chunk.user[0] < data.num_users]
        score_SBV = np.zeros((1, chunk.user.shape[-1], queries.num_items), np.float32)
        score_SBV[0, : len(user_N)] = score_UV[user_N].toarray()
        score_SBV += 0 if counting.prior is None else counting.prior
        results.append(_map_chunk(score_SBV, chunk, data, allowed_V, score_fn=score_fn))
    return jax.tree.map(lambda *leaves_SB: by_user(jnp.stack(leaves_SB), data), *results)


@functools.partial(jax.jit, static_argnames="score_fn")
def _map_chunk(score_SBV, chunk, data, allowed_V, *, score_fn):
    return score_fn(without_left_out(score_SBV, chunk, data, allowed_V), chunk.target)


@functools.cache
def listed_scores(score_fn: ScoreFn) -> ScoreFn:
    """The score function over `recommendable` scores alone, for lists."""
    return lambda score_SBV, target_SB: score_fn(recommendable(score_SBV), target_SB)
