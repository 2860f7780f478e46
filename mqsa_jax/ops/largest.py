"""The largest entries of each row: what `jax.lax.top_k` gives, faster on CPUs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from mqsa_jax.ops.kernels.registration import LARGEST, registered
from mqsa_jax.ops.platforms import bound, by_platform

GROUP_ENTRIES = 32
"""Entries of which only the largest takes part in the first of two passes."""


def largest(
    value_BV: Float[Array, "B V"], k: int
) -> tuple[Float[Array, "B k"], Int32[Array, "B k"]]:
    """The k largest entries of each row, in order, and their columns.

    Args:
      value_BV: [B, V]. NaN counts as larger than all numbers; of several any may come first.
      k: 1 to V; static. Of equal entries the one of the smaller column comes first.
    """
    functions = {"gpu": bound(_by_sorting, k=k), "cpu": bound(_in_two_passes, k=k)}
    if value_BV.dtype == jnp.float32:
        functions["cpu_kernel"] = bound(_by_kernel, k=k)
    return by_platform(functions, value_BV)


def _by_sorting(value_BV: Array, *, k: int) -> tuple[Array, Array]:
    return tuple(jax.lax.top_k(value_BV, k))


def _in_two_passes(value_BV: Array, *, k: int) -> tuple[Array, Array]:
    """Every entry sought lies in one of the k groups of largest maximum, or behind the last group.

    Groups are runs of columns, so that equal entries keep their order.
    """
    rows, columns = value_BV.shape
    groups = columns // GROUP_ENTRIES
    if groups < 2 * k:
        return _by_sorting(value_BV, k=k)
    grouped_BGN = value_BV[:, : groups * GROUP_ENTRIES].reshape(rows, groups, GROUP_ENTRIES)
    # Not the maximum itself, which may lose a NaN on CPUs.
    top_BG = jnp.where(jnp.isnan(grouped_BGN), jnp.inf, grouped_BGN).max(-1)
    _, group_BK = jax.lax.top_k(top_BG, k)
    first_BK = jnp.sort(group_BK, axis=-1) * GROUP_ENTRIES
    inside_BC = (first_BK[..., None] + jnp.arange(GROUP_ENTRIES)).reshape(rows, -1)
    behind = jnp.arange(groups * GROUP_ENTRIES, columns, dtype=inside_BC.dtype)
    behind_BR = jnp.broadcast_to(behind, (rows, behind.size))
    candidate_BC = jnp.concatenate([inside_BC, behind_BR], axis=-1)
    best_BK, place_BK = jax.lax.top_k(jnp.take_along_axis(value_BV, candidate_BC, axis=-1), k)
    return best_BK, jnp.take_along_axis(candidate_BC, place_BK, axis=-1)


def _by_kernel(value_BV: Array, *, k: int) -> tuple[Array, Array] | None:
    if not registered():
        return None
    shape = (value_BV.shape[0], k)
    call = jax.ffi.ffi_call(
        LARGEST,
        [jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape, jnp.int32)],
        vmap_method="sequential",
    )
    return tuple(call(value_BV))
