"""`preflight`: compiles a run's programs for accelerators that are not there."""

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path

from mqsa_jax.commands.command_line import parse, peek, run_command
from mqsa_jax.config import Config, Count, ModelConfig, Positive
from mqsa_jax.errors import SettingError
from mqsa_jax.models.registry import check_model_settings
from mqsa_jax.preflight.preflight import preflight
from mqsa_jax.preflight.report import check_fits, in_words
from mqsa_jax.preflight.sizes import Sizes
from mqsa_jax.preflight.targets import Target
from mqsa_jax.presets import default_config
from mqsa_jax.runs.files import write_json
from mqsa_jax.sampling import Sampling


@dataclasses.dataclass(frozen=True)
class PreflightConfig:
    """The flags of the command, beside those of training."""

    topology: str
    """What to compile for: v5e:16x16, v6e:16x16, v5p:4x4x4, h100, 8xh100."""
    items: Count = 1_000_000
    """Items of the catalogue."""
    users: Count = 1_000_000
    """Users of the data."""
    positions: Positive = 8.0
    """Mean training positions of a user."""
    successors: Positive = 8.0
    """Mean number of items that follow an item."""
    json: str | None = None
    """File to write all figures to."""
    base: Config = Config()


def preflight_main(
    arguments: Sequence[str] | None = None, program: str = "mqsa-jax preflight"
) -> int:
    """Runs the command under a program's name; returns its exit code."""
    return run_command(program, _preflight, arguments)


def _preflight(program: str, arguments: Sequence[str]) -> None:
    """Compiles the programs of a run for accelerators that are not there, and measures them.

    Prints memory, exchanges, kernels and a step's time by roofline for one chip. Exit code 2 if a
    program does not fit, after naming its largest arrays.
    """
    model = peek(arguments, "model") or ModelConfig.model
    # Without --dataset, general defaults, and not those of the small synthetic data.
    base = default_config(peek(arguments, "dataset") or "", model)
    text = inspect.cleandoc(_preflight.__doc__)
    default = PreflightConfig(topology="", base=base)
    options = parse(program, PreflightConfig, arguments, text, default)
    config = options.base
    config.validate()
    check_model_settings(config)
    Sampling.of(config)
    if options.positions > config.model.max_len:
        raise SettingError(
            f"{{positions}} {options.positions:g} is more than {{max_len}} {config.model.max_len}"
        )
    sizes = Sizes.estimated(
        config,
        Target.of(options.topology).num_chips,
        items=options.items,
        users=options.users,
        positions=options.positions,
        successors=options.successors,
    )
    show(config, options.topology, sizes, options.json)


def show(config: Config, topology: str, sizes: Sizes, json: str | None = None) -> None:
    """Prints what a preflight finds and writes it to a file, if one is named.

    Raises:
      UserError: if a program does not fit, or cannot be compiled.
    """
    result = preflight(config, topology, sizes)
    if json is not None:
        write_json(Path(json), result)
    print(in_words(result), flush=True)
    check_fits(result)
