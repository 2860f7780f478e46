"""Which configurations a sweep is made of. Without JAX, so that wrong values are told at once."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mqsa_jax.config import Config

SCALARS = (
    "window",
    "alpha",
    "dropout",
    "lambda_kd",
    "tau",
    "l2",
    "lr",
    "lambda_graph",
    "term_weight",
    "term_decay",
)
"""Flags that are traced: the fields of `HParams`, but for `term_dropout`, whose 1 does not
train the term, and `ema_decay`, whose 0 keeps no average, and so are other programs."""
VARYING = (*SCALARS, "seed")
"""Flags in which the trials of a population may differ."""


def with_flags(config: Config, **values: Any) -> Config:
    """The configuration with other values of some flags."""
    return Config.from_flat({**config.flat(), **values})


def grid(base: Config, values: Mapping[str, Sequence[float | int]]) -> Iterator[Config]:
    """All combinations of the values of some flags, over a base; trials of a seed together."""
    # The first varies slowest: trials of one seed, who share their batches, stay together.
    names = [name for name in ("seed", *SCALARS) if name in values]
    for combination in itertools.product(*(values[name] for name in names)):
        yield with_flags(base, **dict(zip(names, combination, strict=True)))


def identity(values: Mapping[str, Any]) -> tuple[float, ...]:
    """What tells a trial from the others of its sweep; from its flags, be they numbers or text."""
    return tuple(float(values[name]) for name in VARYING)
