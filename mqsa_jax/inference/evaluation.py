"""Full-ranking, leave-one-out evaluation: users packed once, ranks counted chunk by chunk."""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Shaped

from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.packing import PackedRows, pack, ragged, round_up
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.inference.ranks import target_ranks, top_items
from mqsa_jax.losses import metrics
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Params, Recommender, item_vectors, scores
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.ops.chunk_loop import chunk_rows
from mqsa_jax.pytree import Leaf

CUTOFFS = (5, 10, 20)
"""K of HR@K and NDCG@K."""


@struct.dataclass
class EvaluationSet:
    """Users to rank for: C chunks of S shards of B users each, their histories packed.

    Place [c, s, b] is that of user b C S + c S + s; see `by_user`.
    """

    inputs: Sequences
    """[C, S, R, T]."""
    last: Leaf
    """int32 [C, S, B] place of each user's newest item in the flat [R, T]."""
    target: Leaf
    """int32 [C, S, B] item that the user went on to."""
    seen_user: Leaf
    """int32 [C, S, M] with `seen_item`, pairs to leave out of the ranking; B is padding."""
    seen_item: Leaf
    """int32 [C, S, M]."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is evaluated, and against which items."""

    split: Literal["valid", "test"] = "test"
    exclude_seen: splits.ExcludeSeen = "history"

    @property
    def name(self) -> str:
        """`test`, or for example `test_window`: names the protocol's result files."""
        suffix = "" if self.exclude_seen == "history" else f"_{self.exclude_seen}"
        return self.split + suffix


def build_evaluation_set(
    histories: Histories, protocol: Protocol, max_len: int, num_shards: int, num_models: int = 1
) -> EvaluationSet:
    """Packs all users into NumPy arrays; in chunks that suit so many models at once.

    Chunks are dealt users in turn: files often have long histories side by side, and every chunk
    has as many rows as the fullest. `by_user` puts results back in order.
    """
    users_GB = _user_groups(histories, num_shards, num_models)
    real_GB = users_GB >= 0
    groups, size = users_GB.shape
    inputs = splits.recent(histories, protocol.split, max_len)[users_GB]
    inputs = splits.Slices(np.where(real_GB, inputs.begin, inputs.end), inputs.end)
    slot_GB = np.broadcast_to(np.arange(size), users_GB.shape)
    rows = pack(inputs, slot_GB, max_len)
    length_GB = inputs.lengths
    last_GB = rows.row * max_len + rows.column + np.maximum(length_GB, 1) - 1
    seen_user, seen_item = _seen_pairs(histories, protocol, max_len, users_GB)

    def by_chunk(values: np.ndarray) -> np.ndarray:
        return values.reshape(-1, num_shards, *values.shape[1:]).astype(np.int32)

    return EvaluationSet(
        inputs=_sequences(rows, histories, by_chunk),
        last=by_chunk(np.where(length_GB > 0, last_GB, 0)),
        target=by_chunk(splits.targets(histories, protocol.split)[users_GB]),
        seen_user=by_chunk(seen_user),
        seen_item=by_chunk(seen_item),
    )


