"""Batches of training users: drawn, packed and laid out for the devices, on the host."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float32, Int32

from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.packing import Capacity, PackedRows, pack, ragged
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.data.user_traits import UserTraits
from mqsa_jax.pytree import pytree_dataclass


@pytree_dataclass
class Batch:
    """Users of one step, or of many with one more leading axis; NumPy arrays on the host.

    Shape legend: S shards, one a device; R rows; T positions; I distinct items; M transitions.
    """

    inputs: Sequences
    """[S, R, T] packed histories, each without its newest item."""
    target: Int32[Array, "*steps S R T"]
    """Next item; 0 at padding."""
    distinct_item: Int32[Array, "*steps S I"]
    """Each input item of a shard once; 0 behind the last."""
    distinct_count: Float32[Array, "*steps S I"]
    """How often it occurs there; 0 behind the last."""
    num_positions: Float32[Array, "*steps"]
    """Real positions of all shards together."""
    successor_row: Int32[Array, "*steps S M"]
    """Of each transition from a distinct item: its column in `distinct_item`; ascending."""
    successor: Int32[Array, "*steps S M"]
    """Item that it leads to; 0 behind the last."""
    successor_count: Float32[Array, "*steps S M"]
    """How often it was counted, for the teacher (`losses/teacher.py`); 0 behind the last."""
    traits: UserTraits | None = None
    """[S, B] of the users, if anything is known of them."""


@dataclasses.dataclass(frozen=True, eq=False)
class BatchSource:
    """Every epoch's batches, each a function of (data, seed, epoch, step) alone."""

    histories: Histories
    counts: TransitionCounts
    """What the teacher learns from; a batch carries the rows of its items."""
    batch_size: int
    max_len: int
    seed: int
    num_shards: int
    shards: range | None = None
    """Those that this process packs; None: all."""

    @property
    def own_shards(self) -> range:
        """Those that this process packs."""
        return range(self.num_shards) if self.shards is None else self.shards

    @functools.cached_property
    def transitions(self) -> TransitionCounts:
        """`counts` as NumPy arrays, without unused capacity."""
        return jax.tree.map(np.asarray, self.counts.trimmed())

    @functools.cached_property
    def num_successors(self) -> np.ndarray:
        """[V] transitions counted from each item."""
        return np.diff(self.transitions.row_start)

    @property
    def num_steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.histories.num_users // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """[steps, batch_size] user indices in the order of an epoch; -1 fills the last step."""
        users = np.random.default_rng([self.seed, epoch]).permutation(self.histories.num_users)
        padding = self.num_steps * self.batch_size - users.size
        return np.pad(users, (0, padding), constant_values=-1).reshape(self.num_steps, -1)

    def capacity(self) -> Capacity:
        """Sizes that hold the first epoch with some margin; nearly always, every other one."""
        inputs = splits.training_inputs(self.histories, self.max_len)
        needed = (
            dataclasses.astuple(Draft.of(self, self.histories.items, inputs, users).needed())
            for users in like_blocks(self.order(0), 256)
        )
        # Rounded once, with the margin: rounding each block's too would add up to 1/8 again.
        return Capacity(*map(max, zip(*needed, strict=True))).margined()

    def batches(
        self, epoch: int, steps_per_program: int, capacity: Capacity, first_step: int = 0
    ) -> Iterator[Batch]:
        """Stacked batches of an epoch, [steps, ...] each, at most `steps_per_program` steps long.

        They are NumPy arrays. Sizes beyond `capacity` grow for that stack alone. The first
        `first_step` steps are left out; the others are the same batches with them or without.
        """
        for (batch,) in alike_batches([self], epoch, steps_per_program, capacity, first_step):
            yield batch

    def epochs(
        self, first: int, last: int, steps_per_program: int, first_step: int = 0
    ) -> Iterator[list[Batch]]:
        """The stacked batches of each of the epochs `first` to `last - 1`; see `batches`.

        Args:
          first: epoch, from 0.
          last: epoch behind the last one.
          steps_per_program: steps of a stack at most.
          first_step: of the first epoch, to go on within it.
        """
        capacity = self.capacity()
        for epoch in range(first, last):
            done = first_step if epoch == first else 0
            yield list(self.batches(epoch, steps_per_program, capacity, done))


def alike_batches(
    sources: Sequence[BatchSource],
    epoch: int,
    steps_per_program: int,
    capacity: Capacity,
    first_step: int = 0,
) -> Iterator[list[Batch]]:
    """Stacked batches of several sources, one each, that may be stacked again: of equal sizes.

    The sources differ in their seeds alone. The first `first_step` steps are left out.
    """
    histories = sources[0].histories
    inputs = splits.training_inputs(histories, sources[0].max_len)
    blocks = [like_blocks(source.order(epoch), steps_per_program, first_step) for source in sources]
    for users in zip(*blocks, strict=True):
        drafts = [
            Draft.of(source, histories.items, inputs, chosen)
            for source, chosen in zip(sources, users, strict=True)
        ]
        enough = functools.reduce(Capacity.holding, (draft.needed() for draft in drafts), capacity)
        yield [draft.batch(enough) for draft in drafts]


