"""Cross-entropies of linear softmaxes: several combined in one pass over the classes."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Float32

from mqsa_jax.losses.reduction import Reduction, mean
from mqsa_jax.ops.linear_logsumexp import linear_logsumexp
from mqsa_jax.ops.products import Precision
from mqsa_jax.ops.sharded_table import Table
from mqsa_jax.ops.sparse_logits import SparseLogits
from mqsa_jax.pytree import pytree_dataclass


@pytree_dataclass
class LinearCrossEntropy:
    """A loss `sum_n w_n log( [pad_logit] + sum_j exp(x_n . E_j) ) - expected_logit`.

    NaN in `weight` marks rows with invalid inputs; it makes the loss and its gradients NaN.
    """

    x: Float[Array, "S N D"]
    """Rows x of S shards, one a device."""
    weight: Float32[Array, "S N"]
    """Weights w; 0 leaves a row out."""
    expected_logit: Float32[Array, ""]
    """Weighted sum of the logits that the labels expect, those in `sparse` included."""
    pad_logit: bool = struct.field(pytree_node=False)
    """Whether one more class takes part whose logit is always 0."""
    sparse: SparseLogits | None = None
    """[S, N, K] what is added to K logits of each row; None: nothing."""


def combine(
    losses: Sequence[LinearCrossEntropy],
    table_VD: Table,
    factors: Sequence[Float[Array, ""] | float],
    precision: Precision = "float32",
) -> tuple[Float[Array, ""], list[Float[Array, ""]]]:
    """A weighted sum of losses over the same classes, in one pass over the table.

    Args:
      losses: the losses; of equal S.
      table_VD: [V, D] E, one row a class.
      factors: factor of each loss in the sum; may be traced. A loss of factor 0 costs nothing.
      precision: of the matrix products.

    Returns:
      The sum, differentiable; and the value of each loss, without gradients, 0 where its factor is.

    Raises:
      ValueError: if there are not as many factors as losses, or their shards differ.
    """
    if len(losses) != len(factors):
        raise ValueError(f"{len(losses)} losses and {len(factors)} factors")
    if len({loss.x.shape[0] for loss in losses}) > 1:
        raise ValueError(f"losses of {[loss.x.shape[0] for loss in losses]} shards do not combine")

    def side_by_side(arrays):
        return jnp.concatenate(list(arrays), axis=1)

    total, lse_SN = linear_logsumexp(
        side_by_side(loss.x for loss in losses),
        table_VD,
        side_by_side(factor * loss.weight for loss, factor in zip(losses, factors, strict=True)),
        pad_logit=side_by_side(jnp.full(loss.weight.shape, loss.pad_logit) for loss in losses),
        sparse=_sparse_side_by_side(losses),
        precision=precision,
    )
    values, begin = [], 0
    for loss, factor in zip(losses, factors, strict=True):
        end = begin + loss.weight.shape[1]
        logsumexp = (loss.weight * lse_SN[:, begin:end]).sum()
        value = jnp.where(jnp.asarray(factor) == 0, 0, logsumexp - loss.expected_logit)
        values.append(jax.lax.stop_gradient(value))
        total -= factor * loss.expected_logit
        begin = end
    return total, values


def _sparse_side_by_side(losses: Sequence[LinearCrossEntropy]) -> SparseLogits | None:
    """[S, sum of N, largest K]; zeros for losses without sparse logits."""
    width = max((loss.sparse.item.shape[-1] for loss in losses if loss.sparse), default=0)
    if not width:
        return None

    def widened(loss: LinearCrossEntropy) -> SparseLogits:
        if loss.sparse is None:
            blank = (*loss.weight.shape, width)
            return SparseLogits(jnp.zeros(blank, jnp.int32), jnp.zeros(blank))
        spare = width - loss.sparse.item.shape[-1]
        return jax.tree.map(lambda leaf: jnp.pad(leaf, ((0, 0), (0, 0), (0, spare))), loss.sparse)

    return jax.tree.map(
        lambda *leaves: jnp.concatenate(leaves, axis=1), *[widened(loss) for loss in losses]
    )


def linear_weights(
    reduce_fn: Reduction | None, where_N: Bool[Array, "*N"]
) -> Float32[Array, "*N"] | None:
    """The weight of each row in a reduction that is known to be linear; None for any other.

    Known weights allow gradients to be formed in the same pass as the losses.

    Example:
      >>> linear_weights(jnp.mean, jnp.array([True, True, False, False])).tolist()
      [0.5, 0.5, 0.0, 0.0]
    """
    if reduce_fn is jnp.sum:
        return where_N.astype(jnp.float32)
    if reduce_fn is jnp.mean or reduce_fn is mean:
        return where_N / jnp.maximum(where_N.sum(), 1).astype(jnp.float32)
    return None


def one_shard(where_N: Bool[Array, "*N"], rows: Any) -> Any:
    """Rows [..., *] as those of one shard, [1, N, *]; 0 where they do not count.

    So what a row holds that does not count reaches neither values nor gradients.
    """

    def flat(leaf: Array) -> Array:
        leaf = leaf.reshape(1, where_N.size, *leaf.shape[where_N.ndim :])
        where = where_N.reshape(1, -1, *[1] * (leaf.ndim - 2))
        return jnp.where(where, leaf, 0)

    return jax.tree.map(flat, rows)
