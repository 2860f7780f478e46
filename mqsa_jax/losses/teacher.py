"""The transition teacher: soft labels over all items, each row a constant plus sparse bumps."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int32

from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.ops.sparse_logits import is_index
from mqsa_jax.pytree import pytree_dataclass


@pytree_dataclass
class Teacher:
    """p(j | i) = base_i + bump_ij, where bump is sparse (compressed sparse rows)."""

    base: Float32[Array, " V"]
    """Probability of every item that never followed item i."""
    row_start: Int32[Array, " V+1"]
    """Where the bumps of each item begin."""
    successor: Int32[Array, " M"]
    """Item j of a bump."""
    bump: Float32[Array, " M"]
    """How much more probable than the base item j is."""


@pytree_dataclass
class TeacherRows:
    """Soft labels of N rows: p(j | n) = base_n + bump_nj, where bump is sparse."""

    base: Float32[Array, "*S N"]
    """Probability of every item that has no bump in the row."""
    row: Int32[Array, "*S M"]
    """Row n of a bump, ascending."""
    successor: Int32[Array, "*S M"]
    """Item j of a bump."""
    bump: Float32[Array, "*S M"]
    """How much more probable than the base item j is; 0 where there is nothing to add."""


def checked_temperature(tau: Float[Array, ""] | float) -> Float[Array, ""] | float:
    """The temperature; NaN if an array of JAX is not above 0, an error if a number is not."""
    if isinstance(tau, int | float | np.number | np.ndarray):
        if not tau > 0:
            raise ValueError(f"the temperature tau must be above 0, but is {tau}")
        return tau
    # A product, so that the gradient is NaN too.
    return tau * jnp.where(tau > 0, 1, jnp.nan)


def transition_teacher(counts: TransitionCounts, tau: Float[Array, ""] | float) -> Teacher:
    r"""Soft labels from transition counts.

        w_ij = C_ij / max_j C_ij,    p(j | i) = softmax_j( w_ij / tau ) over all V items

    w is 0 for pairs never seen, and for whole rows without transitions, which are uniform. Nothing
    [V, V] is formed: all pairs never seen in a row share one probability.

    Args:
      counts: transition counts; entries of count 0 are no transitions.
      tau: temperature, above 0; may be traced.

    Returns:
      The teacher, with the sparsity of `counts`. Every row of probabilities sums to 1; or all are
      NaN, if `counts` are invalid (a count is NaN or negative, a successor is outside 0..V-1, rows
      end behind the last entry) or a traced `tau` is not above 0.

    Raises:
      ValueError: if `tau` is not above 0.

    Reference:
      Zhu et al., WSDM 2024, arXiv 2311.01056, section 4: transition-aware embedding distillation.
    """
    tau = checked_temperature(tau)
    base_V, bump_M = _soft_labels(
        counts.row(), counts.count, counts.num_items, counts.num_items, tau
    )
    # A factor, so that the gradient by the temperature is NaN too.
    factor = jnp.where(_are_valid(counts) & (tau > 0), 1, jnp.nan)
    return Teacher(factor * base_V, counts.row_start, counts.successor, factor * bump_M)


def teacher_rows(
    item_SN: Int[Array, "*S N"],
    row_SM: Int[Array, "*S M"],
    successor_SM: Int[Array, "*S M"],
    count_SM: Float[Array, "*S M"],
    num_items: int,
    tau: Float[Array, ""] | float,
) -> TeacherRows:
    """The rows of `transition_teacher` for some items, made of their transitions alone.

    Args:
      item_SN: [..., N] int32 item i of each row.
      row_SM: [..., M] int32 row of each transition, 0..N-1, ascending.
      successor_SM: [..., M] int32 item that it leads to.
      count_SM: [..., M] how often it was counted; 0 is no transition.
      num_items: V.
      tau: temperature, above 0; may be traced.

    Returns:
      The labels; NaN in the rows of items outside 0..V-1, and all of them if a successor is, a
      count is NaN or negative, or a traced `tau` is not above 0.

    Raises:
      ValueError: if `tau` is not above 0.
    """
    tau = checked_temperature(tau)
    num_rows = item_SN.shape[-1]
    labels = jnp.vectorize(
        lambda row_M, count_M: _soft_labels(row_M, count_M, num_rows, num_items, tau),
        signature="(m),(m)->(n),(m)",
    )
    base_SN, bump_SM = labels(row_SM, count_SM)
    # Comparisons with NaN are False.
    valid_SM = (count_SM == 0) | ((count_SM > 0) & is_index(successor_SM, num_items))
    factor = jnp.where(valid_SM.all() & (tau > 0), 1, jnp.nan)
    base_SN = jnp.where(is_index(item_SN, num_items), base_SN, jnp.nan)
    return TeacherRows(factor * base_SN, row_SM, successor_SM, factor * bump_SM)


def rows_of(
    teacher: Teacher, item_N: Int[Array, " N"], where_N: Bool[Array, " N"], max_bumps: int
) -> TeacherRows:
    """The rows of a teacher for some items, their bumps one after the other.

    Args:
      teacher: all soft labels.
      item_N: [N] int32 item i of each row.
      where_N: [N] rows whose bumps are wanted.
      max_bumps: M, static; if it is too small, all bumps are NaN.

    Returns:
      The labels; NaN in the rows of items outside 0..V-1.
    """
    valid_N = is_index(item_N, teacher.base.shape[0])
    item_N = jnp.where(valid_N, item_N, 0)
    begin_N = teacher.row_start[item_N]
    length_N = jnp.where(where_N, teacher.row_start[item_N + 1] - begin_N, 0)
    end_N = jnp.cumsum(length_N)
    slot_M = jnp.arange(max_bumps)
    row_M = jnp.minimum(jnp.searchsorted(end_N, slot_M, side="right"), item_N.shape[0] - 1)
    entry_M = begin_N[row_M] + slot_M - (end_N - length_N)[row_M]
    entry_M = jnp.where(slot_M < end_N[-1], entry_M, teacher.bump.shape[0])
    bump_M = teacher.bump.at[entry_M].get(mode="fill", fill_value=0)
    successor_M = teacher.successor.at[entry_M].get(mode="fill", fill_value=0)
    base_N = jnp.where(valid_N, teacher.base[item_N], jnp.nan)
    enough = jnp.where(end_N[-1] <= max_bumps, 1.0, jnp.nan)
    return TeacherRows(base_N, row_M.astype(jnp.int32), successor_M, enough * bump_M)


def _soft_labels(
    row_M: Array, count_M: Array, num_rows: int, num_items: int, tau: Array | float
) -> tuple[Array, Array]:
    """[N] base and [M] bump of rows of counts; rows without transitions are uniform."""
    peak_N = jnp.zeros(num_rows).at[row_M].max(count_M)
    # Logits are shifted by the row's largest, 1 / tau (0 in rows without transitions).
    has_any_N = peak_N > 0
    scaled_M = count_M / jnp.where(has_any_N, peak_N, 1)[row_M]
    exp_M = jnp.where(count_M > 0, jnp.exp((scaled_M - 1) / tau), 0)
    floor_N = jnp.where(has_any_N, jnp.exp(-1 / jnp.float32(tau)), 1)
    seen_N = jnp.zeros(num_rows).at[row_M].add((count_M > 0).astype(exp_M.dtype))
    total_N = jnp.zeros(num_rows).at[row_M].add(exp_M) + (num_items - seen_N) * floor_N
    base_N = floor_N / total_N
    return base_N, jnp.where(count_M > 0, exp_M / total_N[row_M] - base_N[row_M], 0)


def _are_valid(counts: TransitionCounts) -> Array:
    """Whether counts are those of transitions between V items."""
    is_item_M = (counts.successor >= 0) & (counts.successor < counts.num_items)
    start_V, entries = counts.row_start, counts.successor.shape[-1]
    ascending = (start_V[0] == 0) & (jnp.diff(start_V) >= 0).all() & (start_V[-1] <= entries)
    is_used_M = jnp.arange(entries) < start_V[-1]
    # Comparisons with NaN are False.
    valid_M = (counts.count == 0) | ((counts.count > 0) & is_item_M & is_used_M)
    return ascending & valid_M.all()


def teacher_probabilities(
    teacher: Teacher, item_N: Int[Array, " N"] | None = None
) -> Float[Array, "N V"]:
    """p(j | i) in full, [N, V] for the given items i (None: all V). For inspection, not training.

    Rows of items outside 0..V-1 are NaN.

    Example:
      >>> from mqsa_jax.data.transitions import count_transitions
      >>> counts = count_transitions(jnp.array([0, 1, 0, 1, 2]), jnp.zeros(5, jnp.int32), 3)
      >>> probability_VV = teacher_probabilities(transition_teacher(counts, 1.0))
      >>> [round(float(p), 3) for p in probability_VV[2]]  # nothing ever followed item 2
      [0.333, 0.333, 0.333]
    """
    num_items = teacher.base.shape[-1]
    item_N = jnp.arange(num_items) if item_N is None else item_N

    def probabilities(item: Array) -> Array:
        entry_M = jnp.arange(teacher.bump.shape[-1])
        inside_M = (entry_M >= teacher.row_start[item]) & (entry_M < teacher.row_start[item + 1])
        is_item = (item >= 0) & (item < num_items)
        base_V = jnp.full(num_items, jnp.where(is_item, teacher.base[item], jnp.nan))
        return base_V.at[teacher.successor].add(jnp.where(inside_M, teacher.bump, 0))

    return jax.lax.map(probabilities, item_N)
