"""The transition teacher: soft labels over all items, a constant a row plus few bumps."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.pytree import Leaf


@struct.dataclass
class Teacher:
    """p(j | i) = base_i + bump_ij, where bump is sparse (compressed sparse rows)."""

    base: Leaf
    """float32 [V] probability of every item that never followed item i."""
    row_start: Leaf
    """int32 [V + 1] where the bumps of each item begin."""
    successor: Leaf
    """int32 [M] item j of a bump."""
    bump: Leaf
    """float32 [M] how much more probable than the base it is."""


def transition_teacher(counts: TransitionCounts, tau: Float[Array, ""] | float) -> Teacher:
    r"""Soft labels from transition counts.

        w_ij = C_ij / max_j C_ij,    p(j | i) = softmax_j( w_ij / tau ) over all V items

    w is 0 for pairs never seen, and for whole rows without transitions, which are uniform. Nothing
    V wide is formed: all pairs never seen share one probability.

    Args:
      counts: transition counts; entries of count 0 are no transitions.
      tau: temperature, above 0; may be traced.

    Returns:
      The teacher, with the sparsity of `counts`.

    Reference:
      Zhu et al., WSDM 2024, arXiv 2311.01056, section 4: transition-aware embedding distillation.
    """
    num_items = counts.num_items
    row_M = counts.row()
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
    return Teacher(base_V, counts.row_start, counts.successor, bump_M)


def teacher_probabilities(
    teacher: Teacher, item_N: Int[Array, " N"] | None = None
) -> Float[Array, "N V"]:
    """p(j | i) in full, [N, V] for the given items i (None: all V). For inspection, not training.

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
        place_M = jnp.arange(teacher.bump.shape[-1])
        inside_M = (place_M >= teacher.row_start[item]) & (place_M < teacher.row_start[item + 1])
        base_V = jnp.full(num_items, teacher.base[item])
        return base_V.at[teacher.successor].add(jnp.where(inside_M, teacher.bump, 0))

    return jax.lax.map(probabilities, item_N)
