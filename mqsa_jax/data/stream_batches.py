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

from mqsa_jax.data.batches import Batch, BatchSource, like_blocks
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.packing import Capacity
from mqsa_jax.data.stream_order import StreamOrder
from mqsa_jax.data.stream_packer import Packer, Span
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

    def packer(self) -> Packer:
        """Packs the steps of this process."""
        return Packer(self.data, self.order, self.like)

    def capacity(self) -> Capacity:
        """Sizes that hold a sample of the first epoch's steps with some margin."""
        packer = Packer(self.data, self.order, dataclasses.replace(self.like, shards=None))
        steps = np.arange(min(SAMPLED_STEPS, self.num_steps))
        needed = (
            dataclasses.astuple(packer.draft(Span.of(0, block)).needed())
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
        spans: list[list[Span]] = []
        for epoch in range(first, last):
            done = first_step if epoch == first else 0
            blocks = like_blocks(np.arange(self.num_steps), most, done)
            spans.append([Span.of(epoch, block) for block in blocks])
        packer = self.packer()
        stacks = _Stacks(packer, [span for epoch in spans for span in epoch], capacity)
        elements = _started(stacks, self.workers)
        for number, epoch in enumerate(spans):
            yield self._received(elements, epoch, packer, capacity, number == len(spans) - 1)

    def _received(
        self,
        elements: Any,
        spans: list[Span],
        packer: Packer,
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


@dataclasses.dataclass(frozen=True, eq=False)
class _Stacks:
    """What Grain reads from: `spans` by index."""

    packer: Packer
    spans: list[Span]
    capacity: Capacity

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> dict[str, Any]:
        # An error would come back from a worker as one of Grain's own.
        try:
            span = self.spans[index]
            draft = self.packer.draft(span)
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
