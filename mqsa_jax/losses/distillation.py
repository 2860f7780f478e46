"""The distillation loss: item embeddings must predict the transition teacher's soft labels."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mqsa_jax.losses.cross_entropy import LinearCrossEntropy, combine
from mqsa_jax.losses.reduction import Reduction, reduction_weights
from mqsa_jax.losses.teacher import Teacher
from mqsa_jax.ops.row_products import row_dot
from mqsa_jax.ops.sparse_bilinear import sparse_bilinear


def distillation_loss(
    student_ND: Float[Array, "*B N D"],
    item_VD: Float[Array, "V D"],
    item_N: Int[Array, "*B N"],
    teacher: Teacher,
    tau: Float[Array, ""] | float,
    *,
    where: Bool[Array, "*B N"] | None = None,
    max_bumps: int | None = None,
    reduce_fn: Reduction = jnp.mean,
) -> Float[Array, ""]:
    r"""Cross-entropy of the student against the transition teacher (their KL plus a constant).

        l_n = - sum_j p(j | i_n) log softmax_j( h_n . E_j / tau )
            = logsumexp_j(h_n . E_j / tau) - ( base h_n . sum_j E_j + sum_j bump_j h_n . E_j ) / tau

    Nothing V wide is kept: the teacher is a constant plus few bumps a row.

    Args:
      student_ND: [..., N, D] student's vectors h, `dropout(sqrt(D) E_i)` in the paper.
      item_VD: [V, D] item vectors E.
      item_N: [..., N] int32 item i of each row, 0..V-1.
      teacher: soft labels.
      tau: student's temperature, above 0; may be traced.
      where: [..., N] which rows count; None: all.
      max_bumps: static bound on the teacher's entries in the rows that count so
        that only those are visited; one too small gives NaN, gradients included. None: all of the
        teacher's entries are visited.
      reduce_fn: linear reduction taking `where=`, such as `jnp.mean`, `jnp.sum`, or a weighted
        mean: equal items of a batch need one row, weighted by their count.

    Returns:
      The reduced loss, in nats; 0 where nothing counts.

    Raises:
      AssertionError: naming the shapes that do not agree.

    Reference:
      Zhu et al., WSDM 2024, arXiv 2311.01056, section 4: transition-aware embedding distillation.
    """
    chex.assert_shape(student_ND, (*item_N.shape, item_VD.shape[-1]))
    where_N = jnp.ones(item_N.shape, bool) if where is None else where
    chex.assert_equal_shape([where_N, item_N])
    loss = distillation_cross_entropy(
        student_ND.reshape(1, -1, student_ND.shape[-1]),
        item_VD,
        item_N.reshape(1, -1),
        reduction_weights(reduce_fn, where_N).reshape(1, -1),
        teacher,
        tau,
        max_bumps=max_bumps,
    )
    return combine([loss], item_VD, [1.0])[0]


def distillation_cross_entropy(
    student_SND: Float[Array, "S N D"],
    item_VD: Float[Array, "V D"],
    item_SN: Int[Array, "S N"],
    weight_SN: Float[Array, "S N"],
    teacher: Teacher,
    tau: Float[Array, ""] | float,
    *,
    max_bumps: int | None = None,
) -> LinearCrossEntropy:
    """The distillation loss as a weighted sum over the rows of S shards, to be combined.

    Args:
      student_SND: [S, N, D] student's vectors h; S shards, one a device.
      item_VD: [V, D] item vectors E.
      item_SN: [S, N] int32 item i of each row, 0..V-1.
      weight_SN: [S, N] weight of each row in the sum; 0 leaves a row out.
      teacher: soft labels.
      tau: student's temperature, above 0; may be traced.
      max_bumps: static bound on the teacher's entries in the rows of one shard; as above.
    """
    chex.assert_shape(teacher.base, item_VD.shape[:1])
    student_SND = student_SND / tau
    base_SN = weight_SN * teacher.base[item_SN]
    base_logit = jnp.einsum("sn,snd,d->", base_SN, student_SND, item_VD.sum(0))
    bumps = partial(_bounded_bumps, max_bumps=max_bumps) if max_bumps is not None else _all_bumps
    bump_logit_S = jax.vmap(bumps, in_axes=(0, None, 0, 0, None))(
        student_SND, item_VD, item_SN, weight_SN, teacher
    )
    expected_logit = base_logit + bump_logit_S.sum()
    return LinearCrossEntropy(student_SND, weight_SN, expected_logit, pad_logit=False)


def _all_bumps(student_ND, item_VD, item_N, weight_N, teacher: Teacher):
    """sum_n w_n sum_j bump_nj h_n . E_j, by visiting every entry of the teacher once."""
    sum_VD = jnp.zeros_like(item_VD).at[item_N].add(weight_N[:, None] * student_ND)
    place_M = jnp.arange(teacher.bump.shape[0])
    row_M = jnp.searchsorted(teacher.row_start, place_M, side="right") - 1
    row_M = jnp.minimum(row_M, item_VD.shape[0] - 1)
    return (teacher.bump * row_dot(sum_VD[row_M], item_VD[teacher.successor])).sum()


def _bounded_bumps(student_ND, item_VD, item_N, weight_N, teacher: Teacher, *, max_bumps: int):
    """The same, by visiting the entries of the given rows only, over a flat list of them."""
    begin_N = teacher.row_start[item_N]
    length_N = jnp.where(weight_N != 0, teacher.row_start[item_N + 1] - begin_N, 0)
    end_N = jnp.cumsum(length_N)
    place_M = jnp.arange(max_bumps)
    row_M = jnp.minimum(jnp.searchsorted(end_N, place_M, side="right"), item_N.shape[0] - 1)
    entry_M = begin_N[row_M] + place_M - (end_N - length_N)[row_M]
    entry_M = jnp.where(place_M < end_N[-1], entry_M, teacher.bump.shape[0])
    bump_M = teacher.bump.at[entry_M].get(mode="fill", fill_value=0)
    successor_M = teacher.successor.at[entry_M].get(mode="fill", fill_value=0)
    # Weights go with the entries, so that those of rows that do not count are skipped.
    weight_M = bump_M * weight_N[row_M]
    total = sparse_bilinear(student_ND, item_VD, row_M, successor_M, weight_M)
    # A factor, so that the gradients are NaN too.
    return total * jnp.where(end_N[-1] <= max_bumps, 1.0, jnp.nan)
