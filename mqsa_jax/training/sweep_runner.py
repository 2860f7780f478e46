"""A sweep: the trials of a grid, a group at a time, into one table."""

from collections.abc import Sequence
from typing import Any

from mqsa_jax.config import Config
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.grid import identity
from mqsa_jax.losses.metrics import CUTOFFS
from mqsa_jax.runs.checkpoints import Checkpoints
from mqsa_jax.runs.provenance import provenance
from mqsa_jax.runs.sweep_directory import SweepDirectory, flags
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.population_checkpoints import trials_of
from mqsa_jax.training.population_loop import train_population
from mqsa_jax.training.trial import Trial

TRIALS_PER_DEVICE = {"cpu": 2}
"""Trials that train at a time on each device, by platform."""
TRIALS_PER_ACCELERATOR = 8
METRICS = [*(f"{name}@{k}" for k in CUTOFFS for name in ("HR", "NDCG")), "MRR"]


def default_population(layout: DeviceLayout) -> int:
    """Trials that train at a time by default."""
    return layout.num_shards * TRIALS_PER_DEVICE.get(layout.platform, TRIALS_PER_ACCELERATOR)


def run_sweep(
    experiment: Experiment, configs: Sequence[Config], at_once: int, sweep_dir: SweepDirectory
) -> None:
    """Trains and tests the configurations that have no row yet; a group's rows appear together.

    A group that was interrupted goes on from its last checkpoint, if all its trials are wanted.

    Args:
      experiment: data, devices and a configuration, from which the others differ in `VARYING`.
      configs: the trials.
      at_once: how many train in one program, at most.
      sweep_dir: where results are; started.
    """
    waiting = sweep_dir.pending(configs)
    print(f"{len(configs) - len(waiting)} of {len(configs)} trials are done", flush=True)
    while waiting:
        checkpoints = Checkpoints(sweep_dir.checkpoints)
        try:
            group = _interrupted(checkpoints, waiting)
            if not group:
                checkpoints.discard_after(0)
                group = waiting[:at_once]
            trials = train_population(experiment, group, checkpoints)
        finally:
            checkpoints.close()
        sweep_dir.add(_row(trial, experiment) for trial in trials)
        sweep_dir.delete_checkpoints()
        waiting = sweep_dir.pending(configs)
        print(f"{len(configs) - len(waiting)} of {len(configs)} trials are done", flush=True)


def _interrupted(checkpoints: Checkpoints, waiting: Sequence[Config]) -> list[Config]:
    """Trials of the interrupted group; none unless all of them are still wanted."""
    latest = checkpoints.latest()
    if latest is None:
        return []
    group = [trial.config for trial in trials_of(checkpoints.snapshot(latest))]
    known = {identity(config.flat()) for config in waiting}
    return group if all(identity(config.flat()) in known for config in group) else []


def _row(trial: Trial, experiment: Experiment) -> dict[str, Any]:
    """A trial's row: its flags, what it came to, and of which data and code."""
    best = trial.history[trial.best - 1] if trial.test is not None else {}
    test = trial.test or {}
    return {
        **flags(trial.config),
        "epoch": best.get("epoch", ""),
        "epochs_trained": len(trial.history),
        **{f"valid_{name}": best.get(f"valid_{name}", "") for name in METRICS},
        **{f"test_{name}": test.get(name, "") for name in METRICS},
        "term_factor": trial.term_factor,
        "problem": trial.problem,
        "data_fingerprint": experiment.histories.fingerprint(),
        "commit": provenance(experiment.layout.devices)["commit"],
    }
