"""Few entries of a product of two factors, summed with weights: x^T W E for a sparse W."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mqsa_jax.ops.kernels.registration import SPARSE_BILINEAR, kernels_apply


def sparse_bilinear(
    x_ND: Float[Array, "N D"],
    table_VD: Float[Array, "V D"],
    row_M: Int[Array, "M"],
    item_M: Int[Array, "M"],
    weight_M: Float[Array, "M"],
) -> Float[Array, ""]:
    r"""Weighted sum of few logits.

        sum_m w_m x_row(m) . E_item(m)

    Args:
      x_ND: [N, D] rows x.
      table_VD: [V, D] E, one row an item.
      row_M: int32 [M], 0..N-1, ascending.
      item_M: int32 [M], 0..V-1.
      weight_M: [M] w; 0 leaves an entry out, and its gradient may then be 0.

    Returns:
      The sum, a scalar; differentiable once, by reverse mode, in rows, table and weights.
    """
    if kernels_apply(x_ND, table_VD, weight_M):
        return _by_kernel(x_ND, table_VD, row_M, item_M, weight_M)
    sum_ND = jax.ops.segment_sum(
        weight_M[:, None] * table_VD[item_M], row_M, x_ND.shape[0], indices_are_sorted=True
    )
    return (x_ND * sum_ND).sum()


@jax.custom_vjp
def _by_kernel(x_ND, table_VD, row_M, item_M, weight_M):
    return _by_kernel_forward(x_ND, table_VD, row_M, item_M, weight_M)[0]


def _by_kernel_forward(x_ND, table_VD, row_M, item_M, weight_M):
    shapes = [(), x_ND.shape, table_VD.shape, weight_M.shape]
    call = jax.ffi.ffi_call(
        SPARSE_BILINEAR,
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        vmap_method="sequential",
    )
    index = (row_M.astype(jnp.int32), item_M.astype(jnp.int32))
    total, *gradients = call(x_ND, table_VD, *index, weight_M)
    return total, gradients


def _by_kernel_backward(gradients, cotangent):
    dx_ND, dtable_VD, dweight_M = (cotangent * gradient for gradient in gradients)
    return dx_ND, dtable_VD, None, None, dweight_M


_by_kernel.defvjp(_by_kernel_forward, _by_kernel_backward)
