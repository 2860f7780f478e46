"""Ranks and lists by counted models: the same ranking path as for trained ones."""

from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.inference.evaluation import ScoreFn, by_user
from mqsa_jax.inference.evaluation_set import Protocol, build_evaluation_set
from mqsa_jax.inference.ranks import best_items, ranks_of
from mqsa_jax.models.counted import CountedModel, recommendable


def counting_ranks(
    counting: CountedModel, histories: Histories, max_len: int, protocol: Protocol
) -> np.ndarray:
    """[U] rank of every user's target, by the last `max_len` items before it."""
    return _map_user_scores(counting, histories, max_len, protocol, ranks_of)


def counting_top_items(
    counting: CountedModel, histories: Histories, max_len: int, protocol: Protocol, k: int
) -> np.ndarray:
    """[U, k] int32 items that each user scores highest, best first, without those seen.

    -1 behind the last item that scores above 0.
    """

    def listed(score_BV, target_B):
        del target_B
        return best_items(recommendable(score_BV), k)

    return _map_user_scores(counting, histories, max_len, protocol, listed)


def counting_ranks_and_lists(
    counting: CountedModel, histories: Histories, max_len: int, protocol: Protocol, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """What `counting_ranks` and `counting_top_items` give, from one pass over the users."""

    def both(score_BV, target_B):
        return ranks_of(score_BV, target_B), best_items(recommendable(score_BV), k)

    return _map_user_scores(counting, histories, max_len, protocol, both)


def _map_user_scores(
    counting: CountedModel,
    histories: Histories,
    max_len: int,
    protocol: Protocol,
    score_fn: ScoreFn,
) -> Any:
    histories = splits.with_target(histories, protocol.split)
    inputs = splits.recent(histories, protocol.split, max_len)
    score_UV = counting.scores(histories.items, inputs)
    data = build_evaluation_set(histories, protocol, max_len, num_shards=1)
    map_chunk = jax.jit(
        lambda score_SBV, chunk, data: jax.vmap(score_fn)(
            data.seen.without(score_SBV, chunk.own_pairs, chunk.shared_pairs), chunk.target
        )
    )
    results = []
    for index in range(len(data.chunks.user)):
        chunk = jax.tree.map(itemgetter(index), data.chunks)
        user_N = chunk.user[0][chunk.user[0] < data.num_users]
        score_SBV = np.zeros((1, chunk.user.shape[-1], histories.num_items), np.float32)
        score_SBV[0, : len(user_N)] = score_UV[user_N].toarray()
        score_SBV += 0 if counting.prior is None else counting.prior
        results.append(map_chunk(score_SBV, chunk, data))
    return jax.tree.map(lambda *parts: np.asarray(by_user(jnp.stack(parts), data)), *results)
