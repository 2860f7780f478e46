"""The training loop of a population: until validation stops improving for every trial.

Each trial ends at its own time, as it would alone. One that has ended stays in the program, which
goes on without heed of it, until half of the places are free: then the others move to a smaller
program. The best epoch of a trial that has ended is tested when it leaves.
"""

import time
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, Float

from mqsa_jax.config import Config
from mqsa_jax.data.prefetch import prefetched
from mqsa_jax.inference.evaluation import checked_ranks, summarise
from mqsa_jax.inference.evaluation_set import EvaluationSet, build_evaluation_set
from mqsa_jax.pytree import pytree_dataclass
from mqsa_jax.runs.checkpoints import Checkpoints
from mqsa_jax.runs.history import STOPPING_METRIC, losses_line, metrics_line
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.grid import VARYING
from mqsa_jax.training.loop import STEPS_PER_PROGRAM
from mqsa_jax.training.population import (
    TrialBatches,
    compile_population,
    initial_population,
    padded,
    trial_keys,
)
from mqsa_jax.training.population_checkpoints import restore_population, save_population
from mqsa_jax.training.state import TrainState
from mqsa_jax.training.step import Losses
from mqsa_jax.training.trial import Trial

CHECKPOINT_SECONDS = 60.0
"""From one checkpoint to the next, at least: about what an interruption costs at most."""


def train_population(
    experiment: Experiment, configs: Sequence[Config], checkpoints: Checkpoints
) -> list[Trial]:
    """Trains trials to early stopping, each as `train` would, and tests the best epoch of each.

    Args:
      experiment: data, devices and a configuration, from which trials differ in `VARYING` alone.
      configs: the trials'.
      checkpoints: of a population of these very trials, to go on from; or empty.

    Returns:
      The trials, in their order.

    Raises:
      ValueError: if trials differ in what is not traced.
      UserError: if a checkpoint does not fit.
    """
    experiment.check_data()
    first = configs[0].flat()
    for config in configs:
        odd = {name for name, value in config.flat().items() if value != first[name]}
        if odd - set(VARYING):
            raise ValueError(f"trials of a population cannot differ in {sorted(odd)}")
    group = _Group(experiment, configs, checkpoints)
    group.train()
    group.test_finished()
    return group.trials


@pytree_dataclass
class _RunningEpoch:
    """An epoch that the devices work at, or have done: nothing of it has been waited for yet."""

    state: TrainState
    losses: list[Losses]
    """[P, steps] each, one a program."""
    ranks: Float[Array, "P U"]
    """Of the validation targets."""


