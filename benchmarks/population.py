"""Seconds of a trial's epoch in a population of P, beside those of a run of its own.

python -m benchmarks.population [--dataset toys] [--data-dir DIR]

An epoch is one of training and its validation, the packing on the host aside; the trials differ in
their seeds. Runs and populations take turns, and the median of the rounds counts, so that a machine
that is busy for a while does not favour either.
"""

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import jax
import tyro

from benchmarks.measure import load_experiment, one_call, report
from mqsa_jax.grid import with_flags
from mqsa_jax.inference.evaluation_set import Protocol, build_evaluation_set
from mqsa_jax.training.epoch import compile_epoch
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import STEPS_PER_PROGRAM
from mqsa_jax.training.population import (
    TrialBatches,
    compile_population,
    initial_population,
    trial_keys,
)
from mqsa_jax.training.state import run_key


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured."""

    dataset: str = "synthetic"
    """A data set's name, or the path of a file `user item item ...`."""
    data_dir: str | None = None
    """Folder of the data files (default: as in training)."""
    sizes: tuple[int, ...] = (1, 2, 4, 8)
    """Members of a program, P; multiples of the devices."""
    rounds: int = 3
    """Epochs of each that count, after one that compiles."""


def separate_epoch(experiment: Experiment) -> Callable[[], Any]:
    """A function that does an epoch and its validation as `train.py` does."""
    relations, layout = experiment.relations(), experiment.layout
    source = experiment.batch_source()
    stacks = list(source.batches(0, STEPS_PER_PROGRAM, source.capacity()))
    program = compile_epoch(experiment.recommender, layout)
    key = layout.replicate(run_key(experiment.config.training.seed))
    evaluator = experiment.evaluator(Protocol("valid"), relations)
    start = experiment.initial_state()

    def start_epoch() -> Any:
        state = start
        for batches in stacks:
            state, _ = program(state, batches, key, relations)
        return state, evaluator.start(state.params, state.hparams)

    return start_epoch


def population_epoch(experiment: Experiment, size: int) -> Callable[[], Any]:
    """The same of `size` trials in one program."""
    relations, layout = experiment.relations(), experiment.layout
    configs = [with_flags(experiment.config, seed=seed) for seed in range(1, size + 1)]
    source = TrialBatches.of(
        experiment.batch_source(), [config.training.seed for config in configs]
    )
    stacks = list(source.epoch(0, STEPS_PER_PROGRAM))
    programs = compile_population(experiment.recommender, layout)
    start = initial_population(configs, programs, layout).state
    key_P = trial_keys(configs, layout)
    data = build_evaluation_set(
        experiment.histories,
        Protocol("valid"),
        experiment.recommender.max_len,
        num_shards=1,
        num_models=size // layout.num_shards,
    )
    data = layout.replicate(data)

    def start_epoch() -> Any:
        state = start
        for batches in stacks:
            state, _ = programs.epoch(state, layout.shard(batches, axis=0), key_P, relations)
        return state, programs.ranks(state.params, state.hparams, data, relations)

    return start_epoch


def main(options: Options) -> None:
    """Measures and reports."""
    experiment = load_experiment(options.dataset, options.data_dir)
    devices = experiment.layout.num_shards
    sizes = [size for size in options.sizes if size % devices == 0]
    functions = {0: separate_epoch(experiment)}
    functions |= {size: population_epoch(experiment, size) for size in sizes}
    first = {size: one_call(function) for size, function in functions.items()}
    times: dict[int, list[float]] = {size: [] for size in functions}
    for _ in range(options.rounds):
        for size, function in functions.items():
            times[size].append(one_call(function) / max(size, 1))
    alone = statistics.median(times[0])
    rows = [
        {
            "program": f"population of {size}" if size else "separate run",
            "seconds_a_trial": statistics.median(seconds),
            "seconds_least": min(seconds),
            "times_separate": statistics.median(seconds) / alone,
            "first_call": first[size],
        }
        for size, seconds in times.items()
    ]
    report(
        "population",
        rows,
        options.dataset,
        backend=jax.default_backend(),
        devices=devices,
        rounds=options.rounds,
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