def _user_groups(histories: Histories, num_shards: int, num_models: int) -> np.ndarray:
    """[chunks × shards, B] user indices, dealt to the groups in turn; -1 fills up."""
    size = chunk_rows(-(-histories.num_users // num_shards), histories.num_items * num_models)
    padding = -histories.num_users % (size * num_shards)
    users = np.pad(np.arange(histories.num_users), (0, padding), constant_values=-1)
    return users.reshape(size, -1).T


def by_user(result_CSB: Shaped[np.ndarray, "C S B *K"], num_users: int) -> np.ndarray:
    """[U, ...] what `map_user_scores` gives, in the order of the histories."""
    chunks, shards, size, *shape = result_CSB.shape
    result_GB = result_CSB.reshape(chunks * shards, size, *shape)
    return result_GB.swapaxes(0, 1).reshape(-1, *shape)[:num_users]


def _sequences(rows: PackedRows, histories: Histories, by_chunk) -> Sequences:
    item = rows.scatter(histories.items[rows.source])
    return Sequences(by_chunk(item), by_chunk(rows.position), by_chunk(rows.segment_ids))


def _seen_pairs(
    histories: Histories, protocol: Protocol, max_len: int, users_GB: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """[G, M] place in the group and item of every pair to leave out; the former is B at padding."""
    groups, size = users_GB.shape
    seen = splits.seen(histories, protocol.split, protocol.exclude_seen, max_len)[users_GB]
    seen = splits.Slices(np.where(users_GB >= 0, seen.begin, seen.end), seen.end)
    owner_N, source_N = seen.flat_index()
    pairs_N = np.unique(owner_N * histories.num_items + histories.items[source_N])
    owner_N, item_N = np.divmod(pairs_N, histories.num_items)
    group_N = owner_N // size
    place_N, sizes = ragged(group_N, groups)
    width = round_up(int(sizes.max(initial=1)))
    seen_user = np.full((groups, width), size, np.int32)
    seen_item = np.zeros((groups, width), np.int32)
    seen_user[group_N, place_N] = owner_N % size
    seen_item[group_N, place_N] = item_N
    return seen_user, seen_item


ScoreFn = Callable[[Array, Array, Array, Array], Array]
"""Scores [B, V], target [B], seen users [M] and items [M] of a chunk to a result [B, ...]."""


def map_user_scores(
    params: Params,
    hparams: HParams,
    data: EvaluationSet,
    relations: ItemRelations | None = None,
    *,
    recommender: Recommender,
    score_fn: ScoreFn = target_ranks,
) -> Shaped[Array, "C S B *K"]:
    """[C, S, B] rank of each user's target, or what else `score_fn` makes of the scores.

    A pure function, a scan over chunks: all scores [U, V] are never kept. See `by_user`.
    """
    item_VD = item_vectors(recommender, params, relations)

    def map_chunk(_, chunk: EvaluationSet):
        score_SBV = scores(
            recommender,
            params,
            chunk.inputs,
            chunk.last,
            window=hparams.window,
            alpha=hparams.alpha,
            relations=relations,
            item_VD=item_VD,
        )
        results = jax.vmap(score_fn)(score_SBV, chunk.target, chunk.seen_user, chunk.seen_item)
        return None, results

    return jax.lax.scan(map_chunk, None, data)[1]


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
        data = build_evaluation_set(histories, protocol, recommender.max_len, layout.num_shards)
        self._num_users = histories.num_users
        self._data = layout.shard(data, axis=1)
        self._relations = relations
        self._program = jax.jit(
            partial(map_user_scores, recommender=recommender),
            static_argnames="score_fn",
            out_shardings=layout.replicated,
        )

    def start(self, params: Params, hparams: HParams) -> Float[Array, "C S B"]:
        """Starts ranking and does not wait: an array for `finish`, on the devices."""
        return self._program(params, hparams, self._data, self._relations)

    def finish(self, rank_CSB: Float[Array, "C S B"]) -> np.ndarray:
        """[U] float32 rank of every user's target, in the order of the histories; waits for it.

        Raises:
          FloatingPointError: if any score is NaN.
        """
        return checked_ranks(rank_CSB, self._num_users)

    def ranks(self, params: Params, hparams: HParams) -> np.ndarray:
        """`start` and `finish` in one."""
        return self.finish(self.start(params, hparams))

    def top_items(self, params: Params, hparams: HParams, k: int) -> np.ndarray:
        """[U, k] int32 items that each user scores highest, best first, without those seen."""
        best = self._program(params, hparams, self._data, self._relations, score_fn=top_items_fn(k))
        return by_user(np.asarray(best), self._num_users)


@functools.cache
def top_items_fn(k: int) -> ScoreFn:
    """A score function that gives each user's k best items; the same one for equal k."""
    return lambda score, target, user, item: top_items(score, user, item, k)


def checked_ranks(rank_CSB: Float[Array | np.ndarray, "C S B"], num_users: int) -> np.ndarray:
    """[U] the ranks, by user; raises FloatingPointError if any is NaN."""
    ranks_U = by_user(np.asarray(rank_CSB), num_users)
    if np.isnan(ranks_U).any():
        raise FloatingPointError(
            f"the scores of {np.isnan(ranks_U).sum()} users are not numbers (NaN)"
        )
    return ranks_U


def summarise(rank_U: np.ndarray) -> dict[str, float]:
    """HR@K and NDCG@K at 5, 10, 20 and MRR, means over users; worked out on the host."""
    result = {}
    for k in CUTOFFS:
        result[f"HR@{k}"] = float(metrics.hit_rate(rank_U, k))
        result[f"NDCG@{k}"] = float(metrics.ndcg(rank_U, k))
    return {**result, "MRR": float(metrics.reciprocal_rank(rank_U))}
