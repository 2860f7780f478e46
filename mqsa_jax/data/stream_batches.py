"""Batches of a stream: the users of a window read, packed and laid out, by Grain.

Every stack of batches is a function of (data, seed, epoch, step) alone, whatever the number of
workers and processes. So the position of a run is the number of its steps, which its checkpoints
hold anyway: nothing of an iterator's state has to be saved or restored.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from mqsa_jax.data import splits
from mqsa_jax.data.batches import Batch, BatchSource, Capacity, Draft, like_blocks
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.splits import Slices
from mqsa_jax.data.stream_order import StreamOrder, Window
from mqsa_jax.data.streamed import StreamedHistories
from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.errors import UserError

STACK_BYTES = 1 << 26
"""Bytes of a stack at most, if a step does not take more: two are on the devices at a time."""
STACKS_AHEAD = 2
"""Stacks that are ready before they are asked for."""
SAMPLED_STEPS = 64
"""Steps of the first epoch that static sizes are found from. Each has users of row groups from all
over the data."""

Agree = Callable[[Capacity], Capacity]
"""The largest sizes that any process needs, from those that this one needs."""


def _alone(needed: Capacity) -> Capacity:
    return needed


@dataclasses.dataclass(frozen=True, eq=False)
class StreamBatches:
    """Every epoch's batches of a stream, as those of `BatchSource`."""

    data: StreamedHistories
    like: BatchSource
    """Settings of the batches, and the teacher's rows; its histories are empty."""
    window_users: int
    """Users that are shuffled together."""
    workers: int = 0
    """Processes that read and pack; 0: a thread."""
    agree: Agree = _alone
    """Needed where `like.shards` are those of one of several processes. It is called once a stack,
    in the same order by all of them."""

    @classmethod
    def of(
        cls,
        data: StreamedHistories,
        window_users: int,
        workers: int,
        counts: TransitionCounts,
        *settings: int,
        agree: Agree = _alone,
        shards: range | None = None,
    ) -> "StreamBatches":
        """Batches of a stream.

        Args:
          data: the stream.
          window_users: see the class.
          workers: see the class.
          counts: what the teacher learns from.
          settings: batch size, `max_len`, seed and number of shards of `BatchSource`.
          agree: see the class.
          shards: those that this process packs; None: all.
        """
        # Arrays of the host: workers must not look for devices.
        counts = jax.tree.map(np.asarray, counts.trimmed())
        none = Histories(
            items=np.zeros(0, np.int32),
            offsets=np.zeros(1, np.int64),
            user_ids=np.zeros(0, np.int64),
            item_ids=data.item_ids,
        )
        like = BatchSource(none, counts, *settings, shards=shards)
        return cls(data, like, window_users, workers, agree)

    @property
    def num_steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.data.num_users // self.like.batch_size)

    @property
    def order(self) -> StreamOrder:
        """The order of the users."""
        return StreamOrder(self.data.group_sizes, self.window_users, self.like.seed)

    def capacity(self) -> Capacity:
        """Sizes that hold a sample of the first epoch's steps with some margin."""
        with_all_shards = dataclasses.replace(self.like, shards=None)
        packer = _Packer.of(dataclasses.replace(self, like=with_all_shards))
        steps = np.arange(min(SAMPLED_STEPS, self.num_steps))
        needed = (
            dataclasses.astuple(packer.draft(0, int(block[0]), int(block[-1]) + 1).needed())
            for block in like_blocks(steps, 8)
        )
        return Capacity(*map(max, zip(*needed, strict=True))).margined()

    def epochs(
        self, first: int, last: int, steps_per_program: int, first_step: int = 0
    ) -> Iterator[Iterator[Batch]]:
        """The stacked batches of the epochs `first` to `last - 1`, to be taken in their order.

        Args:
          first: epoch, from 0.
          last: epoch behind the last one.
          steps_per_program: steps of a stack at most; fewer, if they are more than `STACK_BYTES`.
          first_step: of the first epoch, to go on within it.

        Raises:
          UserError: naming the file, if a shard is damaged or has changed.
        """
        capacity = self.capacity()
        most = min(steps_per_program, max(STACK_BYTES // self._step_bytes(capacity), 1))
        spans: list[list[_Span]] = []
        for epoch in range(first, last):
            steps = np.arange(first_step if epoch == first else 0, self.num_steps)
            blocks = like_blocks(steps, most) if len(steps) else []
            spans.append([_Span(epoch, int(b[0]), int(b[-1]) + 1) for b in blocks])
        packer = _Packer.of(self)
        stacks = _Stacks(packer, [span for epoch in spans for span in epoch], capacity)
        elements = _started(stacks, self.workers)
        for number, epoch in enumerate(spans):
            yield self._received(elements, epoch, packer, capacity, number == len(spans) - 1)

    def _received(
        self,
        elements: Any,
        spans: list["_Span"],
        packer: "_Packer",
        capacity: Capacity,
        is_last: bool,
    ) -> Iterator[Batch]:
        """The stacks of an epoch, of the same sizes in all processes."""
        for span in spans:
            element = next(elements)
            if "error" in element:
                raise UserError(element["error"])
            needed, batch = Capacity(*element["needed"].tolist()), element["batch"]
            if self.workers:
                # Grain's arrays lie in memory that is shared with the worker, and lent.
                batch = jax.tree.map(np.array, batch)
            agreed = self.agree(needed)
            if capacity.holding(agreed) != capacity.holding(needed):
                # Rare: another process needs more. Pack again, to sizes that hold its users too.
                batch = packer.batch(span, capacity.holding(agreed))
            if capacity.holding(agreed) != capacity:
                print(
                    f"epoch {span.epoch + 1}: a larger batch, its program is compiled", flush=True
                )
            yield batch
        if is_last:
            elements.close()

    def _step_bytes(self, capacity: Capacity) -> int:
        positions = capacity.rows * self.like.max_len
        shard = 16 * positions + 8 * capacity.distinct + 12 * capacity.transitions
        return shard * self.like.num_shards


@dataclasses.dataclass(frozen=True)
class _Span:
    """Steps `begin` to `end - 1` of an epoch."""

    epoch: int
    begin: int
    end: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Stacks:
    """What Grain reads from: `spans` by index."""

    packer: "_Packer"
    spans: list[_Span]
    capacity: Capacity

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> dict[str, Any]:
        # An error would come back from a worker as one of Grain's own.
        try:
            span = self.spans[index]
            draft = self.packer.draft(span.epoch, span.begin, span.end)
            needed = draft.needed()
            batch = self.packer.laid_out(span, draft, self.capacity.holding(needed))
            return {"needed": np.array(dataclasses.astuple(needed)), "batch": batch}
        except UserError as error:
            return {"error": str(error)}


def _started(stacks: _Stacks, workers: int) -> Any:
    """Grain's iterator over the stacks, which are made ahead of it."""
    # Imported late: it takes a second.
    import grain
    from absl import flags

    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=STACKS_AHEAD)
    elements = grain.MapDataset.source(stacks).to_iter_dataset(options)
    if workers:
        # Grain reads absl's flags, which are only there once a command line has been parsed.
        flags.FLAGS.mark_as_parsed()
        each = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
        elements = elements.mp_prefetch(each)
    return iter(elements)


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
class _Packer:
    """Reads and packs any steps; keeps the last window of each lane."""

    data: StreamedHistories
    order: StreamOrder
    like: BatchSource
    _loaded: dict[int, _Loaded] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, batches: StreamBatches) -> "_Packer":
        return cls(batches.data, batches.order, batches.like)

    def draft(self, epoch: int, begin: int, end: int) -> Draft:
        """Packs the steps `begin` to `end - 1`."""
        size = self.like.batch_size
        first, last = begin * size, min(end * size, self.data.num_users)
        item_N, kept = self._gathered(epoch, first, last)
        inputs = Slices(kept.begin, np.maximum(kept.end - 1, kept.begin))
        users = np.arange((end - begin) * size)
        users[last - first :] = -1
        return Draft.of(self.like, item_N, inputs, users.reshape(end - begin, size))

    def laid_out(self, span: _Span, draft: Draft, capacity: Capacity) -> Batch:
        """The batch of a draft, with the positions of the shards of all processes."""
        batch = draft.batch(capacity)
        if self.like.shards is None:
            return batch
        return batch.replace(num_positions=self._num_positions(span))

    def batch(self, span: _Span, capacity: Capacity) -> Batch:
        """Packs a span and lays it out at the given sizes."""
        return self.laid_out(span, self.draft(span.epoch, span.begin, span.end), capacity)

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

    def _num_positions(self, span: _Span) -> np.ndarray:
        """float32 [steps] real positions of all shards of each step."""
        size = self.like.batch_size
        first, last = span.begin * size, min(span.end * size, self.data.num_users)
        position_U = np.zeros((span.end - span.begin) * size, np.int64)
        for window, place_U in self._windows(first, last):
            users = self.order.users(span.epoch, window)[place_U - window.begin]
            trained_U = self.data.trained_U[users].astype(np.int64)
            slot_U = place_U * self.order.num_lanes + window.lane - first
            position_U[slot_U] = np.maximum(np.minimum(trained_U, self.like.max_len) - 1, 0)
        return position_U.reshape(-1, size).sum(1).astype(np.float32)
