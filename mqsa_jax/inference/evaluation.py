"""Full-ranking, leave-one-out evaluation: ranks and lists, chunk of users by chunk."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Shaped

from mqsa_jax.data.histories import Histories
from mqsa_jax.devices import DATA_AXIS, DeviceLayout
from mqsa_jax.inference.evaluation_set import (
    Chunk,
    EvaluationSet,
    Protocol,
    build_evaluation_set,
)
from mqsa_jax.inference.ranks import best_items, ranks_of
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.item_vectors import item_tables
from mqsa_jax.models.placement import as_tables, specs
from mqsa_jax.models.recommender import Params, Recommender, scores
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.ops.sharded_scores import Scores, ShardedScores, only_allowed

ScoreFn = Callable[[Array, Array], Any]
"""Scores [S, B, V] with -inf at what is left out, and targets [S, B], to results [S, B, ...]."""


def shard_ranks(score_SBV: Scores, target_SB: Int[Array, "S B"]) -> Array:
    """[S, B] rank of each target; see `ranks_of`."""
    if not isinstance(score_SBV, ShardedScores):
        return jax.vmap(ranks_of)(score_SBV, target_SB)
    split = score_SBV.split
    return split.own_shards(jax.vmap(ranks_of)(score_SBV, split.all_shards(target_SB)))


@functools.cache
def ranks_and_lists_fn(k: int, score_fn: ScoreFn | None = None) -> ScoreFn:
    """A score function that gives ranks and each user's k best items; one for equal arguments.

    Args:
      k: length of the lists.
      score_fn: gives the items and their scores; None: `best_items_fn(k)`.
    """
    lists = score_fn or best_items_fn(k)

    def both(score_SBV: Scores, target_SB: Array) -> tuple[Array, Array]:
        return shard_ranks(score_SBV, target_SB), lists(score_SBV, target_SB)[0]

    return both


@functools.cache
def best_items_fn(k: int) -> ScoreFn:
    """A score function that gives `best_items` [S, B, k] and their scores; one for each k."""

    def best_of_shards(score_SBV: Scores, target_SB: Array) -> tuple[Array, ...]:
        del target_SB
        # One axis of users, as XLA wants it for `top_k` on CPUs.
        shards, users, _ = score_SBV.shape
        flat_NV = jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), score_SBV)
        best = tuple(each.reshape(shards, users, -1) for each in best_items(flat_NV, k))
        sharded = isinstance(score_SBV, ShardedScores)
        return tuple(map(score_SBV.split.own_shards, best)) if sharded else best

    return best_of_shards


def map_user_scores(
    params: Params,
    hparams: HParams,
    data: EvaluationSet,
    relations: ItemRelations | None = None,
    allowed_V: Bool[Array, " V"] | None = None,
    *,
    recommender: Recommender,
    score_fn: ScoreFn = shard_ranks,
) -> Any:
    """[U] rank of each user's target, or what else `score_fn` makes of the scores.

    A pure function, a scan over chunks: all scores [U, V] are never kept. Items outside
    `allowed_V` are left out for everybody; None: all are allowed.
    """
    result_CSB = map_chunk_scores(
        params, hparams, data, relations, allowed_V, recommender=recommender, score_fn=score_fn
    )
    return jax.tree.map(lambda leaf_CSB: by_user(leaf_CSB, data), result_CSB)


def map_chunk_scores(
    params: Params,
    hparams: HParams,
    data: EvaluationSet,
    relations: ItemRelations | None = None,
    allowed_V: Bool[Array, " V"] | None = None,
    *,
    recommender: Recommender,
    score_fn: ScoreFn,
) -> Any:
    """[C, S, B] what `map_user_scores` gives, of the users of each chunk."""
    tables = item_tables(recommender, params, relations)

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
            tables=tables,
            traits=chunk.traits,
        )
        return None, score_fn(without_left_out(score_SBV, chunk, data, allowed_V), chunk.target)

    _, result_CSB = jax.lax.scan(map_chunk, None, data.chunks)
    return result_CSB


def without_left_out(
    score_SBV: Scores,
    chunk: Chunk,
    data: EvaluationSet,
    allowed_V: Bool[Array, " V"] | None,
) -> Scores:
    """The scores of a chunk, -inf at pairs that are left out and at items that are not allowed.

    Of sharded scores, `allowed_V` are those of the local columns.
    """
    score_SBV = data.seen.without(score_SBV, chunk.own_pairs, chunk.shared_pairs)
    if allowed_V is None:
        return score_SBV
    if isinstance(score_SBV, ShardedScores):
        return score_SBV.of_allowed(allowed_V)
    return only_allowed(score_SBV, allowed_V)


def by_user(result_CSB: Shaped[Array, "C S B *K"], data: EvaluationSet) -> Shaped[Array, " U *K"]:
    """Results of chunks in the order of the histories; those of padding are dropped."""
    result_NK = result_CSB.reshape(-1, *result_CSB.shape[3:])
    out_UK = jnp.zeros((data.num_users, *result_NK.shape[1:]), result_NK.dtype)
    return out_UK.at[data.chunks.user.reshape(-1)].set(result_NK, mode="drop")


@functools.lru_cache(maxsize=8)
def ranking_program(recommender: Recommender, layout: DeviceLayout) -> Callable[..., Array]:
    """`map_user_scores` compiled for the devices; the same program for equal arguments."""
    over_devices = _map_on_mesh if layout.item_axes else map_user_scores
    options = {"layout": layout} if layout.item_axes else {}
    return jax.jit(
        functools.partial(over_devices, recommender=recommender, **options),
        static_argnames="score_fn",
        out_shardings=layout.replicated,
    )


def _map_on_mesh(
    params: Params,
    hparams: HParams,
    data: EvaluationSet,
    relations: ItemRelations | None = None,
    allowed_V: Bool[Array, " V"] | None = None,
    *,
    recommender: Recommender,
    layout: DeviceLayout,
    score_fn: ScoreFn = shard_ranks,
) -> Any:
    """`map_user_scores` where the items are split over devices: each scores its own."""

    def body(params, hparams, data, relations, allowed_N):
        params, relations = as_tables((params, relations), layout, recommender.num_items)
        return map_chunk_scores(
            params,
            hparams,
            data,
            relations,
            allowed_N,
            recommender=recommender,
            score_fn=score_fn,
        )

    users, whole = PartitionSpec(None, DATA_AXIS), PartitionSpec()
    if allowed_V is not None:
        spare = layout.item_rows(recommender.num_items) - recommender.num_items
        allowed_V = jnp.pad(allowed_V, (0, spare))
    in_specs = (
        specs(params, layout),
        whole,
        jax.tree.map(lambda leaf: users if leaf.ndim > 1 else whole, data),
        specs(relations, layout),
        PartitionSpec(layout.item_axes),
    )
    result_CSB = jax.shard_map(
        body, mesh=layout.mesh, in_specs=in_specs, out_specs=users, check_vma=False
    )(params, hparams, data, relations, allowed_V)
    return jax.tree.map(lambda leaf_CSB: by_user(leaf_CSB, data), result_CSB)


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
        self._program = ranking_program(recommender, self._layout)

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

    def ranks_and_lists(
        self, params: Params, hparams: HParams, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """[U] ranks, and [U, k] int32 items of each user's list, from one pass over the users.

        Raises:
          FloatingPointError: if any score is NaN.
        """
        score_fn = ranks_and_lists_fn(k)
        rank_U, best_UK = self._program(
            params, hparams, self._data, self._relations, score_fn=score_fn
        )
        return checked_ranks(rank_U), np.asarray(best_UK)


def checked_ranks(rank_U: Float[Array | np.ndarray, " U"]) -> np.ndarray:
    """[U] the ranks, on the host; raises FloatingPointError if any is NaN."""
    ranks_U = np.asarray(rank_U)
    if np.isnan(ranks_U).any():
        raise FloatingPointError(
            f"the scores of {np.isnan(ranks_U).sum()} users are not numbers (NaN)"
        )
    return ranks_U
