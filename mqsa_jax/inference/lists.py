"""The best items of many histories, a block of users at a time: memory does not grow with users.

The scores are those of evaluation (`evaluation.py`, `counting.py`). Blocks keep their shapes, so
that few programs are compiled; while a block is computed, its caller may prepare the next one.

Shape legend: U users of a block, K items of a list, V items, S shards.
"""

import abc
import dataclasses
from typing import Any

import numpy as np

from mqsa_jax.data.packing import round_up
from mqsa_jax.data.splits import Slices
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.inference.counting import listed_scores, map_counted_scores
from mqsa_jax.inference.evaluation import best_items_fn, ranking_program
from mqsa_jax.inference.evaluation_set import EvaluationSet, Queries, pack_queries
from mqsa_jax.inference.ranks import NO_ITEM
from mqsa_jax.inference.seen_pairs import PairList
from mqsa_jax.models.counted import CountedModel
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.placement import place
from mqsa_jax.models.recommender import Params, Recommender
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.ops.chunk_loop import chunk_rows

BLOCK_CHUNKS = 16
"""Chunks of a block: their histories are dealt to them so that all hold about as much."""
PAIRS_AT_A_TIME = 1 << 11
"""Pairs of a column that are left out at a time."""


@dataclasses.dataclass(frozen=True, eq=False)
class Lists:
    """The best items of U users, best first."""

    items: np.ndarray
    """[U, K] int32; -1 behind the last one."""
    scores: np.ndarray
    """[U, K] float32; -inf behind the last one. NaN where an item has none."""


@dataclasses.dataclass(frozen=True, eq=False)
class PendingLists:
    """Lists that the devices compute."""

    known_U: np.ndarray
    """[U] whether there is a history to go by; a list is empty without."""
    result: Any

    def wait(self) -> Lists:
        """The lists, on the host.

        Raises:
          FloatingPointError: if a score is NaN.
        """
        item_UK, score_UK = (np.asarray(each)[: len(self.known_U)] for each in self.result)
        known_U1 = self.known_U[:, None]
        item_UK = np.where(known_U1, item_UK, NO_ITEM)
        score_UK = np.where(known_U1, score_UK, -np.inf)
        num_bad = np.isnan(score_UK).any(1).sum()
        if num_bad:
            raise FloatingPointError(f"the scores of {num_bad} users are not numbers (NaN)")
        return Lists(item_UK, score_UK)


