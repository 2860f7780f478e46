"""Log-sum-exps of linear logits over chunks of rows, as a loop of XLA's.

The gradients of a chunk are formed while its logits are still at hand: three matrix products in
all, none repeated, and temporaries of one chunk.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mqsa_jax.ops.products import Precision, product
from mqsa_jax.ops.sharded_table import ShardedTable, Table, local_rows
from mqsa_jax.ops.sparse_logits import SparseLogits

CHUNK_ROWS = {"cpu": 256, "gpu": 4096, "tpu": 2048}
"""Rows of a chunk at most, by platform: what fills the cores."""
PLATFORMS = tuple(CHUNK_ROWS)
CHUNK_LOGITS = {"cpu": 2**23, "gpu": 2**26, "tpu": 2**25}
"""Logits of a chunk at most, by platform: what fits into the caches."""
MIN_ROWS = 64
"""Rows of a chunk at least: every chunk adds to the table's whole gradient, [V, D]."""
TAIL_PARTS = 4
"""The rows behind the last full chunk come in chunks this many times smaller."""


def chunk_rows(num_rows: int, num_items: int, platform: str) -> int:
    """Rows whose logits are held at a time; a multiple of 8 unless all rows fit.

    Args:
      num_rows: rows there are.
      num_items: logits of a row.
      platform: of the devices; another one than in `PLATFORMS` counts as `gpu`.
    """
    platform = platform if platform in CHUNK_ROWS else "gpu"
    rows = max(CHUNK_LOGITS[platform] // num_items // 8 * 8, MIN_ROWS)
    return min(CHUNK_ROWS[platform], rows, max(num_rows, 1))


def tail_rows(chunk: int) -> int:
    """Rows of the smaller chunks behind the last full one; the same for small chunks."""
    return chunk // TAIL_PARTS // 8 * 8 if chunk >= MIN_ROWS else chunk


def _chunk_logsumexp(
    precision: Precision,
    chunk_SCD: Array,
    table_VD: Table,
    pad_SC: Array,
    sparse: SparseLogits | None,
):
    """Log-sum-exp [S, C, 1] of a chunk, exp(logit - top) [S, C, V] and its sum [S, C, 1].

    Of a sharded table, logits are those of this device's rows, maxima and sums those of all rows.
    """
    logits_SCV = product("scd,vd->scv", chunk_SCD, local_rows(table_VD), precision)
    if sparse is not None:
        logits_SCV = sparse.added_to(logits_SCV)
    pad_SC1 = pad_SC[..., None]
    if isinstance(table_VD, ShardedTable):
        logits_SCV = jnp.where(table_VD.is_row(), logits_SCV, -jnp.inf)
    top_SC1 = logits_SCV.max(-1, keepdims=True)
    if isinstance(table_VD, ShardedTable):
        top_SC1 = jax.lax.pmax(top_SC1, table_VD.split.axes)
    top_SC1 = jnp.where(pad_SC1, jnp.maximum(top_SC1, 0), top_SC1)
    exp_SCV = jnp.exp(logits_SCV - top_SC1)
    total_SC1 = exp_SCV.sum(-1, keepdims=True)
    if isinstance(table_VD, ShardedTable):
        total_SC1 = jax.lax.psum(total_SC1, table_VD.split.axes)
    total_SC1 += jnp.where(pad_SC1, jnp.exp(-top_SC1), 0)
    return jnp.log(total_SC1) + top_SC1, exp_SCV, total_SC1


def _for_each_chunk(
    body: Callable, used: Array | int, num_rows: int, chunk: int, start: Any
) -> Any:
    """Folds `body(begin, rows, carry)` over chunks of the first `used` rows, as many as it takes.

    Full chunks first, then smaller ones, so that little is computed in vain.
    """
    tail = tail_rows(chunk)
    full = 0
    if tail < chunk <= num_rows:
        full = used // chunk
        start = jax.lax.fori_loop(
            0, full, lambda index, carry: body(index * chunk, chunk, carry), start
        )
    begin = full * chunk
    return jax.lax.fori_loop(
        0,
        (used - begin + tail - 1) // tail,
        lambda index, carry: body(begin + index * tail, tail, carry),
        start,
    )


def _rows(tree_SM: Any, begin: Array | int, rows: int) -> Any:
    return jax.tree.map(
        lambda leaf_SM: jax.lax.dynamic_slice_in_dim(leaf_SM, begin, rows, axis=1), tree_SM
    )


def logsumexps(
    x_SMD: Array,
    table_VD: Table,
    weight_SM: Array,
    pad_SM: Array,
    sparse: SparseLogits | None,
    used: Array | int,
    *,
    chunk: int,
    precision: Precision,
) -> tuple[Array, None, None, None]:
    """Log-sum-exps of the first `used` rows of each shard, with nothing in place of gradients.

    Args:
      x_SMD: [S, M, D] rows.
      table_VD: [V, D] one row a class. A sharded one needs the rows x of all parts of the batch
        that it serves.
      weight_SM: unused; as of `logsumexps_with_gradients`.
      pad_SM: bool [S, M], whether one more class takes part whose logit is always 0.
      sparse: [S, M, K] what is added to K logits of each row; None: nothing.
      used: int32, how many rows of a shard are formed, in whole tail chunks; if it is static, so is
        the number of chunks.
      chunk: rows at a time; M leaves room for a tail chunk behind the rows that are used.
      precision: of the matrix products.

    Returns:
      [S, M] log-sum-exps, in nats, of the dtype of the weights; meaningless behind the rows that
      are used. And None three times.
    """

    def add_chunk(begin, rows, lse_SM):
        x_SCD, pad_SC, some = _rows((x_SMD, pad_SM, sparse), begin, rows)
        lse_SC1, _, _ = _chunk_logsumexp(precision, x_SCD, table_VD, pad_SC, some)
        return jax.lax.dynamic_update_slice_in_dim(lse_SM, lse_SC1[..., 0], begin, axis=1)

    sparse = _own_logits(table_VD, sparse)
    start_SM = jnp.zeros(pad_SM.shape, weight_SM.dtype)
    lse_SM = _for_each_chunk(add_chunk, used, x_SMD.shape[1], chunk, start_SM)
    return lse_SM, None, None, None


def logsumexps_with_gradients(
    x_SMD: Array,
    table_VD: Table,
    weight_SM: Array,
    pad_SM: Array,
    sparse: SparseLogits | None,
    used: Array | int,
    *,
    chunk: int,
    precision: Precision,
) -> tuple[Array, Array, Table, Array | None]:
    """The same, and the gradients of their sum weighted by `weight_SM`.

    Args:
      weight_SM: [S, M] what each row counts; 0 behind the rows that are used. Of the dtype in which
        sums are kept.
      x_SMD, table_VD, pad_SM, sparse, used, chunk, precision: as of `logsumexps`.

    Returns:
      [S, M] log-sum-exps; gradients by rows [S, M, D], by the table [V, D] and, if there are sparse
      logits, by their values [S, M, K]. Of a sharded table, gradients by rows and values are what
        its local rows add to them.
    """
    local_VD, classes_SMK = local_rows(table_VD), None if sparse is None else sparse.item
    sparse = _own_logits(table_VD, sparse)

    def add_chunk(begin, rows, carry):
        lse_SM, dx_SMD, dtable_SDV, dvalue_SMK = carry
        put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=begin, axis=1)
        x_SCD, pad_SC, some = _rows((x_SMD, pad_SM, sparse), begin, rows)
        lse_SC1, exp_SCV, total_SC1 = _chunk_logsumexp(precision, x_SCD, table_VD, pad_SC, some)
        # Rows are scaled beside the products, not the V logits of each between them.
        scale_SC1 = _rows(weight_SM, begin, rows)[..., None] / total_SC1
        dx_SCD = scale_SC1 * product("scv,vd->scd", exp_SCV, local_VD, precision)
        dtable_SDV += product("scd,scv->sdv", scale_SC1 * x_SCD, exp_SCV, precision)
        if some is not None:
            chosen_SCK = jnp.take_along_axis(exp_SCV, some.item, axis=-1)
            dvalue_SMK = put(dvalue_SMK, scale_SC1 * chosen_SCK)
        return put(lse_SM, lse_SC1[..., 0]), put(dx_SMD, dx_SCD), dtable_SDV, dvalue_SMK

    start = (
        jnp.zeros_like(weight_SM),
        jnp.zeros(x_SMD.shape, weight_SM.dtype),
        jnp.zeros((x_SMD.shape[0], *local_VD.shape[::-1]), weight_SM.dtype),
        None if sparse is None else jnp.zeros(sparse.value.shape, weight_SM.dtype),
    )
    lse_SM, dx_SMD, dtable_SDV, dvalue_SMK = _for_each_chunk(
        add_chunk, used, x_SMD.shape[1], chunk, start
    )
    dtable_VD = dtable_SDV.sum(0).T
    if isinstance(table_VD, ShardedTable):
        dtable_VD = table_VD.replace(local=dtable_VD)
        if sparse is not None:
            _, here_SMK = table_VD.local_index(classes_SMK)
            dvalue_SMK = jnp.where(here_SMK, dvalue_SMK, 0)
    return lse_SM, dx_SMD, dtable_VD, dvalue_SMK


def _own_logits(table_VD: Table, sparse: SparseLogits | None) -> SparseLogits | None:
    """The sparse logits of the rows at hand; those of others become 0."""
    if sparse is None or not isinstance(table_VD, ShardedTable):
        return sparse
    item, here = table_VD.local_index(sparse.item)
    return SparseLogits(item, jnp.where(here, sparse.value, 0))
