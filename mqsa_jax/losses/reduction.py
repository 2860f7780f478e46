"""`where=` and `reduce_fn=`: the contract that all losses share.

A reduction is a function `reduce_fn(values_N, where=where_N)` linear in the values, such as
`jnp.mean` or `jnp.sum`. Linear, so that it is known by its weights before the values are: gradients
can be formed in the same pass as the losses.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

Reduction = Callable[..., Float[Array, ""]]


def mean(values_N: Array | np.ndarray, where: Array | np.ndarray) -> Array | np.floating:
    """The mean of the values [N] that count, `where` [N]; of JAX or NumPy arrays as they come."""
    return values_N.mean(where=where)


def reduction_weights(
    reduce_fn: Reduction, where_N: Bool[Array, "*N"], dtype=jnp.float32
) -> Float[Array, "*N"]:
    """The weight that `reduce_fn` gives each value: its gradient; 0 where `where` is False.

    Example:
      >>> weight_N = reduction_weights(jnp.mean, jnp.array([True, True, False, False]))
      >>> weight_N.tolist()
      [0.5, 0.5, 0.0, 0.0]
    """
    zeros_N = jnp.zeros(where_N.shape, dtype)
    weight_N = jax.grad(lambda values_N: reduce_fn(values_N, where=where_N))(zeros_N)
    # The mean over nothing has weights 0 / 0; nothing real must give 0, never NaN.
    return jnp.where(where_N, weight_N, 0)
