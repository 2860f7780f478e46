"""The V-wide work of both losses, in one place: a log-sum-exp over all items, never kept whole.

Logits x E^T are [N, V]. They are formed for a chunk of rows at a time, and the gradients of a chunk
are formed right there in the forward pass, while its logits are still at hand: three matrix
products in all, none repeated, and temporaries of one chunk. Rows that do not count are moved out
of the way first, so that they cost nothing wherever they stand.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mqsa_jax.objectives.sparse_logits import SparseLogits
from mqsa_jax.precision import Precision, product

CHUNK_ROWS = {"cpu": 256, "gpu": 4096, "tpu": 2048}
"""Rows of a chunk at most, by backend: what fills the cores."""
CHUNK_LOGITS = {"cpu": 2**23, "gpu": 2**26, "tpu": 2**25}
"""Logits of a chunk at most, by backend: what fits near the cores."""
FEWEST_ROWS = 64
"""Rows of a chunk at least: every chunk adds to the table's whole gradient, [V, D]."""
TAIL_PARTS = 4
"""The rows behind the last full chunk are visited in chunks this many times smaller."""


def chunk_rows(num_rows: int, num_items: int, backend: str | None = None) -> int:
    """Rows whose logits are held at a time; a multiple of 8 unless all rows fit."""
    backend = backend or jax.default_backend()
    backend = backend if backend in CHUNK_ROWS else "gpu"
    rows = max(CHUNK_LOGITS[backend] // num_items // 8 * 8, FEWEST_ROWS)
    return min(CHUNK_ROWS[backend], rows, max(num_rows, 1))


def tail_rows(chunk: int) -> int:
    """Rows of the smaller chunks behind the last full one; the same for small chunks."""
    return chunk // TAIL_PARTS // 8 * 8 if chunk >= FEWEST_ROWS else chunk


@jax.custom_batching.custom_vmap
def _common_bound(count: Array) -> Array:
    """The count itself; under `vmap` the greatest of all members, the same for each.

    A loop whose number of turns differs from member to member would become one that, in every turn,
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
    zero_class: Bool[Array, "S N"] | bool = False,
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
      zero_class: whether one more class takes part whose logit is always 0; for all rows or each.
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
    dtype = _accumulator(x_SND, table_VD)
    if not x_SND.shape[1]:
        return jnp.zeros((), dtype), jnp.zeros(weight_SN.shape, dtype)
    zero_SN = jnp.broadcast_to(jnp.asarray(zero_class), weight_SN.shape)
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
        _gathered(zero_SN, source_SM),
        jax.tree.map(lambda leaf_SNK: _gathered(leaf_SNK, source_SM), sparse),
        _common_bound(where_SN.sum(1).max()),
    )
    return total, jax.lax.stop_gradient(_gathered(lse_SM, place_SN))


def _accumulator(x_SND: Array, table_VD: Array) -> jnp.dtype:
    """Sums and losses are float32 at least, whatever the vectors are."""
    return jnp.promote_types(jnp.result_type(x_SND, table_VD), jnp.float32)


def _chunk_logsumexp(
    precision: Precision,
    chunk_SCD: Array,
    table_VD: Array,
    zero_SC: Array,
    sparse: SparseLogits | None,
):
    """Log-sum-exp [S, C, 1] of a chunk, exp(logit - top) [S, C, V] and its sum [S, C, 1]."""
    logits_SCV = product("scd,vd->scv", chunk_SCD, table_VD, precision)
    if sparse is not None:
        logits_SCV = sparse.added_to(logits_SCV)
    zero_SC1 = zero_SC[..., None]
    top_SC1 = logits_SCV.max(-1, keepdims=True)
    top_SC1 = jnp.where(zero_SC1, jnp.maximum(top_SC1, 0), top_SC1)
    exp_SCV = jnp.exp(logits_SCV - top_SC1)
    total_SC1 = exp_SCV.sum(-1, keepdims=True) + jnp.where(zero_SC1, jnp.exp(-top_SC1), 0)
    return jnp.log(total_SC1) + top_SC1, exp_SCV, total_SC1


def _for_each_chunk(visit: Callable, used: Array, num_rows: int, chunk: int, start: Any) -> Any:
    """Folds `visit(begin, rows, carry)` over chunks of the first `used` rows, as many as it takes.

    Full chunks first, then smaller ones, so that few rows are visited in vain.
    """
    tail = tail_rows(chunk)
    full = 0
    if tail < chunk <= num_rows:
        full = used // chunk
        start = jax.lax.fori_loop(
            0, full, lambda index, carry: visit(index * chunk, chunk, carry), start
        )
    begin = full * chunk
    return jax.lax.fori_loop(
        0,
        (used - begin + tail - 1) // tail,
        lambda index, carry: visit(begin + index * tail, tail, carry),
        start,
    )


def _rows(tree_SM: Any, begin: Array, rows: int) -> Any:
    return jax.tree.map(
        lambda leaf_SM: jax.lax.dynamic_slice_in_dim(leaf_SM, begin, rows, axis=1), tree_SM
    )


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _weighted_sum(chunk, precision, x_SMD, table_VD, weight_SM, zero_SM, sparse, used):
    """The sum and the log-sum-exps [S, M], of which only the first `used` are formed."""

    def add_chunk(begin, rows, lse_SM):
        x_SCD, zero_SC, few = _rows((x_SMD, zero_SM, sparse), begin, rows)
        lse_SC1, _, _ = _chunk_logsumexp(precision, x_SCD, table_VD, zero_SC, few)
        return jax.lax.dynamic_update_slice_in_dim(lse_SM, lse_SC1[..., 0], begin, axis=1)

    start_SM = jnp.zeros_like(weight_SM)
    lse_SM = _for_each_chunk(add_chunk, used, x_SMD.shape[1], chunk, start_SM)
    return (weight_SM * lse_SM).sum(), lse_SM


def _weighted_sum_forward(chunk, precision, x_SMD, table_VD, weight_SM, zero_SM, sparse, used):
    def add_chunk(begin, rows, carry):
        lse_SM, dx_SMD, dtable_SDV, dvalue_SMK = carry
        put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=begin, axis=1)
        x_SCD, zero_SC, few = _rows((x_SMD, zero_SM, sparse), begin, rows)
        lse_SC1, exp_SCV, total_SC1 = _chunk_logsumexp(precision, x_SCD, table_VD, zero_SC, few)
        # Rows are scaled beside the products, not the V logits of each between them.
        scale_SC1 = _rows(weight_SM, begin, rows)[..., None] / total_SC1
        dx_SCD = scale_SC1 * product("scv,vd->scd", exp_SCV, table_VD, precision)
        dtable_SDV += product("scd,scv->sdv", scale_SC1 * x_SCD, exp_SCV, precision)
        if few is not None:
            chosen_SCK = jnp.take_along_axis(exp_SCV, few.item, axis=-1)
            dvalue_SMK = put(dvalue_SMK, scale_SC1 * chosen_SCK)
        return put(lse_SM, lse_SC1[..., 0]), put(dx_SMD, dx_SCD), dtable_SDV, dvalue_SMK

    start = (
        jnp.zeros_like(weight_SM),
        jnp.zeros(x_SMD.shape, weight_SM.dtype),
        jnp.zeros((x_SMD.shape[0], *table_VD.shape[::-1]), weight_SM.dtype),
        None if sparse is None else jnp.zeros(sparse.value.shape, weight_SM.dtype),
    )
    lse_SM, dx_SMD, dtable_SDV, dvalue_SMK = _for_each_chunk(
        add_chunk, used, x_SMD.shape[1], chunk, start
    )
    dtable_VD = dtable_SDV.sum(0).T.astype(table_VD.dtype)
    dvalue_SMK = None if sparse is None else dvalue_SMK.astype(sparse.value.dtype)
    gradients = (dx_SMD.astype(x_SMD.dtype), dtable_VD, lse_SM, dvalue_SMK)
    return ((weight_SM * lse_SM).sum(), lse_SM), gradients


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
