"""The distillation loss: item embeddings must predict the transition teacher's soft labels."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mqsa_jax.losses.cross_entropy import (
    LinearCrossEntropy,
    combine,
    linear_weights,
    one_shard,
)
from mqsa_jax.losses.reduction import Reduction, checked_where, reduced
from mqsa_jax.losses.teacher import Teacher, TeacherRows, checked_temperature, rows_of
from mqsa_jax.ops.linear_logsumexp import row_logsumexps
from mqsa_jax.ops.products import row_dot, scale_rows
from mqsa_jax.ops.sharded_table import Table, sum_of_rows
from mqsa_jax.ops.sparse_bilinear import sparse_bilinears
from mqsa_jax.ops.sparse_logits import is_index


def distillation_loss(
    student_ND: Float[Array, "*B N D"],
    item_VD: Float[Array, "V D"],
    item_N: Int[Array, "*B N"],
    teacher: Teacher,
    tau: Float[Array, ""] | float,
    *,
    where: Bool[Array, "*B N"] | None = None,
    max_bumps: int | None = None,
    reduce_fn: Reduction | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""Cross-entropy of the student against the transition teacher: their KL plus a constant.

        l_n = - sum_j p(j | i_n) log softmax_j( h_n . E_j / tau )
            = logsumexp_j(h_n . E_j / tau) - ( base h_n . sum_j E_j + sum_j bump_j h_n . E_j ) / tau

    Nothing [N, V] is held whole: a teacher row is a constant plus a sparse row of bumps.

    Args:
      student_ND: [..., N, D] student's vectors h, `dropout(sqrt(D) E_i)` in the paper.
      item_VD: [V, D] item vectors E.
      item_N: [..., N] int32 item i of each row, 0..V-1.
      teacher: soft labels.
      tau: student's temperature, above 0; may be traced.
      where: [..., N] which rows count; None: all. The others may hold anything.
      max_bumps: static bound on the number of the teacher's bumps in the rows that count; the cost
        is proportional to it. If it is too small, the loss and its gradients are NaN. None: the
        cost is proportional to all bumps of the teacher.
      reduce_fn: reduction of all axes taking `where=`; None gives the loss of each row. See
        `mqsa_jax.losses.reduction`. With `jnp.mean` and `jnp.sum` the gradients are formed in the
        same pass as the loss; other functions need a second pass.

    Returns:
      The reduced loss [], or the losses [..., N], in nats; 0 where nothing counts. NaN, as are its
      gradients, where the item of a row that counts is outside 0..V-1, or a traced `tau` is not
      above 0.

    Raises:
      AssertionError: naming the shapes that do not agree.
      ValueError: if `where` is not boolean, or of another shape than the rows.
      ValueError: if `tau` is not above 0.

    Reference:
      Zhu et al., WSDM 2024, arXiv 2311.01056, section 4: transition-aware embedding distillation.
    """
    chex.assert_shape(student_ND, (*item_N.shape, item_VD.shape[-1]))
    chex.assert_shape(teacher.base, item_VD.shape[:1])
    where = checked_where(where, item_N.shape)
    where_N = jnp.ones(item_N.shape, bool) if where is None else where
    student_1ND, item_1N = one_shard(where_N, (student_ND, item_N))
    weight_N = linear_weights(reduce_fn, where_N)
    if weight_N is None:
        loss_1N = _row_losses(
            student_1ND, item_VD, item_1N, where_N.reshape(1, -1), teacher, tau, max_bumps
        )
        return reduced(loss_1N.reshape(where_N.shape), where_N, reduce_fn)
    weight_1N = weight_N.reshape(1, -1)
    if max_bumps is None:
        valid_1N = (weight_1N == 0) | is_index(item_1N, item_VD.shape[0])
        weight_1N = jnp.where(valid_1N, weight_1N, jnp.nan)
        student_1ND = student_1ND / checked_temperature(tau)
        expected_1N = _expected_logits(student_1ND, item_VD, item_1N, teacher)
        expected_logit = (weight_1N * expected_1N).sum()
        loss = LinearCrossEntropy(student_1ND, weight_1N, expected_logit, pad_logit=False)
    else:
        labels = rows_of(teacher, item_1N[0], weight_1N[0] != 0, max_bumps)
        labels_1 = jax.tree.map(lambda leaf: leaf[None], labels)
        loss = distillation_cross_entropy(student_1ND, item_VD, weight_1N, labels_1, tau)
    return combine([loss], item_VD, [1.0])[0]


