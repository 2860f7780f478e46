"""`train`: trains a model, or counts one, and tests it.

JAX is imported only once the arguments have proved good, so that help and errors come at once.
"""

import json
from collections.abc import Sequence
from typing import Any

from mqsa_jax import hosts
from mqsa_jax.commands.command_line import join_hosts, parse, run_command
from mqsa_jax.commands.preflight import show
from mqsa_jax.commands.sized_settings import settings_for
from mqsa_jax.config import Config
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.errors import DataError, DivergenceError, FolderError, SettingError
from mqsa_jax.models.registry import check_model_settings
from mqsa_jax.preflight.targets import Target
from mqsa_jax.sampling import Sampling

HINTS = {
    FolderError: "--run-dir names another folder, --no-resume deletes the run that is there",
    DataError: "--dataset must name the same data; --run-dir names another folder",
    DivergenceError: "a smaller --lr or a larger --tau may help",
}


def train_main(arguments: Sequence[str] | None = None, program: str = "train.py") -> int:
    """Runs the command under a program's name; returns its exit code."""
    return run_command(program, _train, arguments, HINTS)


def _train(program: str, arguments: Sequence[str]) -> None:
    """Trains a sequential recommender, MQSA-TED (WSDM 2024), and tests it."""

    def parse_over(defaults: Config) -> Config:
        config = parse(program, Config, arguments, _train.__doc__, defaults)
        config.validate()
        check_model_settings(config)
        Sampling.of(config)
        if config.run.preflight is not None:
            return config
        # Before data are read or anything is printed.
        join_hosts(config.run)
        if hosts.num_processes() > 1 and config.run.parallel == "pmap":
            raise SettingError("{parallel} pmap works in one process; leave it out")
        return config

    config, histories, decided = settings_for(arguments, parse_over)
    if config.run.preflight is not None:
        _preflight(config, histories)
        return

    from mqsa_jax.commands.result_table import print_result
    from mqsa_jax.runs.files import locked
    from mqsa_jax.runs.run_directory import RunDirectory
    from mqsa_jax.training.counted_runs import count_and_test
    from mqsa_jax.training.experiment import Experiment
    from mqsa_jax.training.loop import check_warm_start, train

    run_dir = RunDirectory.of(config)
    with locked(run_dir.path):
        resume = config.run.resume and run_dir.check_resumable(config)
        experiment = Experiment.load(config, histories)
        if resume:
            run_dir.check_data(experiment.histories.inputs_fingerprint())
        hosts.check_agreement("data set", experiment.histories.inputs_fingerprint())
        hosts.check_agreement("configuration", json.dumps(_trained(config)))
        if not resume:
            # Before anything is deleted or printed.
            check_warm_start(experiment, run_dir)
        hosts.wait_for_others("checked")
        if not config.run.resume:
            run_dir.delete_run()
        if experiment.spec.counted:
            result = count_and_test(experiment, run_dir)
        else:
            if decided:
                print(decided, flush=True)
            result = train(experiment, run_dir, resume)
    print_result(config.dataset, result, run_dir.path)


def _trained(config: Config) -> dict[str, Any]:
    """What processes must agree on."""
    values = config.flat()
    own = {"data_dir", "coordinator_address", "num_processes", "process_id"}
    return {name: value for name, value in values.items() if name not in own}


def _preflight(config: Config, data: Dataset | None) -> None:
    """Says what a run of these settings and data would need on the target that it names."""
    topology = config.run.preflight
    target = Target.of(topology)

    from mqsa_jax.data.sources import load_dataset
    from mqsa_jax.preflight.data_sizes import sizes_of

    show(config, topology, sizes_of(config, data or load_dataset(config), target.num_chips))
