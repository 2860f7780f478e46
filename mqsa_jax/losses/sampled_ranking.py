"""Ranking losses over sampled items, for catalogues too large to score whole."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mqsa_jax.losses.cross_entropy import one_shard
from mqsa_jax.losses.negatives import Negatives
from mqsa_jax.losses.reduction import Reduction, checked_where, reduced
from mqsa_jax.ops.products import Precision, product, row_dot
from mqsa_jax.ops.row_chunks import map_rows
from mqsa_jax.ops.sharded_table import Table, rows_at
from mqsa_jax.ops.sparse_logits import is_index


def sampled_ranking_loss(
    user_ND: Float[Array, "*B N D"],
    item_VD: Table,
    target_N: Int[Array, "*B N"],
    negatives: Negatives,
    *,
    where: Bool[Array, "*B N"] | None = None,
    reduce_fn: Reduction | None = jnp.mean,
    precision: Precision = "float32",
) -> Float[Array, "..."]:
    r"""Sampled softmax: `ranking_loss` with the sum over all items estimated from K of them.

        l_n = log( 1 + exp(s_nt) + sum_{k: item_k != t} exp(s_nk) / m_k ) - s_nt
        s_nj = z_n . E_j

    t is the target of row n, m_k how often item k is drawn in the mean (logQ correction), and the 1
    the padding class of the full loss. Draws that hit the target are left out, so that it counts
    once. Unbiased is what the logarithm is taken of: its mean over draws is `1 + sum_j exp(s_nj)`
    over all V items. The loss and its gradient are not: by Jensen's inequality the mean of the loss
    is below the full one; both differences vanish as 1 / K.

    Args:
      user_ND: [..., N, D] user vectors z.
      item_VD: [V, D] item vectors E; the rows of targets and negatives are read alone.
      target_N: [..., N] int32 index 0..V-1 of the next item.
      negatives: [K], shared by all rows.
      where: [..., N] which rows count; None: all. The others may hold anything.
      reduce_fn: as of `ranking_loss`.
      precision: of the matrix products.

    Returns:
      The reduced loss [], or the losses [..., N], in nats; 0 where nothing counts. NaN where a row
      that counts has a target outside 0..V-1.

    Raises:
      AssertionError: naming the shapes that do not agree.
      ValueError: if `where` is not boolean, or of another shape than the rows.

    References:
      Bengio and Senecal, IEEE Transactions on Neural Networks 2008: adaptive importance sampling.
      Yi et al., RecSys 2019: Sampling-bias-corrected neural modeling.

    Example:
      >>> from mqsa_jax.losses.negatives import uniform_negatives
      >>> negatives = uniform_negatives(jax.random.key(0), num_items=9, num=4)
      >>> user, items, target = jnp.zeros((2, 4)), jnp.ones((9, 4)), jnp.array([9, 9]) - 1
      >>> loss = sampled_ranking_loss(user, items, target, negatives)
      >>> round(float(loss), 4), (negatives.item != 8).sum().item()  # log(1 + 1 + 4 * 9 / 4)
      (2.3979, 4)
    """

    def losses(user_ND: Array, target_N: Array) -> Array:
        return softmax_losses(user_ND, item_VD, target_N, negatives, precision)

    return _reduced_rows(losses, user_ND, item_VD, target_N, where, reduce_fn)


def gbce_loss(
    user_ND: Float[Array, "*B N D"],
    item_VD: Table,
    target_N: Int[Array, "*B N"],
    negatives: Negatives,
    *,
    calibration: float = 0.75,
    where: Bool[Array, "*B N"] | None = None,
    reduce_fn: Reduction | None = jnp.mean,
    precision: Precision = "float32",
) -> Float[Array, "..."]:
    r"""Generalised binary cross-entropy, which corrects for uniform sampling (gSASRec).

        l_n = - ( beta log sigmoid(s_nt) + sum_{k: item_k != t} log(1 - sigmoid(s_nk)) ) / (K + 1)
        beta = alpha (t (1 - 1 / alpha) + 1 / alpha),    alpha = K / (V - 1)

    Without the correction, t = 0, beta is 1 and this is binary cross-entropy, whose scores come out
    too high; at t = 1, beta is alpha and sigmoid(s) tends to the probability of the item.

    Args:
      calibration: t, 0 to 1.
      negatives: [K], shared by all rows; uniform draws (their weights are not used).
      user_ND, item_VD, target_N, where, reduce_fn, precision: as of `sampled_ranking_loss`.

    Returns:
      As of `sampled_ranking_loss`.

    Raises:
      AssertionError, ValueError: as `sampled_ranking_loss`.
      ValueError: if `calibration` is outside 0 to 1.

    Reference:
      Petrov and Macdonald, RecSys 2023, arXiv 2308.07192: gSASRec.
    """

    def losses(user_ND: Array, target_N: Array) -> Array:
        return gbce_losses(user_ND, item_VD, target_N, negatives, calibration, precision)

    return _reduced_rows(losses, user_ND, item_VD, target_N, where, reduce_fn)


def _reduced_rows(losses, user_ND, item_VD, target_N, where, reduce_fn) -> Array:
    """The contract of `mqsa_jax.losses.reduction` for a function of flat rows."""
    chex.assert_shape(user_ND, (*target_N.shape, item_VD.shape[-1]))
    where = checked_where(where, target_N.shape)
    where_N = jnp.ones(target_N.shape, bool) if where is None else where
    user_1ND, target_1N = one_shard(where_N, (user_ND, target_N))
    loss_N = losses(user_1ND[0], target_1N[0])
    return reduced(loss_N.reshape(where_N.shape), where_N, reduce_fn)


def softmax_losses(
    user_ND: Float[Array, "N D"],
    item_VD: Table,
    target_N: Int[Array, " N"],
    negatives: Negatives,
    precision: Precision = "float32",
) -> Float[Array, " N"]:
    """[N] the loss of each row by `sampled_ranking_loss`, of a flat batch."""
    negative_KD = rows_at(item_VD, negatives.item)

    def loss(user_D: Array, target_D: Array, target: Array) -> Array:
        target_logit = row_dot(user_D, target_D)
        logit_K = product("d,kd->k", user_D, negative_KD, precision) + negatives.log_weight
        logit_K = jnp.where(negatives.item == target, -jnp.inf, logit_K)
        # The padding class's logit is 0.
        logits = jnp.concatenate([jnp.zeros(1), target_logit[None], logit_K])
        return jax.nn.logsumexp(logits) - target_logit

    target_ND, valid_N = _targets(item_VD, target_N)
    return valid_N * map_rows(loss, negatives.item.size, user_ND, target_ND, target_N)


def gbce_losses(
    user_ND: Float[Array, "N D"],
    item_VD: Table,
    target_N: Int[Array, " N"],
    negatives: Negatives,
    calibration: float,
    precision: Precision = "float32",
) -> Float[Array, " N"]:
    """[N] the loss of each row by `gbce_loss`, of a flat batch."""
    negative_KD, num = rows_at(item_VD, negatives.item), negatives.item.size
    beta = gbce_exponent(num, item_VD.shape[0], calibration)

    def loss(user_D: Array, target_D: Array, target: Array) -> Array:
        logit_K = product("d,kd->k", user_D, negative_KD, precision)
        counts_K = (negatives.item != target) & (negatives.log_weight > -jnp.inf)
        negative = jnp.where(counts_K, jax.nn.softplus(logit_K), 0).sum()
        return (beta * jax.nn.softplus(-row_dot(user_D, target_D)) + negative) / (num + 1)

    target_ND, valid_N = _targets(item_VD, target_N)
    return valid_N * map_rows(loss, num, user_ND, target_ND, target_N)


def gbce_exponent(num_negatives: int, num_items: int, calibration: float) -> float:
    """beta of `gbce_loss`.

    Raises:
      ValueError: if `calibration` is outside 0 to 1.

    Example:
      >>> gbce_exponent(num_negatives=256, num_items=1025, calibration=0.75)
      0.4375
    """
    if not 0 <= calibration <= 1:
        raise ValueError(f"calibration must be between 0 and 1, but is {calibration}")
    alpha = min(num_negatives / max(num_items - 1, 1), 1.0)
    # alpha (t (1 - 1 / alpha) + 1 / alpha), which also holds for alpha = 0.
    return calibration * (alpha - 1) + 1


def _targets(item_VD: Table, target_N: Array) -> tuple[Array, Array]:
    """[N, D] vectors of the targets; and [N] a factor, 1, or NaN where a target is no item."""
    valid_N = is_index(target_N, item_VD.shape[0])
    # A factor, so that the gradients are NaN too.
    return rows_at(item_VD, target_N), jnp.where(valid_N, 1, jnp.nan)
