"""Ranks and lists from scores: counted, never sorted whole.

An item that is left out of a ranking has the score -inf. Such an item is never recommended: its
rank is inf, and no list holds it.
"""

import operator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mqsa_jax.ops.largest import largest
from mqsa_jax.ops.sharded_scores import Scores, ShardedScores, rank_points
from mqsa_jax.ops.sparse_logits import is_index

AnyArray = Array | np.ndarray
NO_ITEM = -1
"""Fills a list that ends early."""


def leave_out(
    score_BV: Float[AnyArray, "B V"] | ShardedScores,
    seen_user_M: Int[AnyArray, " M"] | None,
    seen_item_M: Int[AnyArray, " M"] | None,
) -> Scores:
    """Scores with -inf at the pairs (row, item) that are left out; a NaN stays NaN.

    Args:
      score_BV: [B, V] scores of all items for each user.
      seen_user_M: [M] int32 row of each pair, 0..B-1; any other number is padding. None, as is
        `seen_item_M` then: nothing is left out.
      seen_item_M: [M] int32 item of each pair, 0..V-1. A row with another one gets a NaN.

    Raises:
      ValueError: if the two differ in length, or one is missing.
    """
    if isinstance(score_BV, ShardedScores):
        pairs = score_BV.local_pairs(seen_user_M, seen_item_M)
        return score_BV.replace(local=leave_out(score_BV.local, *pairs))
    score_BV = jnp.asarray(score_BV)
    if seen_user_M is None and seen_item_M is None:
        return score_BV
    shapes = [getattr(array, "shape", None) for array in (seen_user_M, seen_item_M)]
    if shapes[0] != shapes[1] or len(shapes[0]) != 1:
        raise ValueError(
            f"pairs to leave out need a row and an item each, got arrays of shapes {shapes}"
        )
    seen_user_M, seen_item_M = jnp.asarray(seen_user_M), jnp.asarray(seen_item_M)
    num_users, num_items = score_BV.shape
    user_M = jnp.where(is_index(seen_user_M, num_users), seen_user_M, num_users)
    valid_M = is_index(seen_item_M, num_items)
    # A minimum, since NaN wins it: a score that is not a number must not disappear here.
    return score_BV.at[user_M, jnp.where(valid_M, seen_item_M, 0)].min(
        jnp.where(valid_M, -jnp.inf, jnp.nan), mode="drop"
    )


def ranks_of(score_BV: Scores, target_B: Int[Array, " B"]) -> Float[Array, " B"]:
    """1 + items scored strictly higher + half the ties; see `target_ranks`."""
    num_items = score_BV.shape[-1]
    if target_B.shape != score_BV.shape[:1]:
        raise ValueError(f"{score_BV.shape[0]} rows of scores, but targets of {target_B.shape}")
    if isinstance(score_BV, ShardedScores):
        return score_BV.ranks(target_B)
    target_score_B = jnp.take_along_axis(score_BV, target_B[:, None], axis=1)[:, 0]
    points_B = rank_points(score_BV, target_score_B)
    # The target ties with itself: 1 + (points - 1/2). NaN + inf is NaN.
    rank_B = jnp.where(target_score_B == -jnp.inf, jnp.inf, 0.5) + points_B
    return jnp.where(is_index(target_B, num_items), rank_B, jnp.nan)


def target_ranks(
    score_BV: Float[AnyArray, "B V"],
    target_B: Int[AnyArray, " B"],
    seen_user_M: Int[AnyArray, " M"] | None = None,
    seen_item_M: Int[AnyArray, " M"] | None = None,
) -> Float[Array, " B"]:
    """1 + items scored strictly higher + half the ties, over all items but those seen.

    A target that is itself among those seen can never be recommended: its rank is inf, a miss at
    every K and 0 in MRR. So is the rank of a target whose score is -inf.

    Args:
      score_BV: [B, V] scores of all items for each user.
      target_B: [B] int32 target of each user, 0..V-1.
      seen_user_M, seen_item_M: [M] row of the scores and item of each pair to leave out, as
        `leave_out` takes them; None: nothing is left out.

    Returns:
      [B] ranks, 1 to V, halves included, or inf; NaN where a score of the user is NaN or the target
      or an item of a pair is outside its range.

    Raises:
      ValueError: if the arrays do not agree in their shapes.

    Example:
      >>> score_BV = jnp.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
      >>> target_ranks(score_BV, jnp.array([1, 1]), jnp.array([0, 1]), jnp.array([0, 1])).tolist()
      [1.0, inf]
    """
    return ranks_of(leave_out(score_BV, seen_user_M, seen_item_M), jnp.asarray(target_B))


def best_items(score_BV: Scores, k: int) -> tuple[Int[Array, "B k"], Float[Array, "B k"]]:
    """The k items of highest score and their scores; see `top_items`.

    Items of score -inf are in no list. Behind the last item the score is -inf; in the list of a
    user with a NaN score, which is empty, the scores are NaN.
    """
    try:
        k = operator.index(k)
    except TypeError:
        raise ValueError(f"k must be a whole number, got {k}") from None
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    num_items = score_BV.shape[-1]
    k_largest = min(k, num_items)
    if isinstance(score_BV, ShardedScores):
        best_score_BK, best_BK = score_BV.largest(k_largest)
    else:
        best_score_BK, best_BK = largest(score_BV, k_largest)
    # A NaN sorts first, so that it is in the list. Not the first column: behind a slice of its
    # result, XLA takes top_k for a sort on CPUs, at ten times the cost.
    is_nan_B1 = jnp.isnan(best_score_BK).any(-1, keepdims=True)
    best_BK = jnp.where((best_score_BK > -jnp.inf) & ~is_nan_B1, best_BK, NO_ITEM)
    best_score_BK = jnp.where(is_nan_B1, jnp.nan, best_score_BK)
    behind = ((0, 0), (0, k - best_BK.shape[1]))
    return (
        jnp.pad(best_BK, behind, constant_values=NO_ITEM),
        jnp.pad(best_score_BK, behind, mode="constant", constant_values=-jnp.inf),
    )


def top_items(
    score_BV: Float[AnyArray, "B V"],
    seen_user_M: Int[AnyArray, " M"] | None,
    seen_item_M: Int[AnyArray, " M"] | None,
    k: int,
) -> Int[Array, "B k"]:
    """The k items that each user scores highest, best first, without those seen.

    Args:
      score_BV: [B, V] scores of all items for each user.
      seen_user_M, seen_item_M: as of `target_ranks`.
      k: length of the lists, at least 1; static. Ties go to the smaller index.

    Returns:
      [B, k] int32; -1 behind the last item where fewer than k are left. A user with a NaN score has
      an empty list.

    Raises:
      ValueError: if k is not a whole number of at least 1, or the pairs differ in length.

    Example:
      >>> score_BV = jnp.array([[3.0, 2.0, 1.0]])
      >>> top_items(score_BV, jnp.array([0]), jnp.array([0]), 3).tolist()
      [[1, 2, -1]]
    """
    return best_items(leave_out(score_BV, seen_user_M, seen_item_M), k)[0]
