"""Traces of training steps, for TensorBoard, XProf and Perfetto."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from mqsa_jax.data.batches import Batch
from mqsa_jax.training.objective import Losses
from mqsa_jax.training.state import TrainState

TrainProgram = Callable[[TrainState, Batch], tuple[TrainState, Losses]]


class Profiler:
    """A context in which a trace of some steps is written, from the second program on.

    The first program waits for compilation. Steps are traced in whole programs.
    """

    def __init__(self, folder: Path, steps: int | None):
        """Traces `steps` at least into a folder; None: nothing."""
        self._folder, self._steps = folder, steps
        self._programs, self._traced = 0, 0

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._running:
            jax.profiler.stop_trace()
        if self._steps and not self._traced and error == (None, None, None):
            warnings.warn(
                "nothing was profiled: training ended with its first program; give more epochs",
                UserWarning,
                stacklevel=2,
            )

    @property
    def _running(self) -> bool:
        return 0 < self._traced < (self._steps or 0)

    def over(self, train: TrainProgram) -> TrainProgram:
        """The same program, traced when it is time."""
        if not self._steps:
            return train

        def traced(state: TrainState, batches: Batch) -> tuple[TrainState, Losses]:
            self._programs += 1
            if self._programs < 2 or self._traced >= self._steps:
                return train(state, batches)
            if not self._traced:
                jax.block_until_ready(state)
                jax.profiler.start_trace(str(self._folder), create_perfetto_trace=True)
            state, losses = jax.block_until_ready(train(state, batches))
            self._traced += losses.loss.size
            if self._traced >= self._steps:
                jax.profiler.stop_trace()
            return state, losses

        return traced
