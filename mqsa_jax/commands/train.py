"""`train`: trains a model, or counts one, and tests it.

JAX is imported only once the arguments have proved good, so that help and errors come at once.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from mqsa_jax import hosts
from mqsa_jax.commands.command_line import join_hosts, parse, peek, run_command
from mqsa_jax.commands.preflight import show
from mqsa_jax.commands.sized_settings import settings_for
from mqsa_jax.config import Config
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.histories import Histories
from mqsa_jax.errors import DataError, DivergenceError, FolderError, SettingError, UserError
from mqsa_jax.models.registry import check_model_settings
from mqsa_jax.preflight.targets import Target
from mqsa_jax.sampling import Sampling

HINTS = {
    FolderError: "--run-dir names another folder, --no-resume deletes the run that is there",
    DataError: "--dataset must name the same data; --run-dir names another folder",
    DivergenceError: "a smaller --lr or a larger --tau may help",
}


@dataclasses.dataclass(frozen=True)
class TrainConfig(Config):
    """The flags of the command: a configuration's, and one that is no part of a run."""

    preflight: str | None = None
    """Train nothing: compile the run for v5e:16x16, h100, ... and say what it needs there."""


def train_main(arguments: Sequence[str] | None = None, program: str = "train.py") -> int:
    """Runs the command under a program's name; returns its exit code."""
    return run_command(program, _train, arguments, HINTS)


def _train(program: str, arguments: Sequence[str]) -> None:
    """Trains a sequential recommender, MQSA-TED (WSDM 2024), and tests it."""

    def parse_over(defaults: Config) -> Config:
        options = parse(
            program, TrainConfig, arguments, _train.__doc__, TrainConfig(**_fields(defaults))
        )
        config = Config(**_fields(options))
        config.validate()
        check_model_settings(config)
        Sampling.of(config)
        if options.preflight is not None:
            return config
        # Before data are read or anything is printed.
        join_hosts(config.run)
        if hosts.num_processes() > 1 and config.run.parallel == "pmap":
            raise SettingError("{parallel} pmap works in one process; leave it out")
        return config

    config, histories, decided = settings_for(arguments, parse_over)
    topology = peek(arguments, "preflight")
    if topology is not None:
        _preflight(config, histories, topology)
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
            run_dir.check_data(experiment.histories.fingerprint())
        hosts.check_agreement("data set", experiment.histories.fingerprint())
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


def _fields(config: Config) -> dict[str, Any]:
    """The sections of a configuration, and nothing that a subclass adds."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(Config)}


def _preflight(config: Config, data: Dataset | None, topology: str) -> None:
    """Says what a run of these settings and data would need on a target.

    Raises:
      UserError: if data are streamed, or as `show`.
    """
    target = Target.of(topology)

    from mqsa_jax.data.sources import load_dataset
    from mqsa_jax.preflight.data_sizes import sizes_of

    data = data or load_dataset(config)
    if not isinstance(data, Histories):
        raise UserError(
            f"{config.dataset} is streamed: `mqsa-jax preflight` takes the sizes of its data, "
            "--items, --users, --positions and --successors"
        )
    show(config, topology, sizes_of(config, data, target.num_chips))


def _trained(config: Config) -> dict[str, Any]:
    """What processes must agree on."""
    values = config.flat()
    own = {"data_dir", "coordinator_address", "num_processes", "process_id"}
    return {name: value for name, value in values.items() if name not in own}
