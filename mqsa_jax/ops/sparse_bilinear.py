"""Few entries of a product of two factors, summed with weights: x^T W E for a sparse W."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mqsa_jax.ops.kernels.registration import SPARSE_BILINEAR, registered
from mqsa_jax.ops.platforms import by_platform
from mqsa_jax.ops.products import row_dot, scale_rows
from mqsa_jax.ops.sharded_table import ShardedTable, Table
from mqsa_jax.ops.sparse_logits import is_index


def sparse_bilinear(
    x_ND: Float[Array, "N D"],
    table_VD: Float[Array, "V D"],
    row_M: Int[Array, " M"],
    item_M: Int[Array, " M"],
    weight_M: Float[Array, " M"],
) -> Float[Array, ""]:
    r"""Weighted sum of M logits.

        sum_m w_m x_row(m) . E_item(m)

    Args:
      x_ND: [N, D] rows x.
      table_VD: [V, D] E, one row an item.
      row_M: int32 [M], 0..N-1, ascending.
      item_M: int32 [M], 0..V-1.
      weight_M: [M] w; 0 leaves an entry out, whatever its indices, and its gradient may then be 0.

    Returns:
      The sum, a scalar; differentiable once, by reverse mode, in rows, table and weights. NaN,
      gradients too, if an entry that counts has an index out of range.
    """
    valid_M = is_index(row_M, x_ND.shape[0]) & is_index(item_M, table_VD.shape[0])
    # A factor, so that the gradient is NaN too.
    weight_M *= jnp.where(valid_M | (weight_M == 0), 1, jnp.nan)
    # In range and still in order, so that the NaN reaches the sum.
    row_M, item_M = jnp.clip(row_M, 0, x_ND.shape[0] - 1), jnp.clip(item_M, 0, len(table_VD) - 1)
    return _sparse_bilinear(x_ND, table_VD, row_M, item_M, weight_M)


def sparse_bilinears(
    x_SND: Float[Array, "S N D"],
    table_VD: Table,
    row_SM: Int[Array, "S M"],
    item_SM: Int[Array, "S M"],
    weight_SM: Float[Array, "S M"],
) -> Float[Array, ""]:
    """The sum of `sparse_bilinear` of S shards [S, ...], and of a table that may be sharded."""
    if not isinstance(table_VD, ShardedTable):
        return jax.vmap(sparse_bilinear, in_axes=(0, None, 0, 0, 0))(
            x_SND, table_VD, row_SM, item_SM, weight_SM
        ).sum()
    split, num_items, (_, num_rows, dim) = table_VD.split, table_VD.shape[0], x_SND.shape
    valid_SM = is_index(row_SM, num_rows) & is_index(item_SM, num_items)
    weight_SM = jnp.where(valid_SM | (weight_SM == 0), weight_SM, jnp.nan)
    x_SND, row_SM, item_SM, weight_SM = split.all_shards((x_SND, row_SM, item_SM, weight_SM))
    row_SM += num_rows * jnp.arange(len(row_SM))[:, None]
    flat = (each.ravel() for each in (row_SM, item_SM, weight_SM))
    return split.shared(_sharded_bilinear(split, x_SND.reshape(-1, dim), table_VD.local, *flat))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sharded_bilinear(split, x_ND, local_VD, row_M, item_M, weight_M):
    return _sharded_forward(split, x_ND, local_VD, row_M, item_M, weight_M)[0]


def _sharded_forward(split, x_ND, local_VD, row_M, item_M, weight_M):
    """Each device adds up the logits of its own rows."""
    index_M, here_M = ShardedTable(local_VD, split).local_index(item_M)
    weight_M = jnp.where(here_M, weight_M, 0)
    total, dx_ND, dtable_VD, dweight_M = _by_segments(x_ND, local_VD, row_M, index_M, weight_M)
    dx_ND, dweight_M = split.sum_own((dx_ND, jnp.where(here_M, dweight_M, 0)))
    return jax.lax.psum(total, split.axes), (dx_ND, dtable_VD, dweight_M)


def _sharded_backward(split, gradients, cotangent):
    # Each device has a share of the sum.
    cotangent = split.sum_batch(cotangent)
    dx_ND, dtable_VD, dweight_M = (cotangent * gradient for gradient in gradients)
    return dx_ND, dtable_VD, None, None, dweight_M


_sharded_bilinear.defvjp(_sharded_forward, _sharded_backward)


@jax.custom_vjp
def _sparse_bilinear(x_ND, table_VD, row_M, item_M, weight_M):
    return _forward(x_ND, table_VD, row_M, item_M, weight_M)[0]


def _forward(x_ND, table_VD, row_M, item_M, weight_M):
    """The sum, and its gradients by rows, table and weights."""
    functions = {"gpu": _by_segments}
    if x_ND.dtype == table_VD.dtype == weight_M.dtype == jnp.float32:
        functions["cpu_kernel"] = _by_kernel
    total, *gradients = by_platform(functions, x_ND, table_VD, row_M, item_M, weight_M)
    # A factor, so that gradients are NaN wherever they are of a sum that is.
    return total, (jnp.where(jnp.isnan(total), jnp.nan, 1), gradients)


def _by_segments(x_ND, table_VD, row_M, item_M, weight_M):
    weighted_MD = scale_rows(table_VD[item_M], weight_M)
    dx_ND = jax.ops.segment_sum(weighted_MD, row_M, x_ND.shape[0], indices_are_sorted=True)
    dtable_VD = jnp.zeros_like(table_VD).at[item_M].add(scale_rows(x_ND[row_M], weight_M))
    return (x_ND * dx_ND).sum(), dx_ND, dtable_VD, row_dot(x_ND[row_M], table_VD[item_M])


def _by_kernel(x_ND, table_VD, row_M, item_M, weight_M):
    if not registered():
        return None
    shapes = [(), x_ND.shape, table_VD.shape, weight_M.shape]
    call = jax.ffi.ffi_call(
        SPARSE_BILINEAR,
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        vmap_method="sequential",
    )
    index = (row_M.astype(jnp.int32), item_M.astype(jnp.int32))
    return tuple(call(x_ND, table_VD, *index, weight_M))


def _backward(residuals, cotangent):
    factor, gradients = residuals
    dx_ND, dtable_VD, dweight_M = (factor * cotangent * gradient for gradient in gradients)
    return dx_ND, dtable_VD, None, None, dweight_M


_sparse_bilinear.defvjp(_forward, _backward)
