"""What a model is: the parts it is built of, and the settings that make it what it is.

Without JAX, so that `--help` and argument errors come at once.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from mqsa_jax.config import Config
from mqsa_jax.errors import UserError
from mqsa_jax.model.parts import Backbone, Graph

PLUS = "mqsa-ted-plus"
"""The model whose settings lie in configs/NAME_plus.py."""


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A row of the results' table."""

    summary: str
    """What it is, and its source."""
    fixed: Mapping[str, float | int] = dataclasses.field(default_factory=dict)
    """Flags that the model fixes, by name; others are free."""
    defaults: Mapping[str, float | int] = dataclasses.field(default_factory=dict)
    """Flags that start from another default than the data set's."""
    backbone: Backbone = "attention"
    graph: Graph = "unused"
    counting: Callable[[Any], Any] | None = None
    """Of a model that is not trained: `Experiment` to `mqsa_jax.inference.counting.Counting`."""


def load_model(name: str) -> ModelSpec:
    """The specification in `mqsa_jax/zoo/NAME.py`, hyphens as underscores."""
    return importlib.import_module(f"mqsa_jax.zoo.{name.replace('-', '_')}").spec


def with_model(config: Config, name: str, **flags: Any) -> Config:
    """The configuration of another model: with what it starts from, `flags`, and what it fixes."""
    spec = load_model(name)
    return Config.from_flat(
        {**config.flat(), "model": name, **spec.defaults, **flags, **spec.fixed}
    )


def check_model_settings(config: Config) -> None:
    """Raises UserError naming the flag, if a flag contradicts the model."""
    values = config.flat()
    for flag, value in load_model(config.model.model).fixed.items():
        if values[flag] != value:
            raise UserError(
                f"--model {config.model.model} fixes --{flag.replace('_', '-')} at {value}, "
                f"got {values[flag]}; leave the flag out, or choose another --model"
            )
