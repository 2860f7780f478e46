"""Checkpoints of a population: as of a run, with many trials instead of one history."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from mqsa_jax.errors import UserError
from mqsa_jax.models.hparams import HParams
from mqsa_jax.runs.checkpoints import Checkpoints, Snapshot
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.population import Population
from mqsa_jax.training.state import init_state
from mqsa_jax.training.trial import Trial


def save_population(
    checkpoints: Checkpoints,
    epoch: int,
    population: Population,
    trials: Sequence[Trial],
    slots: Sequence[int],
    experiment: Experiment,
    then: Callable[[], None],
) -> None:
    """Starts to save an epoch; see `Checkpoints.save`.

    Args:
      checkpoints: where to.
      epoch: epochs done.
      population: [P, ...].
      trials: all, including those that have left the program.
      slots: [P] index of the trial in each slot of the program.
      experiment: the data.
      then: called once the checkpoint is whole.
    """
    config = trials[0].config
    snapshot = Snapshot(
        history=[],
        config=config.flat(),
        seed=config.training.seed,
        data_fingerprint=experiment.histories.inputs_fingerprint(),
        trials=[trial.plain() for trial in trials],
        slots=list(slots),
    )
    checkpoints.save(epoch, population, experiment.histories, snapshot, then)


def restore_population(
    checkpoints: Checkpoints, epoch: int, experiment: Experiment
) -> tuple[Population, list[Trial], list[int]]:
    """The population [P, ...] of an epoch, replicated; all trials; and the trial of each slot.

    Raises:
      UserError: if it was trained on other data.
    """
    snapshot = checkpoints.snapshot(epoch)
    if snapshot.data_fingerprint != experiment.histories.inputs_fingerprint():
        raise UserError("the sweep was begun on other data (fingerprints differ)")
    num_trials = len(snapshot.slots)

    def first_population(hparams: HParams, seed: jax.Array) -> Population:
        state = init_state(
            experiment.recommender, hparams, seed, experiment.with_ema, experiment.optimizer
        )
        return Population(state, state.eval_params)

    def stacked(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        shape = (num_trials, *leaf.shape)
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=experiment.layout.replicated)

    one = jax.eval_shape(first_population, HParams.of(experiment.config), np.uint32(0))
    like = jax.tree.map(stacked, one)
    population = checkpoints.restore(epoch, like, experiment.histories)
    return population, trials_of(snapshot), snapshot.slots


def trials_of(snapshot: Snapshot) -> list[Trial]:
    """The trials of a population's snapshot; none in that of a run."""
    return [Trial.from_plain(values) for values in snapshot.trials or []]
