"""The sparse transition term of the scores: what followed the latest items in other histories.

    term(n, j) = sum_k weight_k M[item k steps before position n, j],    k = 0 .. K - 1

M[i, j] counts how often j comes soon after i, damped by how often i and j occur. Inner products of
width D cannot represent so sparse a matrix, and the matrix says nothing of pairs that never occur;
so the scores have both. Each row of M keeps its W largest entries: the term changes the scores of
at most K W items a user, which can be merged with the candidates of an inner-product index.

Shape legend: K recent items, W neighbours of an item, P past and F future items of a position.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float, Float32, Int, Int32

from mqsa_jax.data.transitions import TransitionCounts, largest_of_rows
from mqsa_jax.ops.sharded_table import rows_at
from mqsa_jax.ops.sparse_logits import SparseLogits
from mqsa_jax.pytree import pytree_dataclass


@pytree_dataclass
class Neighbours:
    """Rows of M: `M_ij = C_ij scale_from_i scale_to_j`, C weighted transition counts."""

    item: Int32[Array, "V W"]
    """Item j; any behind the last of a row."""
    weight: Float32[Array, "V W"]
    """M_ij; 0 behind the last."""
    scale_from: Float32[Array, " V"]
    """(sum of row i of C)^(-1/2); 0 where the row is empty."""
    scale_to: Float32[Array, " V"]
    """(sum of column j of C)^(-popularity); 0 where the column is empty."""
    step_weight: Float32[Array, "K F"]
    """What one transition from the item k back to the one f ahead adds to C."""


def normalised(
    counts: TransitionCounts, popularity: float
) -> tuple[scipy.sparse.csr_array, np.ndarray, np.ndarray]:
    """M [V, V], and the scales [V] by which it was made of the counts; not under jit.

        M_ij = C_ij / (n_i^(1/2) m_j^popularity)

    n are the sums of rows, m those of columns. Self-transitions are left out: an item just consumed
    is hardly ever the next.
    """
    matrix = counts.to_scipy().astype(np.float64)
    matrix.setdiag(0)
    matrix.eliminate_zeros()
    scale_from = _inverse_power(matrix.sum(1), 0.5)
    scale_to = _inverse_power(matrix.sum(0), popularity)
    left, right = (scipy.sparse.diags_array(scale) for scale in (scale_from, scale_to))
    return (left @ matrix @ right).tocsr(), scale_from, scale_to


def neighbours(
    counts: TransitionCounts,
    width: int,
    *,
    popularity: float,
    num_recent: int,
    time_span: int,
    decay: float,
) -> Neighbours:
    """The `width` largest entries of each row of M; not under jit.

    Args:
      counts: weighted counts C of transitions up to `time_span` steps, one more step weighing
        `decay` times as much.
      width: W.
      popularity: exponent that damps frequent items as targets.
      num_recent: K.
      time_span: F.
      decay: above 0, at most 1.
    """
    matrix, scale_from, scale_to = normalised(counts, popularity)
    matrix = matrix.tocoo()
    row_M, item_M, weight_M, column_M = largest_of_rows(matrix.row, matrix.col, matrix.data, width)
    item = np.zeros((counts.num_items, width), np.int32)
    weight = np.zeros((counts.num_items, width), np.float32)
    item[row_M, column_M] = item_M
    weight[row_M, column_M] = weight_M
    # From k back to f ahead (f = 0: the target) it is k + f + 1 steps.
    steps = np.arange(num_recent)[:, None] + np.arange(time_span) + 1
    step_weight = np.where(steps <= time_span, decay ** (steps - 1.0), 0)
    scales = (array.astype(np.float32) for array in (scale_from, scale_to, step_weight))
    return Neighbours(*map(jnp.asarray, (item, weight, *scales)))


def _inverse_power(total_V: np.ndarray, exponent: float) -> np.ndarray:
    return np.where(total_V > 0, np.where(total_V > 0, total_V, 1.0) ** -exponent, 0)


def term_init(
    weight: Float[Array, ""] | float, decay: Float[Array, ""] | float, num_recent: int
) -> dict[str, Array]:
    """Parameters: log of the weight of each recent item, newest first, `weight decay^k`."""
    return {"log_weight": jnp.log(weight) + jnp.log(decay) * jnp.arange(num_recent)}


def with_term_factor(
    params: Mapping[str, Any], factor: float | Float[Array | np.ndarray, "*P"]
) -> dict[str, Any]:
    """A recommender's parameters with the term's weight times a factor, which may be 0.

    Stacked parameters [P, ...] take a factor each. The factor may be traced.
    """
    term = params["transition_term"]
    shift = jnp.log(jnp.asarray(factor, jnp.float32))[..., None]
    return {**params, "transition_term": {**term, "log_weight": term["log_weight"] + shift}}


def past_items(
    item_T: Int[Array, "*B T"], segment_ids_T: Int[Array, "*B T"], num_past: int
) -> Int[Array, "*B T P"]:
    """[..., T, P] the items up to each position of a history, newest first; -1 before the first."""
    return jnp.stack([_shifted(item_T, segment_ids_T, -back) for back in range(num_past)], -1)


def future_items(
    target_T: Int[Array, "*B T"], segment_ids_T: Int[Array, "*B T"], num_future: int
) -> Int[Array, "*B T F"]:
    """[..., T, F] the target of each position, and the targets behind it; -1 after the last."""
    return jnp.stack([_shifted(target_T, segment_ids_T, ahead) for ahead in range(num_future)], -1)


def _shifted(item_T: Array, segment_ids_T: Array, by: int) -> Array:
    """The item `by` positions ahead (negative: back) in the same history; -1 if there is none."""
    other_T = jnp.roll(segment_ids_T, -by, axis=-1)
    column_T = jnp.arange(item_T.shape[-1]) + by
    inside_T = (column_T >= 0) & (column_T < item_T.shape[-1])
    same_T = (other_T == segment_ids_T) & (segment_ids_T >= 0) & inside_T
    return jnp.where(same_T, jnp.roll(item_T, -by, axis=-1), -1)


def transition_term(
    params: Mapping[str, Array],
    past_P: Int[Array, "*B P"],
    neighbours: Neighbours,
    future_F: Int[Array, "*B F"] | None = None,
) -> SparseLogits:
    """[..., K W] the term of each position.

    Items just consumed (`past_P`) score 0: they are hardly ever the next.

    In training, M contains the transitions of the history that is scored, which would reveal the
    target, and the weights would grow without bound. So the history's own counts are removed: those
    of its past by the rule above, those of its future by subtraction.

    Args:
      params: as `term_init` makes them, for K recent items.
      past_P: [..., P] items up to the position, newest first; -1: none. The first K are scored.
        P is K plus the steps that count as a transition, so that it holds all items that this
        history itself may have counted in their rows.
      neighbours: rows of M.
      future_F: [..., F] items after the position, the target first; -1: none. None: the history
        was not counted in M.
    """
    num_recent = params["log_weight"].shape[-1]
    recent_K = jnp.maximum(past_P[..., :num_recent], 0)
    item_KW, weight_KW = rows_at(neighbours.item, recent_K), rows_at(neighbours.weight, recent_K)
    if future_F is not None:
        own_KF = neighbours.step_weight * rows_at(neighbours.scale_from, recent_K)[..., None]
        own_KF *= rows_at(neighbours.scale_to, jnp.maximum(future_F, 0))[..., None, :]
        for ahead in range(future_F.shape[-1]):
            is_own_KW = item_KW == future_F[..., None, None, ahead]
            weight_KW = weight_KW - own_KF[..., ahead][..., None] * is_own_KW
        # Rounding may leave a negative weight.
        weight_KW = jnp.maximum(weight_KW, 0)
    for back in range(past_P.shape[-1]):
        weight_KW = jnp.where(item_KW == past_P[..., None, None, back], 0, weight_KW)
    weight_K = jnp.exp(params["log_weight"]) * (past_P[..., :num_recent] >= 0)
    shape = (*item_KW.shape[:-2], -1)
    return SparseLogits(item_KW.reshape(shape), (weight_K[..., None] * weight_KW).reshape(shape))
