"""Steps of a stream: their users' windows read, their users packed.

Shape legend: U users, N items of all of them together.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from mqsa_jax.data import splits
from mqsa_jax.data.batches import Batch, BatchSource, Draft
from mqsa_jax.data.packing import Capacity
from mqsa_jax.data.splits import Slices
from mqsa_jax.data.stream_order import StreamOrder, Window
from mqsa_jax.data.streamed import StreamedHistories


@dataclasses.dataclass(frozen=True)
class Span:
    """Steps `begin` to `end - 1` of an epoch."""

    epoch: int
    begin: int
    end: int

    @classmethod
    def of(cls, epoch: int, steps: np.ndarray) -> "Span":
        """Those of a run of steps."""
        return cls(epoch, int(steps[0]), int(steps[-1]) + 1)


@dataclasses.dataclass(frozen=True, eq=False)
class _Loaded:
    """A window in memory."""

    epoch: int
    window: Window
    items: np.ndarray
    """int32 [N] items that its users train on, user after user in the order of the data."""
    bounds: np.ndarray
    """int64 [U+1] where each user's begin."""
    permutation: np.ndarray
    """[U] user at each place."""


@dataclasses.dataclass(frozen=True, eq=False)
class Packer:
    """Reads and packs any steps; keeps the last window of each lane."""

    data: StreamedHistories
    order: StreamOrder
    like: BatchSource
    """Settings, and the teacher's rows."""
    _loaded: dict[int, _Loaded] = dataclasses.field(default_factory=dict)

    def draft(self, span: Span) -> Draft:
        """Packs the steps of a span."""
        size, steps = self.like.batch_size, span.end - span.begin
        first, last = self._places(span)
        item_N, kept = self._gathered(span.epoch, first, last)
        inputs = Slices(kept.begin, np.maximum(kept.end - 1, kept.begin))
        users = np.arange(steps * size)
        users[last - first :] = -1
        return Draft.of(self.like, item_N, inputs, users.reshape(steps, size))

    def laid_out(self, span: Span, draft: Draft, capacity: Capacity) -> Batch:
        """The batch of a draft, with the positions of the shards of all processes."""
        batch = draft.batch(capacity)
        if self.like.shards is None:
            return batch
        return batch.replace(num_positions=self._num_positions(span))

    def batch(self, span: Span, capacity: Capacity) -> Batch:
        """Packs a span and lays it out at the given sizes."""
        return self.laid_out(span, self.draft(span), capacity)

    def _gathered(self, epoch: int, first: int, last: int) -> tuple[np.ndarray, Slices]:
        """Training items, and the slices of them that the users at the places `first` to `last - 1`
        of an epoch have; empty for those in the shards of other processes."""
        begin_U = np.zeros(last - first, np.int64)
        length_U = np.zeros(last - first, np.int64)
        parts, total = [np.zeros(0, np.int32)], 0
        for window, place_U in self._windows(first, last):
            slot_U = place_U * self.order.num_lanes + window.lane
            own_U = self._own(slot_U)
            if not own_U.any():
                continue
            loaded = self._load(epoch, window)
            user_U = loaded.permutation[place_U[own_U] - window.begin]
            chosen = Slices(loaded.bounds[user_U], loaded.bounds[user_U + 1])
            index_U = slot_U[own_U] - first
            length_U[index_U] = chosen.lengths
            begin_U[index_U] = total + np.cumsum(chosen.lengths) - chosen.lengths
            parts.append(loaded.items[chosen.flat_index()[1]])
            total += parts[-1].size
        return np.concatenate(parts), Slices(begin_U, begin_U + length_U)

    def _places(self, span: Span) -> tuple[int, int]:
        """The first place in the epoch of a span's users, and that behind the last one."""
        size = self.like.batch_size
        return span.begin * size, min(span.end * size, self.data.num_users)

    def _windows(self, first: int, last: int) -> Iterator[tuple[Window, np.ndarray]]:
        """Each window that the places `first` to `last - 1` of an epoch lie in, and which places of
        its lane those are."""
        lanes = self.order.num_lanes
        for lane in range(lanes):
            place = -((lane - first) // lanes)
            behind = -((lane - last) // lanes)
            while place < behind:
                window = self.order.window_of(lane, place)
                end = min(window.end, behind)
                yield window, np.arange(place, end)
                place = end

    def _own(self, slot_U: np.ndarray) -> np.ndarray:
        """bool [U], whether this process packs the shard of each place of an epoch."""
        if self.like.shards is None:
            return np.ones(slot_U.size, bool)
        shard_U = slot_U % self.like.batch_size % self.like.num_shards
        return np.isin(shard_U, self.like.shards)

    def _load(self, epoch: int, window: Window) -> _Loaded:
        loaded = self._loaded.get(window.lane)
        if loaded is not None and (loaded.epoch, loaded.window) == (epoch, window):
            return loaded
        # Let go of the window before this one first: the two need not be in memory together.
        self._loaded.pop(window.lane, None)
        items, lengths = [], []
        for piece in self.order.pieces(epoch, window):
            group = self.data.groups[piece.group]
            histories, _ = group.read(None, self.data.item_ids)
            kept = splits.recent(histories, "train", self.like.max_len)[piece.begin : piece.end]
            items.append(histories.items[kept.flat_index()[1]])
            lengths.append(kept.lengths)
        bounds = np.append(0, np.cumsum(np.concatenate(lengths)))
        permutation = self.order.permutation(epoch, window)
        loaded = _Loaded(epoch, window, np.concatenate(items), bounds, permutation)
        self._loaded[window.lane] = loaded
        return loaded

    def _num_positions(self, span: Span) -> np.ndarray:
        """float32 [steps] real positions of all shards of each step."""
        size = self.like.batch_size
        first, last = self._places(span)
        position_U = np.zeros((span.end - span.begin) * size, np.int64)
        for window, place_U in self._windows(first, last):
            users = self.order.users(span.epoch, window)[place_U - window.begin]
            trained_U = self.data.trained_U[users].astype(np.int64)
            slot_U = place_U * self.order.num_lanes + window.lane - first
            position_U[slot_U] = np.maximum(np.minimum(trained_U, self.like.max_len) - 1, 0)
        return position_U.reshape(-1, size).sum(1).astype(np.float32)