class ListMaker(abc.ABC):
    """Makes lists of one length by one model."""

    def __init__(self, num_items: int, max_len: int, k: int, allowed_V: np.ndarray | None):
        """Takes the lists' length, at least 1, and which items [V] may be listed; None: all."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        self.num_items, self.k = num_items, min(k, num_items)
        self.allowed_V = allowed_V
        self._max_len, self._capacity = max_len, BlockShapes()

    @property
    @abc.abstractmethod
    def block_users(self) -> int:
        """Users that are best given at a time."""

    @abc.abstractmethod
    def _start(self, queries: Queries) -> Any:
        """Items [U, K] and scores [U, K] of as many users as the block has."""

    def start(self, queries: Queries) -> PendingLists:
        """Starts to make the lists of a block of at most `block_users`, and does not wait."""
        size = self._capacity.users(queries.num_users, self.block_users)
        known_U = queries.inputs.lengths > 0
        return PendingLists(known_U, self._start(filled_up(queries, size)))

    def _packed(self, queries: Queries, num_shards: int, platform: str) -> EvaluationSet:
        data = pack_queries(queries, self._max_len, num_shards, platform=platform)
        return self._capacity.fitted(data)


class TrainedLists(ListMaker):
    """Lists by a trained model, on all devices of a layout."""

    def __init__(
        self,
        recommender: Recommender,
        params: Params,
        hparams: HParams,
        relations: ItemRelations | None,
        k: int,
        *,
        allowed_V: np.ndarray | None = None,
        layout: DeviceLayout,
    ):
        super().__init__(recommender.num_items, recommender.max_len, k, allowed_V)
        self._layout = layout
        self._params, self._relations = place((params, relations), layout, self.num_items)
        self._hparams, self.allowed_V = layout.replicate((hparams, allowed_V))
        self._program = ranking_program(recommender, layout)

    @property
    def block_users(self) -> int:
        """Users that are best given at a time."""
        rows = chunk_rows(1 << 30, self.num_items, self._layout.platform)
        return BLOCK_CHUNKS * rows * self._layout.num_shards

    def _start(self, queries: Queries) -> Any:
        data = self._packed(queries, self._layout.num_shards, self._layout.platform)
        data = self._layout.shard(data, axis=1)
        return self._program(
            self._params,
            self._hparams,
            data,
            self._relations,
            self.allowed_V,
            score_fn=best_items_fn(self.k),
        )


class CountedLists(ListMaker):
    """Lists by a counted model, of the items that score above 0."""

    def __init__(
        self, model: CountedModel, max_len: int, k: int, *, allowed_V: np.ndarray | None = None
    ):
        super().__init__(model.matrix.shape[0], max_len, k, allowed_V)
        self._model = model

    @property
    def block_users(self) -> int:
        """Users that are best given at a time."""
        return BLOCK_CHUNKS * chunk_rows(1 << 30, self.num_items, "cpu")

    def _start(self, queries: Queries) -> Any:
        data = self._packed(queries, 1, "cpu")
        score_fn = listed_scores(best_items_fn(self.k))
        return map_counted_scores(self._model, queries, data, self.allowed_V, score_fn)


class BlockShapes:
    """Sizes of the blocks so far: later ones are filled up to them."""

    def __init__(self):
        self._users, self._rows, self._pairs = 0, 0, {"own": 0, "shared": 0}

    def users(self, needed: int, most: int) -> int:
        """U of a block: a power of two, or that of a whole block if there was one."""
        self._users = max(self._users, min(most, 1 << (needed - 1).bit_length() if needed else 1))
        return max(self._users, needed)

    def fitted(self, data: EvaluationSet) -> EvaluationSet:
        """The same users with room to spare, in shapes that other blocks have too."""
        inputs = data.chunks.inputs
        self._rows = max(self._rows, round_up(inputs.item.shape[2]))
        behind = ((0, 0), (0, 0), (0, self._rows - inputs.item.shape[2]), (0, 0))
        inputs = inputs.replace(
            item=np.pad(inputs.item, behind),
            position=np.pad(inputs.position, behind),
            segment_ids=np.pad(inputs.segment_ids, behind, constant_values=-1),
        )
        seen = {name: self._fitted_pairs(name, getattr(data.seen, name)) for name in self._pairs}
        return data.replace(
            chunks=data.chunks.replace(inputs=inputs), seen=data.seen.replace(**seen)
        )

    def _fitted_pairs(self, name: str, pairs: PairList) -> PairList:
        used = len(pairs.user) - pairs.at_a_time
        self._pairs[name] = max(self._pairs[name], 1 << (used - 1).bit_length() if used else 1)
        at_a_time = min(PAIRS_AT_A_TIME, self._pairs[name])
        behind = ((0, self._pairs[name] + at_a_time - used), (0, 0))
        # Which pairs are a chunk's is known by their rows: what stands behind is never read.
        user, item = (np.pad(each[:used], behind) for each in (pairs.user, pairs.item))
        return PairList(user, item, at_a_time)


def filled_up(queries: Queries, num_users: int) -> Queries:
    """The same with users of empty histories behind, up to U = `num_users`."""
    behind = (0, num_users - queries.num_users)

    def longer(slices: Slices) -> Slices:
        return Slices(np.pad(slices.begin, behind), np.pad(slices.end, behind))

    return Queries(
        queries.items,
        queries.num_items,
        longer(queries.inputs),
        longer(queries.seen),
        np.pad(queries.targets, behind),
        queries.traits and queries.traits.filled_up(num_users),
    )
