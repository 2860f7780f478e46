"""Evaluation of a stream: ranks and lists, a block of users at a time, in bounded memory.

The scores, and what is made of them, are those of `evaluation.py`.

Shape legend: U users, K items of a list.
"""

import copy
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from mqsa_jax.data.dataset import Dataset
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.inference.evaluation import (
    Evaluator,
    ScoreFn,
    checked_ranks,
    ranking_program,
    ranks_and_lists_fn,
    shard_ranks,
)
from mqsa_jax.inference.evaluation_set import Protocol, Queries, UserQueries, pack_queries
from mqsa_jax.inference.lists import BLOCK_CHUNKS, BlockShapes, filled_up
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Params, Recommender
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.ops.chunk_loop import chunk_rows


class StreamEvaluator:
    """What `Evaluator` is for data in memory; the data are read anew for every ranking."""

    def __init__(
        self,
        data: Dataset,
        protocol: Protocol,
        recommender: Recommender,
        layout: DeviceLayout,
        relations: ItemRelations | None = None,
    ):
        self._data, self._protocol, self._layout = data, protocol, layout
        self._shapes = BlockShapes()
        self._set_model(recommender, relations)

    def _set_model(self, recommender: Recommender, relations: ItemRelations | None) -> None:
        self._recommender, self._relations = recommender, relations
        self._program = ranking_program(recommender, self._layout)

    def of_model(
        self, recommender: Recommender, relations: ItemRelations | None = None
    ) -> "StreamEvaluator":
        """The same users and items left out, for another model that reads as many items."""
        other = copy.copy(self)
        other._set_model(recommender, relations)
        return other

    def start(self, params: Params, hparams: HParams) -> Float[np.ndarray, " U"]:
        """Ranks all users: an array for `finish`. Waits, since blocks are read meanwhile."""
        return self._map(params, hparams, shard_ranks)

    def finish(self, rank_U: Float[np.ndarray, " U"]) -> np.ndarray:
        """[U] float32 rank of every user's target, in the order of the data.

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
        rank_U, best_UK = self._map(params, hparams, ranks_and_lists_fn(k))
        return checked_ranks(rank_U), best_UK

    def _map(self, params: Params, hparams: HParams, score_fn: ScoreFn) -> Any:
        """[U] ranks, or what else `score_fn` makes of the scores, on the host."""
        parts: list[Any] = []
        running: tuple[int, Any] | None = None
        for queries in self._queries():
            padded = filled_up(queries, self._shapes.users(queries.num_users, self._block_users))
            shards, platform = self._layout.num_shards, self._layout.platform
            data = pack_queries(padded, self._recommender.max_len, shards, platform=platform)
            data = self._layout.shard(self._shapes.fitted(data), axis=1)
            result = self._program(params, hparams, data, self._relations, score_fn=score_fn)
            # The devices work on a block while the next one is read and packed.
            if running is not None:
                parts.append(_on_host(*running))
            running = queries.num_users, result
        parts.append(_on_host(*running))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    @property
    def _block_users(self) -> int:
        rows = chunk_rows(1 << 30, self._recommender.num_items, self._layout.platform)
        return BLOCK_CHUNKS * rows * self._layout.num_shards

    def _queries(self) -> Iterator[Queries]:
        """All users' queries, `_block_users` at a time."""
        for block in self._protocol.evaluated(self._data):
            queries = UserQueries(block, self._protocol, self._recommender.max_len)
            for begin in range(0, block.num_users, self._block_users):
                end = min(begin + self._block_users, block.num_users)
                yield queries.of_users(np.arange(begin, end))


def _on_host(num_users: int, result: Any) -> Any:
    """The results of a block without those of padding; waits for the devices."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:num_users], result)


AnyEvaluator = Evaluator | StreamEvaluator
"""Evaluation of data in memory or of a stream."""
