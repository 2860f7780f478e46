"""The training loop of a population: until validation stops improving for every trial.

Each trial ends when it would alone. The program has a number of slots, one trial in each. A trial
that has ended keeps its slot, and its further steps are ignored, until half of the slots are free:
then the other trials move to a smaller program. A trial's best epoch is tested when it leaves.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Literal

import jax
import numpy as np

from mqsa_jax.config import Config
from mqsa_jax.data.batches import Batch
from mqsa_jax.grid import VARYING
from mqsa_jax.inference.evaluation import checked_ranks
from mqsa_jax.inference.evaluation_set import EvaluationSet, build_evaluation_set
from mqsa_jax.losses.metrics import summarise
from mqsa_jax.models.recommender import Params
from mqsa_jax.models.transition_term import with_term_factor
from mqsa_jax.runs.checkpoints import Checkpoints
from mqsa_jax.runs.history import STOPPING_METRIC
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import STEPS_PER_PROGRAM
from mqsa_jax.training.objective import Losses
from mqsa_jax.training.population import (
    TrialBatches,
    compile_population,
    initial_population,
    padded,
    trial_keys,
)
from mqsa_jax.training.population_checkpoints import restore_population, save_population
from mqsa_jax.training.running_epoch import (
    RunningEpoch,
    epoch_starter,
    losses_line,
    metrics_line,
)
from mqsa_jax.training.state import TrainState
from mqsa_jax.training.term_choice import choose_term_factors, chooses_term
from mqsa_jax.training.trial import Trial

CHECKPOINT_SECONDS = 60.0
"""Least time between checkpoints: about what an interruption costs at most."""


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


class _Group:
    """Trials that train together, and the slots of the program that they hold."""

    def __init__(self, experiment: Experiment, configs: Sequence[Config], checkpoints: Checkpoints):
        self._experiment, self._checkpoints = experiment, checkpoints
        self._layout, self._relations = experiment.layout, experiment.relations()
        self._programs = compile_population(
            experiment.recommender,
            experiment.layout,
            experiment.with_ema,
            experiment.optimizer,
            experiment.sampling,
        )
        self.trials = [Trial(config) for config in configs]
        self._slots = self._padded(range(len(configs)))
        """[P] index of the trial in each slot."""
        self._epoch = checkpoints.latest() or 0
        checkpoints.discard_after(self._epoch)
        if self._epoch:
            self._restore()
        else:
            self._population = initial_population(self._configs(), self._programs, self._layout)
        self._saved, self._saved_epoch = time.monotonic(), self._epoch

    def _padded(self, trials: Sequence[int]) -> list[int]:
        return padded(trials, self._layout.num_shards)

    def _configs(self) -> list[Config]:
        return [self.trials[index].config for index in self._slots]

    def _unfinished(self) -> list[int]:
        return [index for index, trial in enumerate(self.trials) if not trial.finished]

    def train(self) -> None:
        """Epochs until all trials have ended."""
        start_epoch = self._epoch_starter(self._epoch)
        running = start_epoch(self._population.state) if self._unfinished() else None
        while running is not None:
            began, upcoming = time.perf_counter(), None
            # Start an epoch that is sure to come before reading this one: the devices never wait.
            if any(trial.sure_to_go_on for trial in self.trials):
                upcoming = start_epoch(running.state)
            self._read(running)
            if self._half_are_free():
                upcoming = self._move_to_smaller(upcoming)
                start_epoch = self._epoch_starter(self._epoch + (upcoming is not None))
            self._save()
            if upcoming is None and self._unfinished():
                upcoming = start_epoch(self._population.state)
            self._show(time.perf_counter() - began)
            running = upcoming

    def _epoch_starter(self, epochs_done: int) -> Callable[[TrainState], RunningEpoch]:
        """A function that starts the next epoch and its validation, and does not wait."""
        configs = self._configs()
        source = self._experiment.batch_source()
        source = TrialBatches.of(source, [config.training.seed for config in configs])
        epochs = range(epochs_done, configs[0].training.epochs)
        stacks = (list(source.epoch(epoch, STEPS_PER_PROGRAM)) for epoch in epochs)
        key_P = trial_keys(configs, self._layout)
        validation = self._evaluation_set("valid")

        def train(state: TrainState, batches: Batch) -> tuple[TrainState, Losses]:
            batches = self._layout.shard(batches, axis=0)
            return self._programs.epoch(state, batches, key_P, self._relations)

        def validate(state: TrainState) -> jax.Array:
            hparams = state.hparams
            return self._programs.ranks(state.eval_params, hparams, validation, self._relations)

        return epoch_starter(stacks, train, validate)

    def _evaluation_set(self, split: Literal["valid", "test"]) -> EvaluationSet:
        """On all devices, each of which ranks all users for its trials."""
        at_once = len(self._slots) // self._layout.num_shards
        max_len = self._experiment.recommender.max_len
        data = build_evaluation_set(
            self._experiment.histories,
            self._experiment.protocol(split),
            max_len,
            num_shards=1,
            num_models=at_once,
            platform=self._layout.platform,
        )
        return self._layout.replicate(data)

    def _read(self, running: RunningEpoch) -> None:
        """Adds the epoch to the histories; keeps the parameters of trials whose best it is."""
        step_P, ranks = jax.device_get((running.state.step, running.ranks))
        losses = running.all_losses()
        self._epoch += 1
        for slot, index in self._first_slots():
            trial = self.trials[index]
            if trial.finished:
                continue
            own = jax.tree.map(itemgetter(slot), losses)
            try:
                line = self._line(int(step_P[slot]), own, ranks[slot])
            except FloatingPointError as error:
                trial.problem = str(error)
            else:
                trial.history.append({"epoch": self._epoch, **line})
        better = [self.trials[index].best == self._epoch for index in self._slots]
        population = self._population.replace(state=running.state)
        self._population = population.kept_where(np.array(better))

    def _line(self, step: int, losses: Losses, rank_U: np.ndarray) -> dict[str, Any]:
        """A trial's epoch; raises FloatingPointError if it diverged or a score is NaN."""
        line = losses_line(losses, step, self._experiment.histories.num_items)
        try:
            return {**line, **metrics_line("valid", checked_ranks(rank_U))}
        except FloatingPointError as error:
            raise FloatingPointError(f"after step {step} {error}") from None

    def _first_slots(self) -> list[tuple[int, int]]:
        """Slot and index of each trial in the program."""
        return [(self._slots.index(index), index) for index in dict.fromkeys(self._slots)]

    def _half_are_free(self) -> bool:
        unfinished = self._unfinished()
        return bool(unfinished) and 2 * len(self._padded(unfinished)) <= len(self._slots)

    def _move_to_smaller(self, upcoming: RunningEpoch | None) -> RunningEpoch | None:
        """Tests trials that have ended; moves the others, also in `upcoming`, to fewer slots."""
        self.test_finished()
        old, self._slots = self._slots, self._padded(self._unfinished())
        smaller = _taken((self._population, upcoming), old, self._slots)
        self._population, upcoming = self._layout.shard(smaller, axis=0)
        return upcoming

    def test_finished(self) -> None:
        """Tests the best epoch of trials in the program that have ended."""
        trials = [(slot, self.trials[index]) for slot, index in self._first_slots()]
        due = [
            (slot, trial)
            for slot, trial in trials
            if trial.finished and not trial.problem and trial.test is None
        ]
        if not due:
            return
        hparams, params = self._population.state.hparams, self._population.best

        def ranks_of(params: Params, split: Literal["valid", "test"] = "valid") -> jax.Array:
            data = self._evaluation_set(split)
            return self._programs.ranks(params, hparams, data, self._relations)

        if chooses_term(self._experiment):
            factor_P = choose_term_factors(ranks_of, params)
            params = with_term_factor(params, factor_P)
            for slot, trial in due:
                trial.term_factor = float(factor_P[slot])
        ranks = jax.device_get(ranks_of(params, "test"))
        for slot, trial in due:
            trial.test = summarise(checked_ranks(ranks[slot]))

    def _save(self) -> None:
        """Saves the population, unless it was saved less than `CHECKPOINT_SECONDS` ago."""
        if time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return
        save_population(
            self._checkpoints,
            self._epoch,
            self._population,
            self.trials,
            self._slots,
            self._experiment,
            # Keep the one before too, to go on from if this one is damaged.
            partial(self._checkpoints.keep_only, {self._saved_epoch, self._epoch}),
        )
        self._saved, self._saved_epoch = time.monotonic(), self._epoch

    def _restore(self) -> None:
        population, self.trials, old = restore_population(
            self._checkpoints, self._epoch, self._experiment
        )
        # There may be another number of devices now: fill the slots anew.
        self._slots = self._padded(list(dict.fromkeys(old)))
        self._population = self._layout.shard(_taken(population, old, self._slots), axis=0)

    def _show(self, seconds: float) -> None:
        lines = [line[STOPPING_METRIC] for trial in self.trials for line in trial.history]
        print(
            f"epoch {self._epoch}  {len(self._unfinished())} of {len(self.trials)} trials train  "
            f"best {STOPPING_METRIC} {max(lines, default=0):.4f}  {seconds:.1f} s",
            flush=True,
        )


def _taken(tree, old: list[int], new: list[int]):
    """Stacked leaves of the slots `old` rearranged for the slots `new`, of the same trials."""
    slots = np.array([old.index(index) for index in new])
    return jax.tree.map(lambda leaf: leaf[slots], tree)
