"""`train`: trains a model, or counts one, and tests it.

JAX is imported only once the arguments have proved good, so that help and errors come at once.
"""

import dataclasses
import sys
from collections.abc import Sequence

from mqsa_jax.commands.command_line import parse, peek, run_command
from mqsa_jax.config import Config, ModelConfig
from mqsa_jax.data.sources import check_dataset, dataset_names
from mqsa_jax.models.registry import check_model_settings
from mqsa_jax.presets import default_config


def train_main(arguments: Sequence[str] | None = None) -> int:
    """Runs train.py; returns its exit code."""
    return run_command("train.py", _train, sys.argv[1:] if arguments is None else arguments)


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

    from mqsa_jax.commands.result_table import print_result
    from mqsa_jax.runs.run_directory import RunDirectory
    from mqsa_jax.training.counted import count_and_test
    from mqsa_jax.training.experiment import Experiment
    from mqsa_jax.training.loop import train

    run_dir = RunDirectory.of(config)
    resume = config.run.resume and run_dir.check_resumable(config)
    experiment = Experiment.load(config)
    if not config.run.resume:
        run_dir.delete_run()
    if experiment.spec.counted:
        result = count_and_test(experiment, run_dir)
    else:
        result = train(experiment, run_dir, resume)
    print_result(config.dataset, result, run_dir.path)
