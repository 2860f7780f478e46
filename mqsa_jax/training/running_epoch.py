"""An epoch in flight: its steps and its validation, handed to the devices and not waited for.

And what it came to: the numbers of its line in a run's history.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from mqsa_jax.data.batches import Batch
from mqsa_jax.losses.metrics import summarise
from mqsa_jax.pytree import pytree_dataclass
from mqsa_jax.training.objective import Losses
from mqsa_jax.training.state import TrainState

DIVERGED = 10.0
"""Ranking loss of an epoch, in units of that of guessing, from which training has diverged.

Initial scores are all but equal, so that training begins at the loss of guessing, log(V + 1) with
the padding class, and reduces it; even a learning rate that is too high for learning anything stays
near it. The ranking loss alone is compared: l2, distillation (logits are divided by tau) and graph
regularisation may be large in a run that ranks well.
"""
SPEED = ("seconds", "step_ms", "positions_per_second", "data_wait_share", "device_memory_mib")
"""Numbers of an epoch that differ each time it is trained; see `speed_line`."""
Item = TypeVar("Item")
_END = object()


@pytree_dataclass
class RunningEpoch:
    """What an epoch will have come to; of a population, with a first axis P."""

    state: TrainState
    """After the last step."""
    losses: list[Losses]
    """Of the steps of each program, [steps] or [P, steps]."""
    ranks: Float[Array | np.ndarray, "..."]
    """Of the validation targets, as `map_user_scores` gives them."""
    began: float = struct.field(pytree_node=False)
    """When the devices had all of it, compiled, on the clock of `time.perf_counter`; or if that
    was waited for, when it started."""
    work: "Work" = struct.field(pytree_node=False)
    """What was handed to the devices."""

    def all_losses(self) -> Losses:
        """The losses of all steps, NumPy arrays [steps] or [P, steps]; waits for the devices."""
        return all_losses(self.losses)


@dataclasses.dataclass
class Work:
    """What an epoch handed to the devices, and how long its batches were waited for."""

    steps: int = 0
    positions: float = 0.0
    """Real positions, of all devices and trials."""
    waited: float = 0.0
    """Seconds; the devices may have had an earlier epoch to work on meanwhile."""

    def waiting_for(self, stacks: Iterable[Batch]) -> Iterator[Batch]:
        """The stacks, with the time that each is waited for counted."""
        stacks = iter(stacks)
        while True:
            asked = time.perf_counter()
            batches = next(stacks, _END)
            self.waited += time.perf_counter() - asked
            if batches is _END:
                return
            yield batches

    def add(self, batches: Batch) -> None:
        """Counts stacked batches [..., steps]."""
        self.steps += batches.num_positions.shape[-1]
        self.positions += float(np.asarray(batches.num_positions).sum())


def all_losses(parts: list[Losses]) -> Losses:
    """Losses of several programs one after the other, as NumPy arrays; waits for the devices."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *jax.device_get(parts))


def _go_on(state: TrainState, losses: list[Losses]) -> None:
    """What `epoch_starter` does between programs if it is given nothing else."""


def epoch_starter(
    stacks: Iterator[Iterable[Batch]],
    train: Callable[[TrainState, Batch], tuple[TrainState, Losses]],
    validate: Callable[[TrainState], Array | np.ndarray],
    between: Callable[[TrainState, list[Losses]], None] = _go_on,
    done: list[Losses] | None = None,
    stacks_ahead: int | None = None,
) -> Callable[[TrainState], RunningEpoch]:
    """A function that starts the next epoch from a state, and waits for nothing but `between`.

    Args:
      stacks: the stacked batches of each epoch; drawn and packed in a thread, an epoch ahead.
      train: the compiled steps of a stack.
      validate: the compiled ranks of the validation targets.
      between: called before each program of an epoch but the first, with the state that it starts
        from and the losses of the epoch so far.
      done: losses of the first epoch's steps before its first stack, if it was under way.
      stacks_ahead: most stacks that the devices hold beside the one they work on: the function then
        waits for the others; None: any number.
    """
    stacks = _prefetched(stacks)
    earlier = [done or []]

    def start_epoch(state: TrainState) -> RunningEpoch:
        losses, work = earlier.pop() if earlier else [], Work()
        began = time.perf_counter()
        asked = time.perf_counter()
        epoch_stacks = next(stacks)
        work.waited += time.perf_counter() - asked
        for number, batches in enumerate(work.waiting_for(epoch_stacks)):
            if number > 0:
                between(state, losses)
            work.add(batches)
            state, part = train(state, batches)
            losses.append(part)
            if stacks_ahead is not None and len(losses) > stacks_ahead:
                jax.block_until_ready(losses[-1 - stacks_ahead])
        if stacks_ahead is None:
            began = time.perf_counter()
        return RunningEpoch(state, losses, validate(state), began, work)

    return start_epoch


def _prefetched(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made in another thread while the one before it is in use."""
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, items, _END)
        while (item := upcoming.result()) is not _END:
            upcoming = pool.submit(next, items, _END)
            yield item


def losses_line(losses: Losses, step: int, num_items: int) -> dict[str, Any]:
    """Step and mean losses of an epoch.

    Args:
      losses: of every step, NumPy arrays [steps].
      step: steps done at its end, since training began.
      num_items: V.

    Raises:
      FloatingPointError: naming the step, if a loss is not a number, or if training has diverged.
    """
    wrong = np.flatnonzero(~np.isfinite(losses.loss))
    if wrong.size:
        first = step - losses.loss.size + int(wrong[0]) + 1
        raise FloatingPointError(f"the loss of step {first} is {losses.loss[wrong[0]]}")
    means = {name: float(getattr(losses, name).mean()) for name in ("loss", "loss_rec", "loss_kd")}
    guessing = math.log(num_items + 1)
    if means["loss_rec"] > DIVERGED * guessing:
        raise FloatingPointError(
            f"training has diverged by step {step}: the mean ranking loss of the epoch is "
            f"{means['loss_rec']:.4g}, that of guessing {guessing:.4g}"
        )
    return {"step": step, **means}


def speed_line(work: Work, seconds: float, devices: Sequence[Any]) -> dict[str, float]:
    """How fast an epoch was, and what it took.

    Args:
      work: of the epoch.
      seconds: from its start to its end, with the validation of the epoch before.
      devices: those of this process that work, as JAX gives them.

    Returns:
      The numbers by the names in `SPEED`: seconds, milliseconds a step, positions a second, share
      of the seconds that batches were waited for, and, where devices tell, the most that one of
      them has held so far.
    """
    seconds = max(seconds, 1e-9)
    line = {
        "seconds": round(seconds, 3),
        "step_ms": round(1000 * seconds / max(work.steps, 1), 3),
        "positions_per_second": round(work.positions / seconds, 1),
        "data_wait_share": round(min(work.waited / seconds, 1.0), 4),
    }
    stats = [device.memory_stats() or {} for device in devices]
    peaks = [each["peak_bytes_in_use"] for each in stats if "peak_bytes_in_use" in each]
    return line | ({"device_memory_mib": round(max(peaks) / 2**20, 1)} if peaks else {})


def metrics_line(split: str, ranks_U: np.ndarray) -> dict[str, float]:
    """What the ranks of all users [U] come to, named after the split: `valid_NDCG@20`."""
    return {f"{split}_{name}": value for name, value in summarise(ranks_U).items()}
