"""An epoch in flight: its steps and its validation, handed to the devices and not waited for."""

import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from mqsa_jax.data.batches import Batch
from mqsa_jax.data.prefetch import prefetched
from mqsa_jax.pytree import pytree_dataclass
from mqsa_jax.training.state import TrainState
from mqsa_jax.training.step import Losses


@pytree_dataclass
class RunningEpoch:
    """What an epoch will have come to; of a population, with a first axis P."""

    state: TrainState
    """After the last step."""
    losses: list[Losses]
    """Of the steps of each program, [steps] or [P, steps]."""
    ranks: Float[Array, "..."]
    """Of the validation targets, as `map_user_scores` gives them."""
    began: float = struct.field(pytree_node=False)
    """When the devices had all of it, compiled, on the clock of `time.perf_counter`."""

    def all_losses(self) -> Losses:
        """The losses of all steps, NumPy arrays [steps] or [P, steps]; waits for the devices."""
        parts = jax.device_get(self.losses)
        return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts)


def epoch_runner(
    stacks: Iterator[Sequence[Batch]],
    train: Callable[[TrainState, Batch], tuple[TrainState, Losses]],
    validate: Callable[[TrainState], Array],
) -> Callable[[TrainState], RunningEpoch]:
    """A function that starts the next epoch from a state, and does not wait.

    Args:
      stacks: the stacked batches of each epoch; drawn and packed in a thread, an epoch ahead.
      train: the compiled steps of a stack.
      validate: the compiled ranks of the validation targets.
    """
    stacks = prefetched(stacks)

    def run_epoch(state: TrainState) -> RunningEpoch:
        losses = []
        for batches in next(stacks):
            state, part = train(state, batches)
            losses.append(part)
        began = time.perf_counter()
        return RunningEpoch(state, losses, validate(state), began)

    return run_epoch
