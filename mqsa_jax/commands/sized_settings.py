"""Settings whose defaults depend on the data: parsed again once the size of a file is known."""

import dataclasses
from collections.abc import Callable, Sequence

from mqsa_jax.commands.command_line import peek
from mqsa_jax.commands.run_place import with_full_path
from mqsa_jax.config import Config, ModelConfig
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.sources import dataset_names, load_dataset
from mqsa_jax.grid import with_flags
from mqsa_jax.presets import default_config, sized_defaults


def settings_for(
    arguments: Sequence[str], parse_over: Callable[[Config], Config]
) -> tuple[Config, Dataset | None, str]:
    """The configuration that the arguments ask for, the data where they had to be read, and
    a line that says what their size decided.

    The first parse finds mistakes before any data are read. For a file without a configuration of
    its own, a second parse starts from defaults for its size: flags that are given always win.

    Args:
      arguments: the command line.
      parse_over: parses the arguments over these defaults, and checks the result.
    """
    dataset = peek(arguments, "dataset") or Config.dataset
    general = default_config(dataset, peek(arguments, "model") or ModelConfig.model)
    config = with_full_path(parse_over(general))
    if config.dataset in dataset_names():
        return config, None, ""
    histories = load_dataset(config)
    sized = sized_defaults(general, histories.num_users)
    if peek(arguments, "term-weight") is not None:
        sized = with_flags(sized, choose_term_weight=False)
    # The data set as it was found: a raw log is prepared by now.
    config = with_full_path(dataclasses.replace(parse_over(sized), dataset=config.dataset))
    return config, histories, _decided(general, sized, config, histories.num_users)


def _decided(general: Config, sized: Config, config: Config, num_users: int) -> str:
    """A line of the values in use that come from the size of the data; empty without any."""
    values, before = config.flat(), general.flat()
    chosen = [
        f"{name} {value if isinstance(value, bool) else format(value, '.4g')}"
        for name, value in sized.flat().items()
        if value != before[name] and values[name] == value
    ]
    return f"Defaults for {num_users} users: {', '.join(chosen)}" if chosen else ""
