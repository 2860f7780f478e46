"""The distillation loss over the teacher's support and sampled items, for large catalogues."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mqsa_jax.losses.cross_entropy import one_shard
from mqsa_jax.losses.negatives import Negatives
from mqsa_jax.losses.reduction import Reduction, checked_where, reduced
from mqsa_jax.losses.teacher import Teacher, TeacherRows, checked_temperature, rows_of
from mqsa_jax.ops.products import Precision, product, row_dot
from mqsa_jax.ops.row_chunks import map_rows
from mqsa_jax.ops.sharded_table import Table, rows_at


def sampled_distillation_loss(
    student_ND: Float[Array, "*B N D"],
    item_VD: Table,
    item_N: Int[Array, "*B N"],
    teacher: Teacher,
    tau: Float[Array, ""] | float,
    negatives: Negatives,
    *,
    max_bumps: int,
    where: Bool[Array, "*B N"] | None = None,
    reduce_fn: Reduction | None = jnp.mean,
    precision: Precision = "float32",
) -> Float[Array, "..."]:
    r"""`distillation_loss` whose sums over all items outside the teacher's support are estimated.

        Z_n = sum_{j in S_n} exp(s_nj) + sum_{k: item_k not in S_n} exp(s_nk) / m_k
        X_n = sum_{j in S_n} p_nj s_nj + base_n sum_{k: item_k not in S_n} s_nk / m_k
        l_n = log Z_n - X_n,    s_nj = h_n . E_j / tau

    S_n, the support, are the items that followed item n; m_k is how often item k is drawn in the
    mean (logQ correction). Unbiased are, over draws, the partition function Z_n, the expected logit
    X_n, and the gradients of both: their means are those over all V items. The loss has the mean of
    log Z_n for what is not: it is below the full one by Jensen's inequality, and its gradient
    differs; both differences vanish as 1 / K.

    Args:
      student_ND, item_VD, item_N, teacher, tau, where, reduce_fn: as of `distillation_loss`; the
        rows of the supports and negatives are read alone.
      negatives: [K], shared by all rows.
      max_bumps: static bound on the teacher's bumps in the rows that count; the cost is
        proportional to it. If it is too small, the result is NaN.
      precision: of the matrix products.

    Returns:
      The reduced loss [], or the losses [..., N], in nats; 0 where nothing counts. NaN where the
      item of a row that counts is outside 0..V-1, or a traced `tau` is not above 0.

    Raises:
      AssertionError: naming the shapes that do not agree.
      ValueError: as `distillation_loss`.

    References:
      Zhu et al., WSDM 2024, arXiv 2311.01056, section 4: transition-aware embedding distillation.
      Bengio and Senecal, IEEE Transactions on Neural Networks 2008: adaptive importance sampling.
    """
    chex.assert_shape(student_ND, (*item_N.shape, item_VD.shape[-1]))
    where = checked_where(where, item_N.shape)
    where_N = jnp.ones(item_N.shape, bool) if where is None else where
    student_1ND, item_1N = one_shard(where_N, (student_ND, item_N))
    labels = rows_of(teacher, item_1N[0], where_N.ravel(), max_bumps)
    vectors = [rows_at(item_VD, item) for item in (labels.successor, negatives.item)]
    loss_N = distillation_losses(student_1ND[0], *vectors, labels, tau, negatives, precision)
    return reduced(loss_N.reshape(where_N.shape), where_N, reduce_fn)


def distillation_losses(
    student_ND: Float[Array, "N D"],
    successor_MD: Float[Array, "M D"],
    negative_KD: Float[Array, "K D"],
    labels: TeacherRows,
    tau: Float[Array, ""] | float,
    negatives: Negatives,
    precision: Precision = "float32",
) -> Float[Array, " N"]:
    """[N] the loss of each row by `sampled_distillation_loss`, of a flat batch.

    The vectors of successors and negatives are given; items are only compared.
    """
    student_ND = student_ND / checked_temperature(tau)
    num_rows = len(student_ND)
    is_bump_M = labels.bump != 0  # NaN is one, to be seen.
    logit_M = row_dot(student_ND[labels.row], successor_MD)
    logit_M = jnp.where(is_bump_M, logit_M, -jnp.inf)

    def by_row(value_M: Array, reduction=jax.ops.segment_sum) -> Array:
        return reduction(value_M, labels.row, num_rows, indices_are_sorted=True)

    peak_N = jax.lax.stop_gradient(by_row(logit_M, jax.ops.segment_max))
    shift_N = jnp.where(jnp.isfinite(peak_N), peak_N, 0)
    support_N = by_row(jnp.where(is_bump_M, jnp.exp(logit_M - shift_N[labels.row]), 0))
    probability_M = labels.base[labels.row] + labels.bump
    expected_N = by_row(jnp.where(is_bump_M, probability_M * logit_M, 0))

    def sampled(student_D: Array, outside_K: Array) -> Array:
        logit_K = product("d,kd->k", student_D, negative_KD, precision)
        log_weight_K = jnp.where(outside_K, negatives.log_weight, -jnp.inf)
        peak = jax.lax.stop_gradient((logit_K + log_weight_K).max(initial=-jnp.inf))
        shift = jnp.where(jnp.isfinite(peak), peak, 0)
        lse = _log(jnp.exp(logit_K + log_weight_K - shift).sum()) + shift
        return jnp.stack([lse, (jnp.exp(log_weight_K) * logit_K).sum()])

    outside_NK = ~in_support(labels, negatives.item, num_rows)
    lse_N, total_N = map_rows(sampled, negatives.item.size, student_ND, outside_NK).T
    lse_N = jnp.logaddexp(lse_N, _log(support_N) + shift_N)
    return lse_N - (expected_N + labels.base * total_N)


def _log(value_N: Array) -> Array:
    """[N] logarithms of sums; minus infinity, with a gradient of 0, where nothing was added."""
    return jnp.where(value_N > 0, jnp.log(jnp.where(value_N > 0, value_N, 1)), -jnp.inf)


def in_support(labels: TeacherRows, item_K: Int[Array, " K"], num_rows: int) -> Bool[Array, "N K"]:
    """[N, K] whether each item is in the support of each row.

    An entry marks the first place of its item among the sorted ones, at which equal items look. The
    cost is M log K + N K.
    """
    sorted_K = jnp.sort(item_K)

    # Written out: a loop would wait for the host on GPUs.
    def first(item: Array) -> Array:
        return jnp.searchsorted(sorted_K, item, method="scan_unrolled")

    # An item that is not there marks the place of another, or one behind the last.
    place_M = first(labels.successor)
    is_there_M = sorted_K.at[place_M].get(mode="fill", fill_value=-1) == labels.successor
    is_there_M &= labels.bump != 0
    mark_NK = jnp.zeros((num_rows, item_K.size), bool)
    mark_NK = mark_NK.at[labels.row, place_M].max(is_there_M, mode="drop")
    return mark_NK[:, first(item_K)]
