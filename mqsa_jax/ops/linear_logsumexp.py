"""Log-sum-exps of linear logits over all items: the V-wide work of both losses.

The logits x E^T, [N, V], are never held whole. They are formed for one chunk of rows at a time, and
the gradients of the chunk are formed with them, in the forward pass: by a kernel in C++ where one
applies, else by a loop of XLA's. Rows of weight 0 are sorted behind the others first, so that they
cost nothing; not so on GPUs, see `counting_rows.py`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mqsa_jax.ops import chunk_loop
from mqsa_jax.ops.chunk_loop import PLATFORMS, chunk_rows, tail_rows
from mqsa_jax.ops.counting_rows import over_all_rows, over_counting_rows
from mqsa_jax.ops.kernels import cpu_logsumexp as kernel
from mqsa_jax.ops.platforms import bound, by_platform
from mqsa_jax.ops.products import Precision, accumulator
from mqsa_jax.ops.sharded_table import ShardedTable, Table, local_rows
from mqsa_jax.ops.sparse_logits import SparseLogits


def linear_logsumexp(
    x_SND: Float[Array, "S N D"],
    table_VD: Table,
    weight_SN: Float[Array, "S N"],
    *,
    pad_logit: Bool[Array, "S N"] | bool = False,
    sparse: SparseLogits | None = None,
    chunk: int | None = None,
    precision: Precision = "float32",
) -> tuple[Float[Array, ""], Float[Array, "S N"]]:
    r"""Weighted sum of log-sum-exps of linear logits.

        sum_n w_n log( [pad_logit_n] + sum_j exp(x_n . E_j + sparse_nj) )

    Rows of weight 0 are skipped, but on GPUs: the number of chunks is decided at run time, by the
    shard with the most rows that count. Shards are summed last.

    Args:
      x_SND: [S, N, D] rows.
      table_VD: [V, D] E, one row a class; sharded or not.
      weight_SN: [S, N] w.
      pad_logit: whether one more class takes part whose logit is always 0; for all rows or each.
      sparse: [S, N, K] what is added to K logits of each row; None: nothing. A class outside 0..V-1
        makes its row NaN.
      chunk: rows at a time; None chooses by the platform that the program is lowered for.
      precision: of the matrix products.

    Returns:
      The sum, a scalar, float32 at least; differentiable once, by reverse mode, in rows, table,
      sparse values and the weights that are not 0. And the log-sum-exps [S, N] themselves, 0 where
      the weight is, without gradients.

    Raises:
      TypeError, ValueError: if shapes do not agree.
    """
    dtype = accumulator(x_SND, local_rows(table_VD))
    if not x_SND.shape[1]:
        return jnp.zeros((), dtype), jnp.zeros(weight_SN.shape, dtype)
    pad_SN = jnp.broadcast_to(jnp.asarray(pad_logit), weight_SN.shape)
    sparse = None if sparse is None else sparse.in_range(table_VD.shape[0])
    shape = weight_SN.shape
    if isinstance(table_VD, ShardedTable):
        x_SND, weight_SN, pad_SN, sparse = table_VD.split.flat_shards(
            (x_SND, weight_SN, pad_SN, sparse)
        )
    at_hand, num_rows = len(local_rows(table_VD)), x_SND.shape[1]
    chunks = {name: chunk or chunk_rows(num_rows, at_hand, name) for name in PLATFORMS}
    total, lse_SN = _weighted_sum(
        tuple(chunks.items()),
        precision,
        x_SND,
        table_VD,
        weight_SN.astype(dtype),
        pad_SN,
        sparse,
    )
    if isinstance(table_VD, ShardedTable):
        total = table_VD.split.shared(total)
        lse_SN = table_VD.split.own_shards(lse_SN.reshape(-1, *shape[1:]))
    return total, jax.lax.stop_gradient(lse_SN)


def row_logsumexps(
    x_SND: Float[Array, "S N D"],
    table_VD: Float[Array, "V D"],
    where_SN: Bool[Array, "S N"],
    *,
    pad_logit: Bool[Array, "S N"] | bool = False,
    sparse: SparseLogits | None = None,
    chunk: int | None = None,
    precision: Precision = "float32",
) -> Float[Array, "S N"]:
    r"""Log-sum-exps of linear logits, one a row, in two passes: gradients repeat the logits.

    For reductions that are not known to be linear: what a row counts in the gradients is known only
    after all log-sum-exps are. Where it is known before, `linear_logsumexp` needs one pass.
    Temporaries are one chunk of logits in either pass.

    Args:
      where_SN: [S, N] the rows to form.
      x_SND, table_VD, pad_logit, sparse, chunk, precision: as of `linear_logsumexp`.

    Returns:
      [S, N] `log( [pad_logit_n] + sum_j exp(x_n . E_j + sparse_nj) )`, 0 where `where_SN` is False;
      differentiable once, by reverse mode, in rows, table and sparse values.
    """
    pad_SN = jnp.broadcast_to(jnp.asarray(pad_logit), where_SN.shape)
    item, value = (None, None) if sparse is None else (sparse.item, sparse.value)
    return _row_logsumexps(chunk, precision, x_SND, table_VD, where_SN, pad_SN, item, value)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _row_logsumexps(chunk, precision, x_SND, table_VD, where_SN, pad_SN, item_SNK, value_SNK):
    weight_SN = where_SN.astype(accumulator(x_SND, table_VD))
    sparse = None if item_SNK is None else SparseLogits(item_SNK, value_SNK)
    options = dict(pad_logit=pad_SN, sparse=sparse, chunk=chunk, precision=precision)
    return linear_logsumexp(x_SND, table_VD, weight_SN, **options)[1]


def _row_logsumexps_forward(chunk, precision, *inputs):
    return _row_logsumexps(chunk, precision, *inputs), inputs


def _row_logsumexps_backward(chunk, precision, inputs, cotangent_SN):
    """The gradients of the sum weighted by the cotangents, all formed in one pass."""
    x_SND, table_VD, where_SN, pad_SN, item_SNK, value_SNK = inputs

    def weighted_sum(x_SND, table_VD, value_SNK):
        sparse = None if item_SNK is None else SparseLogits(item_SNK, value_SNK)
        weight_SN = jnp.where(where_SN, cotangent_SN, 0)
        options = dict(pad_logit=pad_SN, sparse=sparse, chunk=chunk, precision=precision)
        return linear_logsumexp(x_SND, table_VD, weight_SN, **options)[0]

    dx_SND, dtable_VD, dvalue_SNK = jax.grad(weighted_sum, argnums=(0, 1, 2))(
        x_SND, table_VD, value_SNK
    )
    return dx_SND, dtable_VD, None, None, None, dvalue_SNK


_row_logsumexps.defvjp(_row_logsumexps_forward, _row_logsumexps_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _weighted_sum(chunks, precision, x_SND, table_VD, weight_SN, pad_SN, sparse):
    """The sum, and the log-sum-exps [S, N], 0 where the weight is.

    `chunks` are pairs of a platform and its rows at a time.
    """
    functions = _over_rows(chunks, bound(chunk_loop.logsumexps, precision=precision))
    lse_SN, *_ = by_platform(functions, x_SND, table_VD, weight_SN, pad_SN, sparse)
    return (weight_SN * lse_SN).sum(), lse_SN


def _over_rows(chunks: tuple[tuple[str, int], ...], function: Callable) -> dict[str, Callable]:
    """By platform, a function of the chunk loop over the rows that count, or on GPUs over all."""
    functions = {
        name: bound(
            over_counting_rows,
            function=bound(function, chunk=chunk),
            room=tail_rows(chunk),
        )
        for name, chunk in chunks
    }
    return functions | {"gpu": bound(over_all_rows, function=function, chunk=dict(chunks)["gpu"])}


def _weighted_sum_forward(chunks, precision, x_SND, table_VD, weight_SN, pad_SN, sparse):
    with_gradients = bound(chunk_loop.logsumexps_with_gradients, precision=precision)
    functions = _over_rows(chunks, with_gradients)
    float32 = precision == "float32" and x_SND.dtype == table_VD.dtype == jnp.float32
    if float32 and not isinstance(table_VD, ShardedTable):
        by_kernel = _over_rows(chunks, kernel.logsumexps_with_gradients)
        functions["cpu_kernel"] = by_kernel["cpu"]
    lse_SN, *gradients = by_platform(functions, x_SND, table_VD, weight_SN, pad_SN, sparse)
    dx_SND, dtable_VD, dvalue_SNK = jax.tree.map(
        lambda gradient, value: gradient.astype(value.dtype),
        tuple(gradients),
        (x_SND, table_VD, None if sparse is None else sparse.value),
    )
    if isinstance(table_VD, ShardedTable):
        dx_SND, dvalue_SNK = table_VD.split.sum_own((dx_SND, dvalue_SNK))
    return ((weight_SN * lse_SN).sum(), lse_SN), (dx_SND, dtable_VD, lse_SN, dvalue_SNK)


def _weighted_sum_backward(chunks, precision, gradients, cotangents):
    del chunks, precision
    # The caller stops gradients through the log-sum-exps: their cotangent is 0.
    total, _ = cotangents
    dx_SND, dtable_VD, lse_SN, dvalue_SNK = gradients
    if isinstance(dtable_VD, ShardedTable):
        # Each device has a share of the sum.
        total = dtable_VD.split.sum_batch(total)
    dx_SND, dtable_VD, dweight_SN, dvalue_SNK = jax.tree.map(
        lambda gradient: (total * gradient).astype(gradient.dtype),
        (dx_SND, dtable_VD, lse_SN, dvalue_SNK),
    )
    dsparse = None
    if dvalue_SNK is not None:
        no_gradient = np.zeros(dvalue_SNK.shape, jax.dtypes.float0)
        dsparse = SparseLogits(no_gradient, dvalue_SNK)
    return dx_SND, dtable_VD, dweight_SN, None, dsparse


_weighted_sum.defvjp(_weighted_sum_forward, _weighted_sum_backward)
