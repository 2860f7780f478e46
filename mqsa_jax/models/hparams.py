"""Hyper-parameters that compiled programs take as arguments."""

import jax.numpy as jnp
from jaxtyping import Array, Float32, Int32

from mqsa_jax.config import Config
from mqsa_jax.pytree import pytree_dataclass


@pytree_dataclass
class HParams:
    """Traced scalars, as `Config` describes them: runs that differ in them share a program."""

    window: Int32[Array, ""]
    """L, items averaged into the long branch's query."""
    alpha: Float32[Array, ""]
    """Weight of the short branch in the user vector."""
    dropout: Float32[Array, ""]
    lambda_kd: Float32[Array, ""]
    tau: Float32[Array, ""]
    l2: Float32[Array, ""]
    lr: Float32[Array, ""]
    lambda_graph: Float32[Array, ""]
    term_weight: Float32[Array, ""]
    term_decay: Float32[Array, ""]
    term_dropout: Float32[Array, ""]
    ema_decay: Float32[Array, ""]

    @classmethod
    def of(cls, config: Config) -> "HParams":
        """The values of a configuration."""
        values = config.flat()
        scalars = {name: jnp.float32(values[name]) for name in cls.__dataclass_fields__}
        return cls(**{**scalars, "window": jnp.int32(min(config.model.window, 2**31 - 1))})
