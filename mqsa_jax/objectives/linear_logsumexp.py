"""The V-wide work of both losses, in one place: a log-sum-exp over all items, never kept whole.

Logits x E^T are [N, V]. They are formed for a chunk of rows at a time, and the gradients of a chunk
are formed right there in the forward pass, while its logits are still at hand: three matrix
products in all, none repeated, and temporaries of one chunk.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

CHUNK_LOGITS = {"cpu": 2**22, "gpu": 2**26, "tpu": 2**25}
"""Logits of a chunk, by backend: what fits near the cores, or fills them."""
CHUNK_ROWS = {"cpu": 240, "gpu": 4096, "tpu": 2048}
"""Rows of a chunk at most."""


def chunk_rows(num_rows: int, num_items: int, backend: str | None = None) -> int:
    """Rows whose logits are held at a time; a multiple of 8 unless all rows fit."""
    backend = backend or jax.default_backend()
    backend = backend if backend in CHUNK_ROWS else "gpu"
    rows = min(CHUNK_ROWS[backend], CHUNK_LOGITS[backend] // num_items // 8 * 8)
    return min(max(rows, 8), max(num_rows, 1))


def linear_logsumexp(
    x_SND: Float[Array, "S N D"],
    table_VD: Float[Array, "V D"],
    weight_SN: Float[Array, "S N"],
    *,
    zero_class: bool = False,
    chunk: int | None = None,
) -> Float[Array, ""]:
    r"""Weighted sum of log-sum-exps of linear logits.

        sum_n w_n log( [zero_class] + sum_j exp(x_n . E_j) )

    Rows after the last one of non-zero weight cost nothing: the number of chunks visited is decided
    at run time. The sum over shards S comes last, so that sharding S needs no communication before
    it.

    Args:
      x_SND: [S, N, D] rows.
      table_VD: [V, D] E, one row a class.
      weight_SN: [S, N] w; 0 leaves a row out.
      zero_class: whether one more class takes part whose logit is always 0.
      chunk: rows at a time; None chooses by backend.

    Returns:
      The sum, a scalar, float32 at least; differentiable once, by reverse mode, in rows and table,
      and in the weights of the chunks visited (all up to the last non-zero weight).
    """
    chunk = chunk or chunk_rows(x_SND.shape[1], table_VD.shape[0])
    rows = x_SND.shape[1]
    padding = max(chunk - rows, -rows % chunk)
    x_SND = jnp.pad(x_SND, ((0, 0), (0, padding), (0, 0)))
    weight_SN = jnp.pad(weight_SN.astype(_accumulator(x_SND, table_VD)), ((0, 0), (0, padding)))
    return _weighted_sum(zero_class, chunk, x_SND, table_VD, weight_SN)


def _accumulator(x_SND: Array, table_VD: Array) -> jnp.dtype:
    """Sums and losses are float32 at least, whatever the vectors are."""
    return jnp.promote_types(jnp.result_type(x_SND, table_VD), jnp.float32)


def _chunk_logsumexp(zero_class: bool, chunk_SCD: Array, table_VD: Array):
    """Log-sum-exp of a chunk [S, C] and its gradient in the logits [S, C, V]."""
    logits_SCV = jnp.einsum(
        "scd,vd->scv",
        chunk_SCD,
        table_VD,
        preferred_element_type=_accumulator(chunk_SCD, table_VD),
    )
    top_SC1 = logits_SCV.max(-1, keepdims=True)
    if zero_class:
        top_SC1 = jnp.maximum(top_SC1, 0)
    exp_SCV = jnp.exp(logits_SCV - top_SC1)
    total_SC1 = exp_SCV.sum(-1, keepdims=True)
    if zero_class:
        total_SC1 += jnp.exp(-top_SC1)
    return (jnp.log(total_SC1) + top_SC1)[..., 0], exp_SCV, total_SC1


def _num_chunks(weight_SN: Array, chunk: int) -> Array:
    """Chunks up to the last row of non-zero weight."""
    used = jnp.where(weight_SN != 0, jnp.arange(1, weight_SN.shape[1] + 1), 0)
    return (used.max() + chunk - 1) // chunk


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _weighted_sum(zero_class, chunk, x_SND, table_VD, weight_SN):
    def add_chunk(index, total_S):
        rows = partial(
            jax.lax.dynamic_slice_in_dim, start_index=index * chunk, slice_size=chunk, axis=1
        )
        lse_SC, _, _ = _chunk_logsumexp(zero_class, rows(x_SND), table_VD)
        return total_S + (rows(weight_SN) * lse_SC).sum(-1)

    start_S = jnp.zeros(x_SND.shape[0], weight_SN.dtype)
    return jax.lax.fori_loop(0, _num_chunks(weight_SN, chunk), add_chunk, start_S).sum()


def _weighted_sum_forward(zero_class, chunk, x_SND, table_VD, weight_SN):
    def add_chunk(index, carry):
        lse_SN, dx_SND, dtable_SVD = carry
        start = index * chunk
        rows = partial(jax.lax.dynamic_slice_in_dim, start_index=start, slice_size=chunk, axis=1)
        put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=start, axis=1)
        chunk_SCD = rows(x_SND)
        lse_SC, exp_SCV, total_SC1 = _chunk_logsumexp(zero_class, chunk_SCD, table_VD)
        grad_SCV = exp_SCV * (rows(weight_SN)[..., None] / total_SC1)
        dx_SCD = jnp.einsum("scv,vd->scd", grad_SCV, table_VD)
        dtable_SVD += jnp.einsum("scv,scd->svd", grad_SCV, chunk_SCD)
        return put(lse_SN, lse_SC), put(dx_SND, dx_SCD), dtable_SVD

    start = (
        jnp.zeros_like(weight_SN),
        jnp.zeros(x_SND.shape, weight_SN.dtype),
        jnp.zeros((x_SND.shape[0], *table_VD.shape), weight_SN.dtype),
    )
    num_chunks = _num_chunks(weight_SN, chunk)
    lse_SN, dx_SND, dtable_SVD = jax.lax.fori_loop(0, num_chunks, add_chunk, start)
    dtable_VD = dtable_SVD.sum(0).astype(table_VD.dtype)
    return (weight_SN * lse_SN).sum(), (dx_SND.astype(x_SND.dtype), dtable_VD, lse_SN)


def _weighted_sum_backward(zero_class, chunk, gradients, cotangent):
    del zero_class, chunk
    return jax.tree.map(lambda gradient: (cotangent * gradient).astype(gradient.dtype), gradients)


_weighted_sum.defvjp(_weighted_sum_forward, _weighted_sum_backward)
