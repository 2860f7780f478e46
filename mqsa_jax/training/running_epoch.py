"""An epoch in flight: its steps and its validation, handed to the devices and not waited for.

And what it came to: the numbers of its line in a run's history.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
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

    def all_losses(self) -> Losses:
        """The losses of all steps, NumPy arrays [steps] or [P, steps]; waits for the devices."""
        parts = jax.device_get(self.losses)
        return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts)


def epoch_starter(
    stacks: Iterator[Iterable[Batch]],
    train: Callable[[TrainState, Batch], tuple[TrainState, Losses]],
    validate: Callable[[TrainState], Array | np.ndarray],
    stacks_ahead: int | None = None,
) -> Callable[[TrainState], RunningEpoch]:
    """A function that starts the next epoch from a state, and does not wait.

    Args:
      stacks: the stacked batches of each epoch; drawn and packed in a thread, an epoch ahead.
      train: the compiled steps of a stack.
      validate: the compiled ranks of the validation targets.
      stacks_ahead: most stacks that the devices hold beside the one they work on: the function then
        waits for the others; None: any number.
    """
    stacks = _prefetched(stacks)

    def start_epoch(state: TrainState) -> RunningEpoch:
        losses, began = [], time.perf_counter()
        for batches in next(stacks):
            state, part = train(state, batches)
            losses.append(part)
            if stacks_ahead is not None and len(losses) > stacks_ahead:
                jax.block_until_ready(losses[-1 - stacks_ahead])
        if stacks_ahead is None:
            began = time.perf_counter()
        return RunningEpoch(state, losses, validate(state), began)

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


def metrics_line(split: str, ranks_U: np.ndarray) -> dict[str, float]:
    """What the ranks of all users [U] come to, named after the split: `valid_NDCG@20`."""
    return {f"{split}_{name}": value for name, value in summarise(ranks_U).items()}
