"""`sweep`: the flags of `train`, of which some take lists of values."""

import dataclasses
import inspect
from collections.abc import Sequence

from mqsa_jax.commands.command_line import numbers, parse, run_command
from mqsa_jax.commands.sized_settings import settings_for
from mqsa_jax.config import Config, RunConfig
from mqsa_jax.errors import DataError, FolderError, UserError
from mqsa_jax.grid import SCALARS, grid
from mqsa_jax.mesh_shape import axis_sizes
from mqsa_jax.models.registry import MODELS, check_model_settings
from mqsa_jax.runs.files import locked
from mqsa_jax.runs.sweep_directory import SweepDirectory
from mqsa_jax.sampling import Sampling

MOST_SEEDS = 10_000
HINTS = {
    FolderError: "--sweep-dir names another folder, --no-resume deletes the sweep that is there",
    DataError: "--dataset must name the same data; --sweep-dir names another folder",
}


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """The flags of the command, beside those of training."""

    seeds: str | None = None
    """How many seeds, from 1 on; or which, with commas between them (default: --seed alone)."""
    population: int | None = None
    """Trials that train at a time (default: 2 a device on CPU, 8 on others)."""
    sweep_dir: str | None = None
    """Folder of the results (default: sweeps/DATASET); takes the place of --run-dir."""
    base: Config = Config()


def sweep_main(arguments: Sequence[str] | None = None, program: str = "mqsa-jax sweep") -> int:
    """Runs the command under a program's name; returns its exit code."""
    return run_command(program, _sweep, arguments, HINTS)


def _sweep(program: str, arguments: Sequence[str]) -> None:
    """Trains every combination of settings and seeds, many at a time, into one results.csv.

    --window, --alpha, --dropout, --lambda-kd, --tau, --l2, --lr, --lambda-graph, --term-weight and
    --term-decay take lists: --alpha 0,0.5,1. The same command again goes on where it was stopped.
    """
    arguments, texts = _without_lists(arguments)

    def options_over(defaults: Config) -> SweepConfig:
        text = inspect.cleandoc(_sweep.__doc__)
        options = parse(program, SweepConfig, arguments, text, SweepConfig(base=defaults))
        _trials(options.base, options, texts)
        return options

    base, histories, decided = settings_for(arguments, lambda defaults: options_over(defaults).base)
    options = options_over(base)
    configs = _trials(base, options, texts)
    sweep_dir = SweepDirectory.of(base, options.sweep_dir)
    with locked(sweep_dir.path):
        if base.run.resume:
            sweep_dir.check_resumable(base)
            sweep_dir.done()

        from mqsa_jax.training.experiment import Experiment
        from mqsa_jax.training.sweep_runner import default_population, run_sweep

        experiment = Experiment.load(base, histories)
        if experiment.is_stream:
            raise UserError(
                "the trials of a sweep share data in memory, and these are to be streamed; "
                "--stream never reads them into memory"
            )
        if not base.run.resume:
            sweep_dir.delete()
        sweep_dir.start(base, experiment.histories.inputs_fingerprint())
        at_once = options.population or default_population(experiment.layout)
        if decided:
            print(decided, flush=True)
        run_sweep(experiment, configs, at_once, sweep_dir)
    print(f"Results in {sweep_dir.results}")


def _without_lists(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The arguments with the first value of each list in its place; and the lists, by flag."""
    names = {f"--{name.replace('_', '-')}": name for name in SCALARS}
    plain, texts, expected = [], {}, None
    for argument in arguments:
        flag, equals, text = argument.partition("=")
        name = names.get(flag.replace("_", "-"))
        if expected and not name:
            texts[expected] = argument
            plain.append(argument.split(",")[0])
        elif name and equals:
            texts[name] = text
            plain.append(f"{flag}={text.split(',')[0]}")
        else:
            plain.append(argument)
        expected = name if name and not equals else None
    return plain, texts


def _trials(base: Config, options: SweepConfig, texts: dict[str, str]) -> list[Config]:
    """All trials. Raises UserError if a value is out of range, or fits `train` alone."""
    _check_flags(base)
    if MODELS[base.model.model].counted:
        raise UserError(f"--model {base.model.model} is not trained: there is nothing to sweep")
    if options.population is not None and options.population < 1:
        raise UserError(f"--population must be at least 1, got {options.population}")
    values = {
        name: numbers(name.replace("_", "-"), text, type(Config().flat()[name]))
        for name, text in texts.items()
    }
    if options.seeds is not None:
        values["seed"] = _seeds(options.seeds)
    configs = []
    for config in grid(base, values):
        config.validate()
        check_model_settings(config)
        Sampling.of(config)
        configs.append(config)
    return configs


def _check_flags(base: Config) -> None:
    """Raises UserError naming a flag of `train` that a sweep has no use for."""
    run = base.run
    whole_trials = "a sweep gives each device whole trials"
    refused = [
        (run.run_dir is not None, "--run-dir", "a sweep has --sweep-dir"),
        (
            base.training.init_from is not None,
            "--init-from",
            "its trials start from nothing",
        ),
        (run.coordinator_address is not None, "--coordinator-address", "a sweep is one process"),
        (run.num_processes is not None, "--num-processes", "a sweep is one process"),
        (run.process_id is not None, "--process-id", "a sweep is one process"),
        (run.preflight is not None, "--preflight", "it compiles one run"),
        (run.profile is not None, "--profile", "it traces one run"),
        (run.parallel != "jit", "--parallel", whole_trials),
        (axis_sizes(run.mesh) != axis_sizes(RunConfig.mesh), "--mesh", whole_trials),
        (run.shard_items != "model", "--shard-items", whole_trials),
    ]
    for given, flag, why in refused:
        if given:
            raise UserError(f"{flag} is a flag of train; {why}")


def _seeds(text: str) -> list[float | int]:
    """`5` stands for the seeds 1 to 5, `1,2,7` for these."""
    seeds = numbers("seeds", text, int)
    if "," in text:
        return seeds
    if not 1 <= seeds[0] <= MOST_SEEDS:
        raise UserError(f"--seeds must be between 1 and {MOST_SEEDS}, or a list, got {text}")
    return list(range(1, seeds[0] + 1))