def distillation_cross_entropy(
    student_SND: Float[Array, "S N D"],
    item_VD: Table,
    weight_SN: Float[Array, "S N"],
    labels: TeacherRows,
    tau: Float[Array, ""] | float,
) -> LinearCrossEntropy:
    """The distillation loss as a weighted sum over the rows of S shards, to be combined.

    Args:
      student_SND: [S, N, D] student's vectors h; S shards, one a device. Finite where the weight
        is 0.
      item_VD: [V, D] item vectors E.
      weight_SN: [S, N] weight of each row in the sum; 0 leaves a row out.
      labels: [S, N] soft labels of each row; bumps of a row of weight 0 count nothing.
      tau: student's temperature, above 0; may be traced.
    """
    base_SN = jnp.where(weight_SN == 0, 0, labels.base)
    # NaN labels make NaN weights, so that gradients are NaN too.
    weight_SN = weight_SN * jnp.where(jnp.isnan(base_SN), jnp.nan, 1)
    student_SND = student_SND / checked_temperature(tau)
    # In full precision, like all terms of the difference of large numbers that the loss is.
    base_logit = jnp.einsum(
        "sn,snd,d->", weight_SN * base_SN, student_SND, sum_of_rows(item_VD), precision="highest"
    )
    weight_SM = labels.bump * jnp.take_along_axis(weight_SN, labels.row, axis=1)
    bump_logit = sparse_bilinears(student_SND, item_VD, labels.row, labels.successor, weight_SM)
    expected_logit = base_logit + bump_logit
    return LinearCrossEntropy(student_SND, weight_SN, expected_logit, pad_logit=False)


def _row_losses(
    student_1ND: Array,
    item_VD: Array,
    item_1N: Array,
    where_1N: Array,
    teacher: Teacher,
    tau: Array | float,
    max_bumps: int | None,
) -> Array:
    """[1, N] the loss of each row; anything where it does not count."""
    valid_1N = is_index(item_1N, item_VD.shape[0])
    student_1ND = student_1ND / checked_temperature(tau)
    if max_bumps is None:
        expected_1N = _expected_logits(student_1ND, item_VD, item_1N, teacher)
    else:
        labels = rows_of(teacher, item_1N[0], where_1N[0], max_bumps)
        sum_1ND = jnp.broadcast_to(item_VD.sum(0), student_1ND.shape)
        expected_1N = labels.base * row_dot(student_1ND, sum_1ND)
        bump_ND = jax.ops.segment_sum(
            scale_rows(item_VD[labels.successor], labels.bump),
            labels.row,
            item_1N.size,
            indices_are_sorted=True,
        )
        expected_1N += row_dot(student_1ND, bump_ND[None])
    lse_1N = row_logsumexps(student_1ND, item_VD, where_1N)
    # A factor, so that the gradients are NaN too.
    return (lse_1N - expected_1N) * jnp.where(valid_1N, 1, jnp.nan)


def _expected_logits(student_1ND: Array, item_VD: Array, item_1N: Array, teacher: Teacher) -> Array:
    """[1, N] sum_j p(j | i_n) h_n . E_j, by way of sum_j p(j | i) E_j of every item i."""
    item_1N = jnp.where(is_index(item_1N, item_VD.shape[0]), item_1N, 0)
    sum_1ND = jnp.broadcast_to(item_VD.sum(0), student_1ND.shape)
    base_1N = teacher.base[item_1N] * row_dot(student_1ND, sum_1ND)
    entry_M = jnp.arange(teacher.bump.shape[0])
    row_M = jnp.searchsorted(teacher.row_start, entry_M, side="right") - 1
    row_M = jnp.minimum(row_M, item_VD.shape[0] - 1)
    bump_VD = jax.ops.segment_sum(
        teacher.bump[:, None] * item_VD[teacher.successor],
        row_M,
        item_VD.shape[0],
        indices_are_sorted=True,
    )
    return base_1N + row_dot(student_1ND, bump_VD[item_1N])
