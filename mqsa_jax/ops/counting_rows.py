"""Which rows of a batch to compute: those that count, found at run time, or all.

A function here is `chunk_loop.logsumexps_with_gradients`, or another one of the same arguments. It
is given rows [S, M, ...] and how many of them to form, and its results are put back in the order of
the rows.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mqsa_jax.ops.sharded_table import Table
from mqsa_jax.ops.sparse_logits import SparseLogits

Results = tuple[Array, Array | None, Table | None, Array | None]
"""Of a function: log-sum-exps, and gradients by rows, table and sparse values where it has them."""


def over_counting_rows(
    x_SND: Array,
    table_VD: Table,
    weight_SN: Array,
    pad_SN: Array,
    sparse: SparseLogits | None,
    *,
    function: Callable[..., Any],
    room: int,
) -> Results | None:
    """A function of the rows whose weight is not 0, as many as they are at run time.

    They are put in front of the others, as many in each shard as the shard with the most has. What
    is left out costs nothing. For devices that run a loop of any number of turns by themselves.

    Args:
      x_SND, table_VD, weight_SN, pad_SN, sparse: arguments of the function, in any order of rows.
      function: what to call.
      room: rows behind the last one that the function may form in vain.

    Returns:
      What the function returns, 0 at rows of weight 0; None if it returns None.
    """
    where_SN = weight_SN != 0
    slot_SN, source_SM = _counting_first(where_SN, where_SN.shape[1] + room)
    x_SMD, weight_SM, pad_SM, sparse = jax.tree.map(
        lambda leaf: _gathered(leaf, source_SM), (x_SND, weight_SN, pad_SN, sparse)
    )
    used = _common_bound(where_SN.sum(1).max())
    results = function(x_SMD, table_VD, weight_SM, pad_SM, sparse, used)
    if results is None:
        return None
    lse_SM, dx_SMD, dtable_VD, dvalue_SMK = results
    lse_SN, dx_SND, dvalue_SNK = jax.tree.map(
        lambda leaf: _gathered(leaf, slot_SN), (lse_SM, dx_SMD, dvalue_SMK)
    )
    return lse_SN, dx_SND, dtable_VD, dvalue_SNK


def over_all_rows(
    x_SND: Array,
    table_VD: Table,
    weight_SN: Array,
    pad_SN: Array,
    sparse: SparseLogits | None,
    *,
    function: Callable[..., Any],
    chunk: int,
) -> Results:
    """A function of all rows, in equal chunks whose number is static.

    For GPUs, where the host reads the number of turns of a loop, unless it is static, and waits for
    all work before it.

    Args:
      x_SND, table_VD, weight_SN, pad_SN, sparse, function: as of `over_counting_rows`.
      chunk: rows at a time at most.

    Returns:
      What the function returns, 0 at rows of weight 0, whatever they hold.
    """
    num_rows = weight_SN.shape[1]
    chunks = -(-num_rows // chunk)
    size = -(-num_rows // chunks)
    where_SN = weight_SN != 0
    x_SND = jnp.where(where_SN[..., None], x_SND, 0)

    def filled_up(leaf: Array) -> Array:
        behind = (0, chunks * size - num_rows)
        return jnp.pad(leaf, ((0, 0), behind, *[(0, 0)] * (leaf.ndim - 2)))

    rows = jax.tree.map(filled_up, (x_SND, weight_SN, pad_SN, sparse))
    x_SMD, weight_SM, pad_SM, sparse = rows
    results = function(x_SMD, table_VD, weight_SM, pad_SM, sparse, weight_SM.shape[1], chunk=size)
    lse_SM, dx_SMD, dtable_VD, dvalue_SMK = results
    lse_SN, dx_SND, dvalue_SNK = jax.tree.map(
        lambda leaf: leaf[:, :num_rows], (lse_SM, dx_SMD, dvalue_SMK)
    )
    return jnp.where(where_SN, lse_SN, 0), dx_SND, dtable_VD, dvalue_SNK


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
