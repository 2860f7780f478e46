"""The rank of each user's target among all items: counted, neither sorted nor kept."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def target_ranks(
    score_BV: Float[Array, "B V"],
    target_B: Int[Array, " B"],
    seen_user_M: Int[Array, " M"],
    seen_item_M: Int[Array, " M"],
) -> Float[Array, " B"]:
    """1 + items scored strictly higher + half the ties, over all items but those seen.

    A target that is itself among those seen is behind all items that are not, whatever its score:
    it is never recommended. Where K items or more are left, that is a miss at K.

    Args:
      score_BV: [B, V] scores of all items for each user.
      target_B: [B] int32 target of each user.
      seen_user_M: [M] int32 with `seen_item_M`, pairs (row of `score_BV`, item) to leave out of the
        ranking, none twice; a row of B or above is padding.
      seen_item_M: [M] int32.

    Returns:
      [B] ranks, 1 to V, halves included; NaN where a score is NaN.
    """
    num_users = score_BV.shape[0]
    row_M = jnp.minimum(seen_user_M, num_users - 1)
    real_M = seen_user_M < num_users
    missed_M = real_M & (seen_item_M == target_B[row_M])
    missed_B = jax.ops.segment_sum(missed_M.astype(jnp.float32), row_M, num_users) > 0
    target_score_B = jnp.take_along_axis(score_BV, target_B[:, None], axis=1)[:, 0]
    target_score_B = jnp.where(missed_B, -jnp.inf, target_score_B)

    def points(score, target_score):
        # In one pass of floats: on CPU a sum of booleans takes several times as long.
        at_most = jnp.where(score < target_score, 0.0, jnp.nan)
        return jnp.where(score > target_score, 1.0, jnp.where(score == target_score, 0.5, at_most))

    points_B = points(score_BV, target_score_B[:, None]).sum(-1)
    seen_score_M = score_BV.at[seen_user_M, seen_item_M].get(mode="fill", fill_value=-jnp.inf)
    seen_points_M = points(seen_score_M, target_score_B[row_M])
    seen_points_M = jnp.where(real_M, seen_points_M, 0)
    seen_points_B = jax.ops.segment_sum(seen_points_M, row_M, num_users)
    # A target that is ranked ties with itself: 1 + (points - 1/2).
    return jnp.where(missed_B, 1, 0.5) + points_B - seen_points_B


def top_items(
    score_BV: Float[Array, "B V"],
    seen_user_M: Int[Array, " M"],
    seen_item_M: Int[Array, " M"],
    k: int,
) -> Int[Array, "B k"]:
    """The k items that each user scores highest, best first, without those seen.

    Args:
      score_BV, seen_user_M, seen_item_M: as of `target_ranks`.
      k: at most V; static. Ties go to the smaller index.
    """
    left_BV = score_BV.at[seen_user_M, seen_item_M].set(-jnp.inf, mode="drop")
    return jax.lax.top_k(left_BV, k)[1]
