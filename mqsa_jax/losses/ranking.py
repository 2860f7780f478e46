"""The ranking loss: softmax cross-entropy over all items and one padding class."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mqsa_jax.losses.cross_entropy import LinearCrossEntropy, combine
from mqsa_jax.losses.reduction import Reduction, reduction_weights
from mqsa_jax.ops.row_products import row_dot
from mqsa_jax.ops.sparse_logits import SparseLogits


def ranking_loss(
    user_ND: Float[Array, "*B N D"],
    item_VD: Float[Array, "V D"],
    target_N: Int[Array, "*B N"],
    *,
    sparse: SparseLogits | None = None,
    where: Bool[Array, "*B N"] | None = None,
    reduce_fn: Reduction = jnp.mean,
) -> Float[Array, ""]:
    r"""Softmax cross-entropy of the next item, [N, V] logits never kept.

        l_n = log( 1 + sum_j exp(s_nj) ) - s_n,target(n),    s_nj = z_n . E_j + sparse_nj

    The 1 is a padding class whose logit is always 0, as in the authors' code.

    Args:
      user_ND: [..., N, D] user vectors z.
      item_VD: [V, D] item vectors E.
      target_N: [..., N] int32 index 0..V-1 of the next item.
      sparse: [..., N, K] what is added to few scores of each row; None: nothing.
      where: [..., N] which rows count; None: all. Others may hold anything finite.
      reduce_fn: linear reduction taking `where=`, such as `jnp.mean` or `jnp.sum`. For a loss a
        row, `jax.vmap` over single rows [D].

    Returns:
      The reduced loss, in nats; 0 where nothing counts.

    Raises:
      AssertionError: naming the shapes that do not agree.

    Reference:
      Zhu et al., WSDM 2024, arXiv 2311.01056: the recommendation loss.

    Example:
      >>> loss = ranking_loss(jnp.zeros((2, 4)), jnp.ones((9, 4)), jnp.array([3, 5]))
      >>> round(float(loss), 4)  # ten classes, all alike: log(10)
      2.3026
    """
    chex.assert_shape(user_ND, (*target_N.shape, item_VD.shape[-1]))
    where_N = jnp.ones(target_N.shape, bool) if where is None else where
    chex.assert_equal_shape([where_N, target_N])
    if sparse is not None:
        chex.assert_shape([sparse.item, sparse.value], (*target_N.shape, None))
        sparse = jax.tree.map(lambda leaf: leaf.reshape(1, -1, leaf.shape[-1]), sparse)
    loss = ranking_cross_entropy(
        user_ND.reshape(1, -1, user_ND.shape[-1]),
        item_VD,
        target_N.reshape(1, -1),
        reduction_weights(reduce_fn, where_N).reshape(1, -1),
        sparse=sparse,
    )
    return combine([loss], item_VD, [1.0])[0]


def ranking_cross_entropy(
    user_SND: Float[Array, "S N D"],
    item_VD: Float[Array, "V D"],
    target_SN: Int[Array, "S N"],
    weight_SN: Float[Array, "S N"],
    *,
    sparse: SparseLogits | None = None,
) -> LinearCrossEntropy:
    """The ranking loss as a weighted sum over the rows of S shards, to be combined with others.

    Args:
      user_SND: [S, N, D] user vectors z; S shards, one a device.
      item_VD: [V, D] item vectors E.
      target_SN: [S, N] int32 index 0..V-1 of the next item.
      weight_SN: [S, N] weight of each row in the sum; 0 leaves a row out.
      sparse: [S, N, K] what is added to some scores of each row; None: nothing.
    """
    target_logit_SN = row_dot(user_SND, item_VD[target_SN])
    if sparse is not None:
        target_logit_SN += sparse.at(target_SN)
    return LinearCrossEntropy(
        x=user_SND,
        weight=weight_SN,
        expected_logit=(weight_SN * target_logit_SN).sum(),
        pad_logit=True,
        sparse=sparse,
    )
