"""The command lines of train.py, eval.py and report.py: parse and delegate.

JAX is imported only once the arguments have proved good, so that help and errors come at once.
"""

import dataclasses
import importlib
import sys
import typing
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mqsa_jax.command_line import parse, peek, run_command
from mqsa_jax.config import Config, ModelConfig, ModelName
from mqsa_jax.data.sources import check_dataset, dataset_names, resolve_dataset
from mqsa_jax.errors import UserError
from mqsa_jax.zoo.spec import PLUS, check_model_settings, with_model


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """What eval.py is asked for."""

    run_dir: str
    """Folder of a run of train.py."""
    split: Literal["test", "valid"] = "test"
    """Held-out item to look for: the last of each history, or the one before it."""
    exclude_seen: Literal["history", "window", "none"] = "history"
    """Left out of the ranking, target too: all items consumed before, the last max_len, or none."""
    top: int = 0
    """Also writes this many best items of each user to recommendations.npz; 0: none."""
    ingredients: bool = False
    """Also writes the validation metrics without each ingredient of mqsa-ted-plus."""
    data_dir: str | None = None
    """Folder of the data files (default: as in training)."""
    devices: int | None = None
    """Local devices to use (default: all of them)."""


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """What report.py is asked for."""

    results: str = "docs/results/benchmarks"
    """Folder that holds the runs' folders."""
    out: str = "docs"
    """Folder that gets results.md, and results/figures and results/analysis."""
    data_dir: str | None = None
    """Folder of the data files; otherwise $MQSA_DATA_DIR, the user's cache, a download."""


def train_main(arguments: Sequence[str] | None = None) -> int:
    """Runs train.py; returns its exit code."""
    return run_command("train.py", _train, sys.argv[1:] if arguments is None else arguments)


def eval_main(arguments: Sequence[str] | None = None) -> int:
    """Runs eval.py; returns its exit code."""
    return run_command("eval.py", _evaluate, sys.argv[1:] if arguments is None else arguments)


def report_main(arguments: Sequence[str] | None = None) -> int:
    """Runs report.py; returns its exit code."""
    return run_command("report.py", _report, sys.argv[1:] if arguments is None else arguments)


def _train(arguments: Sequence[str]) -> None:
    """Trains a sequential recommender, MQSA-TED (WSDM 2024), and tests it."""
    dataset = peek(arguments, "dataset") or Config.dataset
    defaults = default_config(dataset, peek(arguments, "model") or ModelConfig.model)
    config = parse("train.py", Config, arguments, _train.__doc__, defaults)
    if config.dataset.lower() in dataset_names():
        config = dataclasses.replace(config, dataset=config.dataset.lower())
    config.validate()
    check_model_settings(config)
    check_dataset(config.dataset)

    from mqsa_jax.report import print_result
    from mqsa_jax.training.counted import count_and_test
    from mqsa_jax.training.loop import train
    from mqsa_jax.training.run_dir import RunDirectory

    run_dir = RunDirectory.of(config)
    resume = config.run.resume and run_dir.check_resumable(config)
    experiment = load_experiment(config)
    if not config.run.resume:
        run_dir.delete_run()
    if experiment.spec.counting:
        result = count_and_test(experiment, run_dir)
    else:
        result = train(experiment, run_dir, resume)
    print_result(config.dataset, result, run_dir.path)


def _evaluate(arguments: Sequence[str]) -> None:
    """Ranks every user's held-out item among all items with the best epoch of a run."""
    options = parse("eval.py", EvalConfig, arguments, _evaluate.__doc__)

    from mqsa_jax.inference.evaluation import Protocol
    from mqsa_jax.report import print_result
    from mqsa_jax.training.counted import counted_top_items, evaluate_counted
    from mqsa_jax.training.ingredients import check_ingredients, leave_out
    from mqsa_jax.training.loop import restore_best
    from mqsa_jax.training.run_dir import RunDirectory

    if options.top < 0:
        raise UserError(f"--top must be 0 or above, got {options.top}")
    run_dir = RunDirectory(options.run_dir)
    config = run_dir.config()
    data_dir = options.data_dir or config.run.data_dir
    run = dataclasses.replace(config.run, data_dir=data_dir, devices=options.devices)
    config = dataclasses.replace(config, run=run)
    config.validate()
    if options.ingredients:
        check_ingredients(config)
    experiment = load_experiment(config)
    protocol = Protocol(options.split, options.exclude_seen)
    if options.top > experiment.histories.num_items:
        raise UserError(f"--top {options.top} is more than {experiment.histories.num_items} items")
    if experiment.spec.counting:
        result = evaluate_counted(experiment, protocol, run_dir)
        best = partial(counted_top_items, experiment, protocol)
    else:
        state, epoch = restore_best(experiment, run_dir)
        result = experiment.evaluate(state, epoch, protocol, run_dir)
        best = partial(experiment.evaluator(protocol).top_items, state.evaluated, state.hyper)
        if options.ingredients:
            run_dir.write_ingredients(leave_out(experiment, state))
    if options.top:
        run_dir.write_recommendations(protocol.name, experiment.histories, best(options.top))
    print_result(config.dataset, result, run_dir.path)


def _report(arguments: Sequence[str]) -> None:
    """Makes results.md, with tables, tests and figures, from the results of runs."""
    options = parse("report.py", ReportConfig, arguments, _report.__doc__)

    from mqsa_jax.reporting.report import make_report

    page = make_report(Path(options.results), Path(options.out), options.data_dir)
    print(f"Report in {page}")


def load_experiment(config: Config) -> Any:
    """Reads or generates the data, and finds the devices."""
    path = resolve_dataset(config.dataset, config.run.data_dir)

    from mqsa_jax.data.histories import read_histories
    from mqsa_jax.data.synthetic import synthetic_histories

    histories = synthetic_histories() if path is None else read_histories(path)

    from mqsa_jax.devices import DeviceLayout
    from mqsa_jax.training.compilation_cache import enable_compilation_cache
    from mqsa_jax.training.experiment import Experiment

    enable_compilation_cache()
    return Experiment(config, histories, DeviceLayout.of(config.run.devices))


def default_config(dataset: str, model: str) -> Config:
    """The configuration of configs/NAME.py with what the model settles, or of NAME_plus.py.

    A file of the user's own has the general one.
    """
    name, config = dataset.lower(), Config(dataset=dataset)
    if name in dataset_names():
        if model == PLUS:
            return importlib.import_module(f"configs.{name}_plus").config
        config = importlib.import_module(f"configs.{name}").config
    if model not in typing.get_args(ModelName):
        return config  # for the parser to complain of
    return with_model(config, model)
