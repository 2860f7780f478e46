"""Products of matrices and of rows; factors may be rounded to bfloat16, sums stay float32.

Products along the last axis, row by row, are an `einsum` each, and so are their gradients: for
`(a * b).sum(-1)`, which the gradient of `a * scale[..., None]` is too, XLA's programs for CPUs take
many times as long.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Precision = Literal["float32", "bfloat16"]


def accumulator(a: Float[Array, "..."], b: Float[Array, "..."]) -> jnp.dtype:
    """What sums of their products are kept in: float32 at least, whatever the factors are."""
    return jnp.promote_types(jnp.result_type(a, b), jnp.float32)


def product(
    subscripts: str, a: Float[Array, "..."], b: Float[Array, "..."], precision: Precision
) -> Float[Array, "..."]:
    """`jnp.einsum(subscripts, a, b)` at a precision, and its gradients at the same.

    With `float32`, as exact as JAX's default for the device: on NVIDIA GPUs TF32, on TPUs bfloat16,
    unless `jax_default_matmul_precision` says otherwise. With `bfloat16`, the factors of the
    product, and of the products that make its gradients, are rounded to bfloat16 on every device
    alike; GPUs and TPUs multiply them as such, CPUs gain nothing.

    Args:
      subscripts: as of `jnp.einsum`, of two arrays.
      a, b: factors, of shapes that fit the subscripts.
      precision: see above.

    Returns:
      The product, float32 at least.
    """
    dtype = accumulator(a, b)
    if precision == "float32":
        return jnp.einsum(subscripts, a, b, preferred_element_type=dtype)
    algorithm = jax.lax.DotAlgorithmPreset.BF16_BF16_F32
    a, b = _rounded(a.astype(jnp.float32)), _rounded(b.astype(jnp.float32))
    return _cotangent_rounded(jnp.einsum(subscripts, a, b, precision=algorithm))


def _bfloat16_values(x: Array) -> Array:
    """Values of bfloat16 in float32; a cast there and back would be optimised away."""
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


@jax.custom_vjp
def _rounded(x: Array) -> Array:
    return _bfloat16_values(x)


_rounded.defvjp(lambda x: (_bfloat16_values(x), None), lambda _, cotangent: (cotangent,))


@jax.custom_vjp
def _cotangent_rounded(x: Array) -> Array:
    return x


_cotangent_rounded.defvjp(lambda x: (x, None), lambda _, cotangent: (_bfloat16_values(cotangent),))


def row_dot(a_D: Float[Array, "*B D"], b_D: Float[Array, "*B D"]) -> Float[Array, "*B"]:
    """Dot product [...] of each row of `a` with the same row of `b`, [..., D] both."""
    return jnp.einsum("...d,...d->...", a_D, b_D, precision="highest")


def scale_rows(a_D: Float[Array, "*B D"], scale: Float[Array, "*B"]) -> Float[Array, "*B D"]:
    """Each row of `a` [..., D] times its number in `scale` [...]."""
    return jnp.einsum("...d,...->...d", a_D, scale, precision="highest")
