"""The V-wide work of both losses, in one place: a log-sum-exp over all items, never kept whole.

Logits x E^T are [N, V]. They are formed for a chunk of rows at a time, and the gradients of a chunk
are formed right there in the forward pass: by a kernel in C++ on a CPU that has a compiler, else by
a loop of XLA's. Rows that do not count are moved out of the way first, so that they cost nothing
wherever they stand.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mqsa_jax.ops import chunk_loop
from mqsa_jax.ops.chunk_loop import chunk_rows, tail_rows
from mqsa_jax.ops.kernels import cpu_logsumexp as kernel
from mqsa_jax.ops.kernels.registration import kernels_apply
from mqsa_jax.ops.precision import Precision, accumulator
from mqsa_jax.ops.sparse_logits import SparseLogits


@jax.custom_batching.custom_vmap
def _common_bound(count: Array) -> Array:
    """The count itself; under `vmap` the greatest of all trials, the same for each.

    A loop whose number of turns differs from trial to trial would become one that, in every turn,
    selects between old and new values of all that it carries, a gradient of the table among them.
    """
    return count


@_common_bound.def_vmap
def _(axis_size: int, in_batched: list[bool], count_P: Array) -> tuple[Array, bool]:
    del axis_size, in_batched
    return _common_bound(count_P.max()), False


def _counting_first(where_SN: Array, length: int) -> tuple[Array, Array]:
    """The order in which rows that count come first.

    Returns:
      [S, N] the place of each row, `length` where it does not count; [S, length] the row at each
      place, N behind the last that counts.
    """
    rows = where_SN.shape[1]
    place_SN = jnp.where(where_SN, jnp.cumsum(where_SN, axis=1) - 1, length)

    def inverse(place_N):
        return jnp.full(length, rows).at[place_N].set(jnp.arange(rows), mode="drop")

    return place_SN, jax.vmap(inverse)(place_SN)


def _gathered(array_SN: Array, index_SM: Array) -> Array:
    """[S, M, ...] entries of each shard; 0 at indices beyond its end."""

    def gather(array_N, index_M):
        return array_N.at[index_M].get(mode="fill", fill_value=0)

    return jax.vmap(gather)(array_SN, index_SM)


def linear_logsumexp(
    x_SND: Float[Array, "S N D"],
    table_VD: Float[Array, "V D"],
    weight_SN: Float[Array, "S N"],
    *,
    pad_logit: Bool[Array, "S N"] | bool = False,
    sparse: SparseLogits | None = None,
    chunk: int | None = None,
    precision: Precision = "float32",
) -> tuple[Float[Array, ""], Float[Array, "S N"]]:
    r"""Weighted sum of log-sum-exps of linear logits.

        sum_n w_n log( [zero_class_n] + sum_j exp(x_n . E_j + sparse_nj) )

    Rows of weight 0 are not visited: how many chunks are is decided at run time, by the fullest
    shard. The sum over shards S comes last, so that all that sharded S needs before it is
    that one maximum.

    Args:
      x_SND: [S, N, D] rows.
      table_VD: [V, D] E, one row a class.
      weight_SN: [S, N] w.
      pad_logit: whether one more class takes part whose logit is always 0; for all rows or each.
      sparse: [S, N, K] what is added to few logits of each row; None: nothing.
      chunk: rows at a time; None chooses by backend.
      precision: of the matrix products.

    Returns:
      The sum, a scalar, float32 at least; differentiable once, by reverse mode, in rows, table,
      sparse values and the weights that are not 0. And the log-sum-exps [S, N] themselves, 0 where
      the weight is, without gradients.

    Raises:
      TypeError, ValueError: if shapes do not agree.
    """
    dtype = accumulator(x_SND, table_VD)
    if not x_SND.shape[1]:
        return jnp.zeros((), dtype), jnp.zeros(weight_SN.shape, dtype)
    pad_SN = jnp.broadcast_to(jnp.asarray(pad_logit), weight_SN.shape)
    where_SN = weight_SN != 0
    chunk = chunk or chunk_rows(x_SND.shape[1], table_VD.shape[0])
    # Room for a whole tail chunk behind the last row, wherever the tail begins.
    place_SN, source_SM = _counting_first(where_SN, x_SND.shape[1] + tail_rows(chunk))
    total, lse_SM = _weighted_sum(
        chunk,
        precision,
        _gathered(x_SND, source_SM),
        table_VD,
        _gathered(weight_SN.astype(dtype), source_SM),
        _gathered(pad_SN, source_SM),
        jax.tree.map(lambda leaf_SNK: _gathered(leaf_SNK, source_SM), sparse),
        _common_bound(where_SN.sum(1).max()),
    )
    return total, jax.lax.stop_gradient(_gathered(lse_SM, place_SN))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _weighted_sum(chunk, precision, x_SMD, table_VD, weight_SM, pad_SM, sparse, used):
    """The sum and the log-sum-exps [S, M], of which only the first `used` are formed."""
    lse_SM = chunk_loop.logsumexps(
        x_SMD, table_VD, pad_SM, sparse, used, chunk=chunk, precision=precision
    )
    return (weight_SM * lse_SM).sum(), lse_SM


def _weighted_sum_forward(chunk, precision, x_SMD, table_VD, weight_SM, pad_SM, sparse, used):
    if precision == "float32" and kernels_apply(x_SMD, table_VD):
        visit = kernel.logsumexps_with_gradients
    else:
        visit = partial(chunk_loop.logsumexps_with_gradients, precision=precision)
    lse_SM, *gradients = visit(x_SMD, table_VD, weight_SM, pad_SM, sparse, used, chunk=chunk)
    dx_SMD, dtable_VD, dvalue_SMK = jax.tree.map(
        lambda gradient, value: gradient.astype(value.dtype),
        tuple(gradients),
        (x_SMD, table_VD, None if sparse is None else sparse.value),
    )
    return ((weight_SM * lse_SM).sum(), lse_SM), (dx_SMD, dtable_VD, lse_SM, dvalue_SMK)


def _weighted_sum_backward(chunk, precision, gradients, cotangents):
    del chunk, precision
    # The log-sum-exps are for reading alone: their cotangent is 0.
    total, _ = cotangents
    *dense, dvalue_SMK = jax.tree.map(
        lambda gradient: (total * gradient).astype(gradient.dtype), gradients
    )
    dsparse = None
    if dvalue_SMK is not None:
        no_gradient = np.zeros(dvalue_SMK.shape, jax.dtypes.float0)
        dsparse = SparseLogits(no_gradient, dvalue_SMK)
    return (*dense, None, dsparse, None)


_weighted_sum.defvjp(_weighted_sum_forward, _weighted_sum_backward)
