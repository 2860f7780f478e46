"""The query of L-query attention: the mean of the last L positions of a history."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def segment_offsets(segment_T: Int[Array, "*B T"]) -> Int[Array, "*B T"]:
    """Index of each position within its history, 0 for the oldest.

    Args:
      segment_T: [..., T] history that each position belongs to. Positions of a history stand
        side by side, oldest first.

    Returns:
      [..., T] int32.

    Example:
      >>> segment_offsets(jnp.array([7, 7, 7, 2, 2, -1])).tolist()
      [0, 1, 2, 0, 1, 0]
    """
    place_T = jnp.arange(segment_T.shape[-1], dtype=jnp.int32)
    first_T = jnp.ones_like(segment_T[..., :1], bool)
    starts_T = jnp.concatenate([first_T, segment_T[..., 1:] != segment_T[..., :-1]], axis=-1)
    start_T = jax.lax.cummax(jnp.where(starts_T, place_T, 0), axis=segment_T.ndim - 1)
    return place_T - start_T


def windowed_mean(
    x_TD: Float[Array, "*B T D"],
    window: Int[Array, ""] | int,
    segment_T: Int[Array, "*B T"] | None = None,
) -> Float[Array, "*B T D"]:
    r"""Mean over the last `min(L, t)` positions of a history up to each position t.

    By cumulative sums, `(S_t - S_{t-L}) / min(t, L)`: one formula for every L, at a cost that does
    not depend on L.

    Args:
      x_TD: [..., T, D] vectors, oldest first.
      window: L, at least 1; may be traced. With L >= T it is the cumulative mean.
      segment_T: [..., T] history of each position, several histories to a row, each contiguous;
        negative at padding, where the result is 0. None: the row is one history.

    Returns:
      [..., T, D].

    Reference:
      Zhu et al., WSDM 2024, arXiv 2311.01056: the L-query of multi-query self-attention.

    Example:
      >>> windowed_mean(jnp.array([[1.0], [3.0], [5.0], [7.0]]), 2).ravel().tolist()
      [1.0, 2.0, 4.0, 6.0]
    """
    if segment_T is None:
        segment_T = jnp.zeros(x_TD.shape[:-1], jnp.int32)
    real_T1 = (segment_T >= 0)[..., None]
    length_T = jnp.minimum(segment_offsets(segment_T) + 1, window)
    # sum_UD[u] is the sum of the first u positions, so that u = 0 needs no special case.
    sum_UD = jnp.cumsum(jnp.where(real_T1, x_TD, 0), axis=-2)
    sum_UD = jnp.concatenate([jnp.zeros_like(sum_UD[..., :1, :]), sum_UD], axis=-2)
    before_T = jnp.arange(1, x_TD.shape[-2] + 1) - length_T
    take = jnp.vectorize(lambda table, index: table[index], signature="(u,d),(t)->(t,d)")
    total_TD = sum_UD[..., 1:, :] - take(sum_UD, before_T)
    return jnp.where(real_T1, total_TD / length_T[..., None], 0)