def like_blocks(order: np.ndarray, most: int, first_step: int = 0) -> list[np.ndarray]:
    """Splits the steps into as few blocks of like length as `most` allows.

    The first `first_step` steps are left out; the others keep their borders.
    """
    blocks, begin = [], 0
    for block in np.array_split(order, -(-len(order) // most)):
        begin, done = begin + len(block), max(first_step - begin, 0)
        if done < len(block):
            blocks.append(block[done:])
    return blocks


@dataclasses.dataclass(frozen=True, eq=False)
class Draft:
    """Packed steps whose sizes are not fixed yet. G groups are steps × shards of this process."""

    source: BatchSource
    """Settings, and the teacher's rows."""
    items: np.ndarray
    """[N] int32 items of the users' histories."""
    num_steps: int
    user_GB: np.ndarray
    """[G, B] user of each slot; -1: none."""
    rows: PackedRows
    group_I: np.ndarray
    """[I] group of each distinct item."""
    item_I: np.ndarray
    count_I: np.ndarray

    @classmethod
    def of(
        cls, source: BatchSource, items: np.ndarray, inputs: splits.Slices, users: np.ndarray
    ) -> "Draft":
        """Packs users; slot n of a step goes to shard n mod S.

        Args:
          source: settings, and the teacher's rows; its histories are not read.
          items: [N] int32 items of the users' histories.
          inputs: slices of `items`, by user; the target of the item at index n is that at n + 1.
          users: [steps, batch_size]; -1 is padding.
        """
        steps, size = users.shape
        shards, own = source.num_shards, source.own_shards
        users = np.pad(users, ((0, 0), (0, -size % shards)), constant_values=-1)
        slot = np.broadcast_to(np.arange(users.shape[1]), users.shape)

        def by_shard(values: np.ndarray) -> np.ndarray:
            every = values.reshape(steps, -1, shards).swapaxes(1, 2)
            return every[:, own.start : own.stop].reshape(steps * len(own), -1)

        users, slot = by_shard(users), by_shard(slot)
        slices = inputs[users]
        end = np.where(users < 0, slices.begin, slices.end)
        rows = pack(splits.Slices(slices.begin, end), slot, source.max_len)
        num_items = source.histories.num_items
        group_N = rows.index // rows.segment_ids[0].size
        key_N = group_N * num_items + items[rows.source]
        key_I, count_I = np.unique(key_N, return_counts=True)
        group_I, item_I = np.divmod(key_I, num_items)
        return cls(source, items, steps, users, rows, group_I, item_I, count_I)

    def needed(self) -> Capacity:
        """Sizes that hold the draft."""
        groups = len(self.rows.segment_ids)
        transitions = np.bincount(self.group_I, self.source.num_successors[self.item_I], groups)
        distinct = np.bincount(self.group_I, minlength=groups)
        return Capacity(
            self.rows.segment_ids.shape[1],
            int(distinct.max(initial=1)),
            int(transitions.max(initial=1)),
        )

    def batch(self, capacity: Capacity) -> Batch:
        """Lays the steps out at the given sizes, [steps, S, ...]."""
        groups = len(self.rows.segment_ids)

        def rows(values: np.ndarray, fill: int) -> np.ndarray:
            spare = ((0, 0), (0, capacity.rows - values.shape[1]), (0, 0))
            return self._by_step(np.pad(values, spare, constant_values=fill))

        column_I, _ = ragged(self.group_I, groups)
        index_I = self.group_I, column_I
        distinct = groups, capacity.distinct
        inputs = Sequences(
            item=rows(self.rows.scatter(self.items[self.rows.source]), 0),
            position=rows(self.rows.position, 0),
            segment_ids=rows(self.rows.segment_ids, -1),
        )
        return Batch(
            inputs=inputs,
            target=rows(self.rows.scatter(self.items[self.rows.source + 1]), 0),
            distinct_item=self._filled(distinct, index_I, self.item_I, np.int32),
            distinct_count=self._filled(distinct, index_I, self.count_I, np.float32),
            num_positions=(inputs.segment_ids >= 0).sum((1, 2, 3)).astype(np.float32),
            traits=self._traits(),
            **self._successors(column_I, capacity),
        )

    def _traits(self) -> UserTraits | None:
        user_SB = self._by_step(self.user_GB)
        # Slot n of a step is the column n // S of its shard.
        return UserTraits.of(self.source.histories.traits, user_SB, self.source.num_shards)

    def _successors(self, column_I: np.ndarray, capacity: Capacity) -> dict[str, np.ndarray]:
        """The transitions from the distinct items, group by group."""
        counts = self.source.transitions
        length_I = self.source.num_successors[self.item_I]
        end_I = np.cumsum(length_I)
        # Entries of an item lie one after the other.
        shift_I = counts.row_start[self.item_I] - (end_I - length_I)
        entry_M = np.arange(length_I.sum()) + shift_I.repeat(length_I)
        # Those of a group too, so that they are copied a group at a time.
        size_G = np.bincount(self.group_I, length_I, len(self.rows.segment_ids)).astype(int)
        end_G = np.cumsum(size_G)

        def laid_out(values_M: np.ndarray, fill: int = 0) -> np.ndarray:
            out = np.full((len(size_G), capacity.transitions), fill, values_M.dtype)
            for out_M, end, size in zip(out, end_G, size_G, strict=True):
                out_M[:size] = values_M[end - size : end]
            return self._by_step(out)

        return dict(
            # Rows ascend behind the last transition too.
            successor_row=laid_out(
                column_I.astype(np.int32).repeat(length_I), capacity.distinct - 1
            ),
            successor=laid_out(counts.successor[entry_M].astype(np.int32, copy=False)),
            successor_count=laid_out(counts.count[entry_M].astype(np.float32, copy=False)),
        )

    def _filled(
        self, shape: tuple[int, int], index: tuple, values: np.ndarray, dtype: type
    ) -> np.ndarray:
        """[steps, S, *] the values at an index of [G, *], and 0 elsewhere."""
        out = np.zeros(shape, dtype)
        out[index] = values
        return self._by_step(out)

    def _by_step(self, values: np.ndarray) -> np.ndarray:
        shards = len(self.source.own_shards)
        return values.reshape(self.num_steps, shards, *values.shape[1:])
