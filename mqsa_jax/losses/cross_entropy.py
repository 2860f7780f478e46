"""Cross-entropies of linear softmaxes, several at once: one pass of matrix products for all."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from mqsa_jax.ops.linear_logsumexp import linear_logsumexp
from mqsa_jax.ops.precision import Precision
from mqsa_jax.ops.sparse_logits import SparseLogits
from mqsa_jax.pytree import Leaf


@struct.dataclass
class LinearCrossEntropy:
    """A loss `sum_n w_n log( [pad_logit] + sum_j exp(x_n . E_j) ) - expected_logit`."""

    x: Leaf
    """float [S, N, D] rows x; S shards, one a device."""
    weight: Leaf
    """float32 [S, N] w; 0 leaves a row out."""
    expected_logit: Leaf
    """float [] weighted sum of the logits that the labels expect."""
    pad_logit: bool = struct.field(pytree_node=False)
    """Whether one more class takes part whose logit is always 0."""
    sparse: SparseLogits | None = None
    """[S, N, K] what is added to few logits of each row; `expected_logit` holds its share."""


def combine(
    losses: Sequence[LinearCrossEntropy],
    table_VD: Float[Array, "V D"],
    factors: Sequence[Float[Array, ""] | float],
    precision: Precision = "float32",
) -> tuple[Float[Array, ""], list[Float[Array, ""]]]:
    """A weighted sum of losses over the same classes, at the price of one.

    Args:
      losses: the losses; of equal S.
      table_VD: [V, D] E, one row a class.
      factors: what each loss counts in the sum; may be traced. A loss of factor 0 costs nothing.
      precision: of the matrix products.

    Returns:
      The sum, to be differentiated; and the value of each loss, without gradients: 0 where its
      factor is.

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
    """[S, sum of N, most of K]; losses without sparse logits get zeros."""
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
