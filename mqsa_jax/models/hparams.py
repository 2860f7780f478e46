"""The scalars that a run is steered by."""

import jax.numpy as jnp
from flax import struct

from mqsa_jax.config import Config
from mqsa_jax.pytree import Leaf


@struct.dataclass
class HParams:
    """Scalars that are traced: runs that differ in them alone share a compiled program."""

    window: Leaf
    """int32 [] L, items averaged into the long branch's query."""
    alpha: Leaf
    """float32 [] share of the short branch; so are the following."""
    dropout: Leaf
    lambda_kd: Leaf
    tau: Leaf
    l2: Leaf
    lr: Leaf
    lambda_graph: Leaf
    term_weight: Leaf
    term_decay: Leaf
    term_dropout: Leaf
    ema_decay: Leaf

    @classmethod
    def of(cls, config: Config) -> "HParams":
        """The values of a configuration."""
        values = config.flat()
        scalars = {name: jnp.float32(values[name]) for name in cls.__dataclass_fields__}
        return cls(**{**scalars, "window": jnp.int32(min(config.model.window, 2**31 - 1))})
