"""What a run saves and when: after each epoch, within long ones, and when it is asked to end."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mqsa_jax import hosts
from mqsa_jax.errors import StoppedError
from mqsa_jax.runs.best_checkpoint import ResumePoint
from mqsa_jax.runs.checkpoints import Checkpoints, Snapshot
from mqsa_jax.runs.history import best_epoch
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.objective import Losses
from mqsa_jax.training.running_epoch import all_losses
from mqsa_jax.training.state import TrainState
from mqsa_jax.training.stop_requests import StopRequests


class RunSaver:
    """The checkpoints of a run: of its epochs, and of steps within the epoch under way.

    Those within an epoch are deleted once the epoch itself is saved.
    """

    def __init__(self, experiment: Experiment, run_dir: RunDirectory):
        self._experiment, self._run_dir = experiment, run_dir
        self.epochs = Checkpoints(run_dir.checkpoints)
        self.steps = Checkpoints(run_dir.step_checkpoints)
        self._saved_steps = 0
        """Steps of the epoch under way that are saved."""

    def wait(self) -> None:
        """Waits for the save under way; raises SaveError if it failed."""
        self.epochs.wait()
        self.steps.wait()

    def __enter__(self) -> "RunSaver":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """`wait`, and gives all resources back."""
        if error is not None and hosts.means_lost_peer(error):
            # The save under way waits for the lost process too.
            return
        try:
            self.epochs.close()
        finally:
            self.steps.close()

    def resume(self, point: ResumePoint | None, like: TrainState) -> TrainState:
        """The state to go on from, with nothing later left in the folder; `like` for no point."""
        state, epoch, step = like, 0, 0
        if point is not None:
            state = point.checkpoints.restore(point.number, like, self._experiment.histories)
            epoch = len(point.snapshot.history)
            self._saved_steps = point.snapshot.epoch_steps
            step = point.number if self._saved_steps else 0
        # What one process deletes here, the others have read.
        hosts.wait_for_others("resumed")
        self.epochs.discard_after(epoch)
        self.steps.discard_after(step)
        return state

    def save_epoch(self, state: TrainState, history: list[dict[str, Any]]) -> None:
        """Saves an epoch, then tells of it in the run's files, then deletes what is not needed.

        Returns before: see `Checkpoints.save`.
        """
        epoch, history = len(history), list(history)
        # The best epoch before this one too: if this checkpoint is damaged, training goes on there.
        kept = {epoch, epoch - 1, best_epoch(history), best_epoch(history[:-1])}

        def tell() -> None:
            self.write_history(history)
            self.epochs.keep_only(kept)
            self.steps.keep_only(set())

        self.wait()
        self._saved_steps = 0
        self.epochs.save(
            epoch, state, self._experiment.histories, self._snapshot(history), then=tell
        )

    def save_steps(
        self, state: TrainState, history: list[dict[str, Any]], losses: list[Losses]
    ) -> None:
        """Saves the epoch under way, whose programs so far came to these losses."""
        done = dataclasses.asdict(all_losses(losses))
        snapshot = dataclasses.replace(
            self._snapshot(history),
            epoch_losses={name: values.tolist() for name, values in done.items()},
        )
        self.wait()
        self._saved_steps = snapshot.epoch_steps
        before, number = self.steps.numbers()[-1:], int(state.step)
        self.steps.save(
            number,
            state,
            self._experiment.histories,
            snapshot,
            then=lambda: self.steps.keep_only({number, *before}),
        )

    def between_programs(
        self, stops: StopRequests, history: list[dict[str, Any]]
    ) -> Callable[[TrainState, list[Losses]], None]:
        """What is done before each program of an epoch but the first, given what it starts from.

        Raises:
          StoppedError: once the epoch under way is saved, if training was asked to end.
        """

        def between(state: TrainState, losses: list[Losses]) -> None:
            # One program waits behind the one that runs: more would only hold batches.
            jax.block_until_ready(losses[-2:-1])
            steps = sum(part.loss.size for part in losses)
            stop = stops.reached()
            if stop or steps - self._saved_steps >= self._experiment.config.run.save_every:
                self.save_steps(state, history, losses)
            if stop:
                self.stop(int(state.step))

        return between

    def stop(self, step: int) -> None:
        """Ends training that is asked to, when the save under way is whole."""
        self.wait()
        raise StoppedError(f"asked to end: saved after step {step}; run it again to go on")

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Writes the history, and which epoch of it is best."""
        best = best_epoch(history)
        if best and hosts.is_first():
            self._run_dir.record_best(best, self.epochs.manifest_digest(best))
        self._run_dir.write_history(history)

    def _snapshot(self, history: list[dict[str, Any]]) -> Snapshot:
        config = self._experiment.config
        return Snapshot(
            history=list(history),
            config=config.stored(),
            seed=config.training.seed,
            data_fingerprint=self._experiment.histories.inputs_fingerprint(),
        )


def losses_done(snapshot: Snapshot) -> list[Losses]:
    """The losses of an epoch's steps so far, as `save_steps` saved them: in one part, or none."""
    if not snapshot.epoch_losses:
        return []
    return [Losses(**{name: np.float32(values) for name, values in snapshot.epoch_losses.items()})]
