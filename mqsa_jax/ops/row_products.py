"""Products along the last axis, row by row, in full precision on every device.

Each is an `einsum`, and so are its gradients: for `(a * b).sum(-1)`, which the gradient of
`a * scale[..., None]` is too, XLA's programs for CPUs take many times as long.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def row_dot(a_D: Float[Array, "*B D"], b_D: Float[Array, "*B D"]) -> Float[Array, "*B"]:
    """Dot product [...] of each row of `a` with the same row of `b`, [..., D] both."""
    return jnp.einsum("...d,...d->...", a_D, b_D, precision="highest")


def scale_rows(a_D: Float[Array, "*B D"], scale: Float[Array, "*B"]) -> Float[Array, "*B D"]:
    """Each row of `a` [..., D] times its number in `scale` [...]."""
    return jnp.einsum("...d,...->...d", a_D, scale, precision="highest")
