"""Full-ranking, leave-one-out evaluation: ranks and lists, chunk of users by chunk."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from mqsa_jax.data.histories import Histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.inference.evaluation_set import (
    Chunk,
    EvaluationSet,
    Protocol,
    build_evaluation_set,
)
from mqsa_jax.inference.ranks import best_items, ranks_of
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Params, Recommender, item_vectors, scores
from mqsa_jax.models.relations import ItemRelations

ScoreFn = Callable[[Array, Array], Any]
"""Scores [B, V] with -inf at what is left out, and targets [B], to a pytree of results [B, ...]."""


def map_user_scores(
    params: Params,
    hparams: HParams,
    data: EvaluationSet,
    relations: ItemRelations | None = None,
    *,
    recommender: Recommender,
    score_fn: ScoreFn = ranks_of,
) -> PyTree[Shaped[Array, " U ..."]]:
    """[U] rank of each user's target, or what else `score_fn` makes of the scores.

    A pure function, a scan over chunks: all scores [U, V] are never kept.
    """
    item_VD = item_vectors(recommender, params, relations)

    def map_chunk(_, chunk: Chunk):
        inputs = jax.tree.map(lambda leaf: leaf.astype(jnp.int32), chunk.inputs)
        score_SBV = scores(
            recommender,
            params,
            inputs,
            chunk.last,
            window=hparams.window,
            alpha=hparams.alpha,
            relations=relations,
            item_VD=item_VD,
        )
        return None, jax.vmap(score_fn)(
            data.seen.without(score_SBV, chunk.own_pairs, chunk.shared_pairs), chunk.target
        )

    _, result_CSB = jax.lax.scan(map_chunk, None, data.chunks)
    return jax.tree.map(lambda result: by_user(result, data), result_CSB)


def by_user(result_CSB: Shaped[Array, "C S B *K"], data: EvaluationSet) -> Shaped[Array, " U *K"]:
    """Results of chunks in the order of the histories; those of padding are dropped."""
    result_NK = result_CSB.reshape(-1, *result_CSB.shape[3:])
    out_UK = jnp.zeros((data.num_users, *result_NK.shape[1:]), result_NK.dtype)
    return out_UK.at[data.chunks.user.reshape(-1)].set(result_NK, mode="drop")


@functools.lru_cache(maxsize=8)
def _ranking_program(recommender: Recommender, layout: DeviceLayout) -> Callable[..., Any]:
    """`map_user_scores` compiled for the devices; the same program for equal arguments."""
    return jax.jit(
        functools.partial(map_user_scores, recommender=recommender),
        static_argnames="score_fn",
        out_shardings=layout.replicated,
    )


class Evaluator:
    """A protocol's evaluation set on the devices, and its compiled program."""

    def __init__(
        self,
        histories: Histories,
        protocol: Protocol,
        recommender: Recommender,
        layout: DeviceLayout,
        relations: ItemRelations | None = None,
    ):
        data = build_evaluation_set(
            histories,
            protocol,
            recommender.max_len,
            layout.num_shards,
            platform=layout.platform,
        )
        self._data, self._layout = layout.shard(data, axis=1), layout
        self._set_model(recommender, relations)

    def _set_model(self, recommender: Recommender, relations: ItemRelations | None) -> None:
        self._relations = relations
        self._program = _ranking_program(recommender, self._layout)

    def of_model(
        self, recommender: Recommender, relations: ItemRelations | None = None
    ) -> "Evaluator":
        """The same users and items left out, for another model that reads as many items."""
        other = copy.copy(self)
        other._set_model(recommender, relations)
        return other

    def start(self, params: Params, hparams: HParams) -> Float[Array, " U"]:
        """Starts ranking and does not wait: an array for `finish`, on the devices."""
        return self._program(params, hparams, self._data, self._relations)

    def finish(self, rank_U: Float[Array, " U"]) -> np.ndarray:
        """[U] float32 rank of every user's target, in the order of the histories; waits for it.

        Raises:
          FloatingPointError: if any score is NaN.
        """
        return checked_ranks(rank_U)

    def ranks(self, params: Params, hparams: HParams) -> np.ndarray:
        """`start` and `finish` in one."""
        return self.finish(self.start(params, hparams))

    def top_items(self, params: Params, hparams: HParams, k: int) -> np.ndarray:
        """[U, k] int32 items that each user scores highest, best first; see `top_items`."""
        best = self._program(params, hparams, self._data, self._relations, score_fn=top_items_fn(k))
        return np.asarray(best)

    def ranks_and_lists(
        self, params: Params, hparams: HParams, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """What `ranks` and `top_items` give, from one pass over the users.

        Raises:
          FloatingPointError: if any score is NaN.
        """
        score_fn = ranks_and_lists_fn(k)
        rank_U, best_UK = self._program(
            params, hparams, self._data, self._relations, score_fn=score_fn
        )
        return checked_ranks(rank_U), np.asarray(best_UK)


@functools.cache
def top_items_fn(k: int) -> ScoreFn:
    """A score function that gives each user's k best items; the same one for equal k."""
    return lambda score_BV, target_B: best_items(score_BV, k)


@functools.cache
def ranks_and_lists_fn(k: int) -> ScoreFn:
    """A score function that gives ranks and each user's k best items; the same for equal k."""
    return lambda score_BV, target_B: (ranks_of(score_BV, target_B), best_items(score_BV, k))


def checked_ranks(rank_U: Float[Array | np.ndarray, " U"]) -> np.ndarray:
    """[U] the ranks, on the host; raises FloatingPointError if any is NaN."""
    ranks_U = np.asarray(rank_U)
    if np.isnan(ranks_U).any():
        raise FloatingPointError(
            f"the scores of {np.isnan(ranks_U).sum()} users are not numbers (NaN)"
        )
    return ranks_U
