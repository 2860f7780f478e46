"""Log-sum-exps of linear logits over all items: the V-wide work of both losses.

The logits x E^T, [N, V], are never held whole. They are formed for one chunk of rows at a time, and
the gradients of the chunk are formed with them, in the forward pass: by a kernel in C++ where one
applies, else by a loop of XLA's. Rows of weight 0 are sorted behind the others first, so that they
cost nothing.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mqsa_jax.ops import chunk_loop
from mqsa_jax.ops.chunk_loop import PLATFORMS, chunk_rows, tail_rows
from mqsa_jax.ops.kernels import cpu_logsumexp as kernel
from mqsa_jax.ops.platforms import bound, by_platform
from mqsa_jax.ops.products import Precision, accumulator
from mqsa_jax.ops.sharded_table import ShardedTable, Table, local_rows
from mqsa_jax.ops.sparse_logits import SparseLogits


@jax.custom_batching.custom_vmap
def _common_bound(count: Array) -> Array:
    """The count itself; under `vmap` the maximum over the mapped axis, the same for all.

    If the number of turns of a loop differs along a mapped axis, JAX makes every turn select
    between the old and new values of all that it carries, which includes gradients of the table.
    """
    return count


@_common_bound.def_vmap
def _(axis_size: int, in_batched: list[bool], count_P: Array) -> tuple[Array, bool]:
    del axis_size, in_batched
    return _common_bound(count_P.max()), False


def _counting_first(where_SN: Array, length: int) -> tuple[Array, Array]:
    """A permutation that puts the rows that count first.

    Returns:
      [S, N] the slot of each row, `length` where it does not count; [S, length] the row of each
      slot, N behind the last row that counts.
    """
    rows = where_SN.shape[1]
    slot_SN = jnp.where(where_SN, jnp.cumsum(where_SN, axis=1) - 1, length)

    def inverse(slot_N):
        return jnp.full(length, rows).at[slot_N].set(jnp.arange(rows), mode="drop")

    return slot_SN, jax.vmap(inverse)(slot_SN)


def _gathered(array_SN: Array, index_SM: Array) -> Array:
    """[S, M, ...] entries of each shard; 0 at indices beyond its end."""

    def gather(array_N, index_M):
        return array_N.at[index_M].get(mode="fill", fill_value=0)

    return jax.vmap(gather)(array_SN, index_SM)


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

    Rows of weight 0 are skipped: the number of chunks is decided at run time, by the shard with the
    most rows that count. Shards are summed last, so that devices exchange only that number before.

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
    where_SN, num_rows = weight_SN != 0, x_SND.shape[1]
    at_hand = len(local_rows(table_VD))
    chunks = {name: chunk or chunk_rows(num_rows, at_hand, name) for name in PLATFORMS}
    # Room for a whole tail chunk behind the last row, wherever the tail begins.
    room = max(map(tail_rows, chunks.values()))
    slot_SN, source_SM = _counting_first(where_SN, num_rows + room)
    total, lse_SM = _weighted_sum(
        tuple(chunks.items()),
        precision,
        _gathered(x_SND, source_SM),
        table_VD,
        _gathered(weight_SN.astype(dtype), source_SM),
        _gathered(pad_SN, source_SM),
        jax.tree.map(lambda leaf_SNK: _gathered(leaf_SNK, source_SM), sparse),
        _common_bound(where_SN.sum(1).max()),
    )
    lse_SN = _gathered(lse_SM, slot_SN)
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
def _weighted_sum(chunks, precision, x_SMD, table_VD, weight_SM, pad_SM, sparse, used):
    """The sum, and the log-sum-exps [S, M]; only the first `used` of each shard are formed.

    `chunks` are pairs of a platform and its rows at a time.
    """
    functions = {
        name: bound(chunk_loop.logsumexps, chunk=chunk, precision=precision)
        for name, chunk in chunks
    }
    lse_SM = by_platform(functions, x_SMD, table_VD, pad_SM, sparse, used)
    return (weight_SM * lse_SM).sum(), lse_SM


def _weighted_sum_forward(chunks, precision, x_SMD, table_VD, weight_SM, pad_SM, sparse, used):
    functions = {
        name: bound(chunk_loop.logsumexps_with_gradients, chunk=chunk, precision=precision)
        for name, chunk in chunks
    }
    float32 = precision == "float32" and x_SMD.dtype == table_VD.dtype == jnp.float32
    if float32 and not isinstance(table_VD, ShardedTable):
        functions["cpu_kernel"] = bound(kernel.logsumexps_with_gradients, chunk=dict(chunks)["cpu"])
    lse_SM, *gradients = by_platform(functions, x_SMD, table_VD, weight_SM, pad_SM, sparse, used)
    dx_SMD, dtable_VD, dvalue_SMK = jax.tree.map(
        lambda gradient, value: gradient.astype(value.dtype),
        tuple(gradients),
        (x_SMD, table_VD, None if sparse is None else sparse.value),
    )
    if isinstance(table_VD, ShardedTable):
        dx_SMD, dvalue_SMK = table_VD.split.sum_own((dx_SMD, dvalue_SMK))
    return ((weight_SM * lse_SM).sum(), lse_SM), (dx_SMD, dtable_VD, lse_SM, dvalue_SMK)


def _weighted_sum_backward(chunks, precision, gradients, cotangents):
    del chunks, precision
    # The caller stops gradients through the log-sum-exps: their cotangent is 0.
    total, _ = cotangents
    dx_SMD, dtable_VD, lse_SM, dvalue_SMK = gradients
    if isinstance(dtable_VD, ShardedTable):
        # Each device has a share of the sum.
        total = dtable_VD.split.sum_batch(total)
    dx_SMD, dtable_VD, dweight_SM, dvalue_SMK = jax.tree.map(
        lambda gradient: (total * gradient).astype(gradient.dtype),
        (dx_SMD, dtable_VD, lse_SM, dvalue_SMK),
    )
    dsparse = None
    if dvalue_SMK is not None:
        no_gradient = np.zeros(dvalue_SMK.shape, jax.dtypes.float0)
        dsparse = SparseLogits(no_gradient, dvalue_SMK)
    return dx_SMD, dtable_VD, dweight_SM, None, dsparse, None


_weighted_sum.defvjp(_weighted_sum_forward, _weighted_sum_backward)
