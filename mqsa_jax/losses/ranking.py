"""The ranking loss: softmax cross-entropy over all items and one padding class."""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mqsa_jax.losses.cross_entropy import (
    LinearCrossEntropy,
    combine,
    linear_weights,
    one_shard,
)
from mqsa_jax.losses.reduction import Reduction, checked_where, reduced
from mqsa_jax.ops.linear_logsumexp import row_logsumexps
from mqsa_jax.ops.products import row_dot
from mqsa_jax.ops.sharded_table import Table, rows_at
from mqsa_jax.ops.sparse_logits import SparseLogits, is_index


def ranking_loss(
    user_ND: Float[Array, "*B N D"],
    item_VD: Float[Array, "V D"],
    target_N: Int[Array, "*B N"],
    *,
    sparse: SparseLogits | None = None,
    where: Bool[Array, "*B N"] | None = None,
    reduce_fn: Reduction | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""Softmax cross-entropy of the next item; the logits [N, V] are never held whole.

        l_n = log( 1 + sum_j exp(s_nj) ) - s_n,target(n),    s_nj = z_n . E_j + sparse_nj

    The 1 is a padding class whose logit is always 0, as in the authors' code.

    Args:
      user_ND: [..., N, D] user vectors z.
      item_VD: [V, D] item vectors E.
      target_N: [..., N] int32 index 0..V-1 of the next item.
      sparse: [..., N, K] what is added to K scores of each row; None: nothing.
      where: [..., N] which rows count; None: all. The others may hold anything.
      reduce_fn: reduction of all axes taking `where=`; None gives the loss of each row. See
        `mqsa_jax.losses.reduction`. With `jnp.mean` and `jnp.sum` the gradients are formed in the
        same pass as the loss; other functions need a second pass.

    Returns:
      The reduced loss [], or the losses [..., N], in nats; 0 where nothing counts. NaN, as are its
      gradients, where a row that counts has a target or a class of `sparse` outside 0..V-1.

    Raises:
      AssertionError: naming the shapes that do not agree.
      ValueError: if `where` is not boolean, or of another shape than the rows.

    Reference:
      Zhu et al., WSDM 2024, arXiv 2311.01056: the recommendation loss.

    Example:
      >>> loss = ranking_loss(jnp.zeros((2, 4)), jnp.ones((9, 4)), jnp.array([3, 5]))
      >>> round(float(loss), 4)  # ten classes of equal logits: log(10)
      2.3026
    """
    chex.assert_shape(user_ND, (*target_N.shape, item_VD.shape[-1]))
    where = checked_where(where, target_N.shape)
    where_N = jnp.ones(target_N.shape, bool) if where is None else where
    if sparse is not None:
        chex.assert_shape([sparse.item, sparse.value], (*target_N.shape, None))
    user_1ND, target_1N, sparse = one_shard(where_N, (user_ND, target_N, sparse))
    weight_N = linear_weights(reduce_fn, where_N)
    if weight_N is not None:
        weight_1N = weight_N.reshape(1, -1)
        loss = ranking_cross_entropy(user_1ND, item_VD, target_1N, weight_1N, sparse=sparse)
        return combine([loss], item_VD, [1.0])[0]
    lse_1N = row_logsumexps(
        user_1ND, item_VD, where_N.reshape(1, -1), pad_logit=True, sparse=sparse
    )
    loss_1N = lse_1N - _target_logits(user_1ND, item_VD, target_1N, sparse)
    # A factor, so that the gradients are NaN too.
    loss_1N *= jnp.where(_indices_are_valid(item_VD, target_1N, sparse), 1, jnp.nan)
    return reduced(loss_1N.reshape(where_N.shape), where_N, reduce_fn)


def ranking_cross_entropy(
    user_SND: Float[Array, "S N D"],
    item_VD: Table,
    target_SN: Int[Array, "S N"],
    weight_SN: Float[Array, "S N"],
    *,
    sparse: SparseLogits | None = None,
) -> LinearCrossEntropy:
    """The ranking loss as a weighted sum over the rows of S shards, to be combined with others.

    Args:
      user_SND: [S, N, D] user vectors z; S shards, one a device. Finite where the weight is 0.
      item_VD: [V, D] item vectors E.
      target_SN: [S, N] int32 index 0..V-1 of the next item.
      weight_SN: [S, N] weight of each row in the sum; 0 leaves a row out.
      sparse: [S, N, K] what is added to K scores of each row; None: nothing.
    """
    valid_SN = (weight_SN == 0) | _indices_are_valid(item_VD, target_SN, sparse)
    weight_SN = jnp.where(valid_SN, weight_SN, jnp.nan)
    target_logit_SN = _target_logits(user_SND, item_VD, target_SN, sparse)
    return LinearCrossEntropy(
        x=user_SND,
        weight=weight_SN,
        expected_logit=(weight_SN * target_logit_SN).sum(),
        pad_logit=True,
        sparse=sparse,
    )


def _target_logits(
    user_SND: Array, item_VD: Table, target_SN: Array, sparse: SparseLogits | None
) -> Array:
    """[S, N] logit of each row's target."""
    logit_SN = row_dot(user_SND, rows_at(item_VD, target_SN))
    return logit_SN if sparse is None else logit_SN + sparse.at(target_SN)


def _indices_are_valid(item_VD: Table, target_SN: Array, sparse: SparseLogits | None) -> Array:
    """[S, N] whether the target and the sparse classes of each row are items."""
    valid_SN = is_index(target_SN, item_VD.shape[0])
    if sparse is not None:
        valid_SN &= is_index(sparse.item, item_VD.shape[0]).all(-1)
    return valid_SN