class _Group:
    """Members that train together, and the places in the program that they hold."""

    def __init__(self, experiment: Experiment, configs: Sequence[Config], checkpoints: Checkpoints):
        self._experiment, self._checkpoints = experiment, checkpoints
        self._layout, self._relations = experiment.layout, experiment.relations()
        self._programs = compile_population(
            experiment.recommender, experiment.layout, experiment.with_ema, experiment.optimizer
        )
        self.trials = [Trial(config) for config in configs]
        self._at = self._padded(range(len(configs)))
        """[P] index of the trial at each place."""
        self._epoch = checkpoints.latest() or 0
        checkpoints.discard_after(self._epoch)
        if self._epoch:
            self._restore()
        else:
            self._population = initial_population(self._configs(), self._programs, self._layout)
        self._saved, self._saved_epoch = time.monotonic(), self._epoch

    def _padded(self, places: Sequence[int]) -> list[int]:
        return padded(places, self._layout.num_shards)

    def _configs(self) -> list[Config]:
        return [self.trials[index].config for index in self._at]

    def _unfinished(self) -> list[int]:
        return [index for index, trial in enumerate(self.trials) if not trial.finished]

    def train(self) -> None:
        """Epochs until all trials have ended."""
        run_epoch = self._epoch_runner(self._epoch)
        running = run_epoch(self._population.state) if self._unfinished() else None
        while running is not None:
            began, upcoming = time.perf_counter(), None
            # The devices never wait: an epoch that is sure to come starts before this one is read.
            if any(trial.sure_to_go_on for trial in self.trials):
                upcoming = run_epoch(running.state)
            self._read(running)
            if self._half_are_free():
                upcoming = self._move_to_smaller(upcoming)
                run_epoch = self._epoch_runner(self._epoch + (upcoming is not None))
            self._save()
            if upcoming is None and self._unfinished():
                upcoming = run_epoch(self._population.state)
            self._show(time.perf_counter() - began)
            running = upcoming

    def _epoch_runner(self, epochs_done: int) -> Callable[[TrainState], _RunningEpoch]:
        """A function that starts the next epoch and its validation, and does not wait."""
        configs = self._configs()
        source = self._experiment.batch_source(self._relations.counts)
        source = TrialBatches.of(source, [config.training.seed for config in configs])
        epochs = range(epochs_done, configs[0].training.epochs)
        stacks = prefetched(list(source.epoch(epoch, STEPS_PER_PROGRAM)) for epoch in epochs)
        key_P = trial_keys(configs, self._layout)
        validation = self._evaluation_set("valid")

        def run_epoch(state: TrainState) -> _RunningEpoch:
            parts = []
            for batches in next(stacks):
                batches = self._layout.shard(batches, axis=0)
                state, losses = self._programs.epoch(state, batches, key_P, self._relations)
                parts.append(losses)
            ranks = self._programs.ranks(
                state.eval_params, state.hparams, validation, self._relations
            )
            return _RunningEpoch(state, parts, ranks)

        return run_epoch

    def _evaluation_set(self, split: Literal["valid", "test"]) -> EvaluationSet:
        """On all devices, each of which ranks all users for its trials."""
        at_once = len(self._at) // self._layout.num_shards
        max_len = self._experiment.recommender.max_len
        protocol = self._experiment.protocol(split)
        data = build_evaluation_set(self._experiment.histories, protocol, max_len, 1, at_once)
        return self._layout.replicate(data)

    def _read(self, running: _RunningEpoch) -> None:
        """Adds the epoch to the histories, and keeps the parameters of trials that got better."""
        step_P, losses, ranks = jax.device_get((running.state.step, running.losses, running.ranks))
        losses = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *losses)
        self._epoch += 1
        for place, index in self._first_places():
            trial = self.trials[index]
            if trial.finished:
                continue
            own = jax.tree.map(itemgetter(place), losses)
            try:
                line = self._line(int(step_P[place]), own, ranks[place])
            except FloatingPointError as error:
                trial.problem = str(error)
            else:
                trial.history.append({"epoch": self._epoch, **line})
        better = [self.trials[index].best == self._epoch for index in self._at]
        population = self._population.replace(state=running.state)
        self._population = population.kept_where(np.array(better))

    def _line(self, step: int, losses: Losses, rank_U: np.ndarray) -> dict[str, Any]:
        """A trial's epoch; raises FloatingPointError if a loss or score is not a number."""
        line = losses_line(losses, step)
        try:
            return {**line, **metrics_line("valid", checked_ranks(rank_U))}
        except FloatingPointError as error:
            raise FloatingPointError(f"after step {step} {error}") from None

    def _first_places(self) -> list[tuple[int, int]]:
        """Place and index of each trial in the program."""
        return [(self._at.index(index), index) for index in dict.fromkeys(self._at)]

    def _half_are_free(self) -> bool:
        unfinished = self._unfinished()
        return bool(unfinished) and 2 * len(self._padded(unfinished)) <= len(self._at)

    def _move_to_smaller(self, upcoming: _RunningEpoch | None) -> _RunningEpoch | None:
        """Tests trials that have ended and leaves them behind; also in the epoch that runs."""
        self.test_finished()
        old, self._at = self._at, self._padded(self._unfinished())
        smaller = _taken((self._population, upcoming), old, self._at)
        self._population, upcoming = self._layout.shard(smaller, axis=0)
        return upcoming

    def test_finished(self) -> None:
        """Tests the best epoch of trials in the program that have ended."""
        trials = [(place, self.trials[index]) for place, index in self._first_places()]
        due = [(p, m) for p, m in trials if m.finished and not m.problem and m.test is None]
        if not due:
            return
        data, hparams = self._evaluation_set("test"), self._population.state.hparams
        ranks = jax.device_get(
            self._programs.ranks(self._population.best, hparams, data, self._relations)
        )
        for place, trial in due:
            trial.test = summarise(checked_ranks(ranks[place]))

    def _save(self) -> None:
        """Saves the population, if the last time is long ago."""
        if time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return
        save_population(
            self._checkpoints,
            self._epoch,
            self._population,
            self.trials,
            self._at,
            self._experiment,
        )
        # The one before too: if this checkpoint is damaged, the population goes on from there.
        self._checkpoints.keep_only({self._saved_epoch, self._epoch})
        self._saved, self._saved_epoch = time.monotonic(), self._epoch

    def _restore(self) -> None:
        population, self.trials, old = restore_population(
            self._checkpoints, self._epoch, self._experiment
        )
        # There may be other devices now, over which the places have to be shared out anew.
        self._at = self._padded(list(dict.fromkeys(old)))
        self._population = self._layout.shard(_taken(population, old, self._at), axis=0)

    def _show(self, seconds: float) -> None:
        lines = [line[STOPPING_METRIC] for trial in self.trials for line in trial.history]
        print(
            f"epoch {self._epoch}  {len(self._unfinished())} of {len(self.trials)} trials train  "
            f"best {STOPPING_METRIC} {max(lines, default=0):.4f}  {seconds:.1f} s",
            flush=True,
        )


def _taken(tree, old: list[int], new: list[int]):
    """The stacked leaves for other places, each of a trial that had one."""
    places = np.array([old.index(index) for index in new])
    return jax.tree.map(lambda leaf: leaf[places], tree)
