"""The query of L-query attention: the mean of the last L positions of a history."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def causal_mask(segment_ids_T: Int[Array, "*B T"]) -> Bool[Array, "*B T T"]:
    """[..., T, T]: the second position is not after the first, and of the same history."""
    length = segment_ids_T.shape[-1]
    causal_TT = jnp.tril(jnp.ones((length, length), bool))
    return causal_TT & (segment_ids_T[..., :, None] == segment_ids_T[..., None, :])


def windowed_mean(
    x_TD: Float[Array, "*B T D"],
    window: Int[Array, ""] | int,
    segment_ids_T: Int[Array, "*B T"] | None = None,
) -> Float[Array, "*B T D"]:
    r"""Mean over the last `min(L, t)` positions of a history up to each position t.

    A matrix product with a band matrix [T, T], as attention with equal weights: one formula for
    every L, at a cost that does not depend on L and is small beside that of the attention itself.

    Args:
      x_TD: [..., T, D] vectors, oldest first.
      window: L, at least 1; may be traced. With L >= T it is the cumulative mean.
      segment_ids_T: [..., T] history of each position, several histories to a row, each contiguous;
        negative at padding, where the result is 0. None: the row is one history.

    Returns:
      [..., T, D]; NaN, gradients too, if a traced window is below 1.

    Raises:
      ValueError: if the window is not an integer, or a window that is known is below 1.

    Reference:
      Zhu et al., WSDM 2024, arXiv 2311.01056: the L-query of multi-query self-attention.

    Example:
      >>> windowed_mean(jnp.array([[1.0], [3.0], [5.0], [7.0]]), 2).ravel().tolist()
      [1.0, 2.0, 4.0, 6.0]
    """
    if jnp.ndim(window) or not jnp.issubdtype(jnp.result_type(window), jnp.integer):
        raise ValueError(f"window must be one integer, got {window}")
    if not isinstance(window, jax.core.Tracer) and np.asarray(window) < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    if segment_ids_T is None:
        segment_ids_T = jnp.zeros(x_TD.shape[:-1], jnp.int32)
    real_T1 = (segment_ids_T >= 0)[..., None]
    # Values at padding may be anything, and 0 times infinity is not 0.
    x_TD = jnp.where(real_T1, x_TD, 0)
    if isinstance(window, int) and window == 1:
        return x_TD
    index_T = jnp.arange(segment_ids_T.shape[-1])
    back_TT = index_T[:, None] - index_T[None, :]
    inside_TT = causal_mask(segment_ids_T) & (back_TT < window) & real_T1
    weight_TT = inside_TT / jnp.maximum(inside_TT.sum(-1, keepdims=True), 1).astype(x_TD.dtype)
    # A factor, so that gradients are NaN too.
    weight_TT *= jnp.where(window < 1, jnp.nan, 1.0)
    # Full precision on every device: coarse weights would bias a mean.
    return jnp.einsum("...ts,...sd->...td", weight_TT, x_TD, precision="highest")
