"""The transition teacher: soft labels over all items, each row a constant plus sparse bumps."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32

from mqsa_jax.data.transitions import TransitionCounts
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
    num_items, row_M = counts.num_items, counts.row()
    peak_V = jnp.zeros(num_items).at[row_M].max(counts.count)
    # Logits are shifted by the row's largest, 1 / tau (0 in rows without transitions).
    has_any_V = peak_V > 0
    scaled_M = counts.count / jnp.where(has_any_V, peak_V, 1)[row_M]
    exp_M = jnp.where(counts.count > 0, jnp.exp((scaled_M - 1) / tau), 0)
    floor_V = jnp.where(has_any_V, jnp.exp(-1 / jnp.float32(tau)), 1)
    seen_V = jnp.zeros(num_items).at[row_M].add((counts.count > 0).astype(exp_M.dtype))
    total_V = jnp.zeros(num_items).at[row_M].add(exp_M) + (num_items - seen_V) * floor_V
    base_V = floor_V / total_V
    bump_M = jnp.where(counts.count > 0, exp_M / total_V[row_M] - base_V[row_M], 0)
    # A factor, so that the gradient by the temperature is NaN too.
    factor = jnp.where(_are_valid(counts) & (tau > 0), 1, jnp.nan)
    return Teacher(factor * base_V, counts.row_start, counts.successor, factor * bump_M)


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
