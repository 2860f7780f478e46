"""Ranking metrics of one relevant item a user, from its rank (1 is best; ties give halves)."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mqsa_jax.objectives.reduction import Reduction


def _reduce(value_U: Array, where: Array | None, reduce_fn: Reduction | None):
    where_U = jnp.ones(value_U.shape, bool) if where is None else where
    value_U = jnp.where(where_U, value_U, 0.0)
    if reduce_fn is None:
        return value_U
    # A mean over nothing is 0, not 0 / 0.
    return jnp.where(where_U.any(), reduce_fn(value_U, where=where_U | ~where_U.any()), 0.0)


def _nan_where_rank_is(rank_U: Array, value_U: Array) -> Array:
    """A rank that is not a number is an error to see, no miss."""
    return jnp.where(jnp.isnan(rank_U), jnp.nan, value_U)


def hit_rate(
    rank_U: Float[Array, "*U"],
    k: int,
    *,
    where: Bool[Array, "*U"] | None = None,
    reduce_fn: Reduction | None = jnp.mean,
) -> Float[Array, "..."]:
    """HR@K: whether the target is among the first K; `[rank <= K]`.

    Args:
      rank_U: [...] rank of each user's target.
      k: K, at least 1.
      where: [...] which users count; None: all.
      reduce_fn: reduction of all axes taking `where=`; None keeps a value for each user.

    Returns:
      The reduced value, 0 to 1 for a mean; 0 where nothing counts; NaN where a rank that counts is.

    Example:
      >>> float(hit_rate(jnp.array([1.0, 5.5, 6.0, 2.0]), 5))
      0.5
    """
    hit_U = (rank_U <= k).astype(rank_U.dtype)
    return _reduce(_nan_where_rank_is(rank_U, hit_U), where, reduce_fn)


def ndcg(
    rank_U: Float[Array, "*U"],
    k: int,
    *,
    where: Bool[Array, "*U"] | None = None,
    reduce_fn: Reduction | None = jnp.mean,
) -> Float[Array, "..."]:
    """NDCG@K of one relevant item: `[rank <= K] / log2(1 + rank)` (Järvelin and Kekäläinen 2002).

    Arguments and result as of `hit_rate`.

    Example:
      >>> float(ndcg(jnp.array([1.0, 3.0]), 5))  # (1 + 1/2) / 2
      0.75
    """
    gain_U = jnp.where(rank_U <= k, 1 / jnp.log2(1 + rank_U), 0.0)
    return _reduce(_nan_where_rank_is(rank_U, gain_U), where, reduce_fn)


def reciprocal_rank(
    rank_U: Float[Array, "*U"],
    *,
    where: Bool[Array, "*U"] | None = None,
    reduce_fn: Reduction | None = jnp.mean,
) -> Float[Array, "..."]:
    """1 / rank; its mean is the MRR (Voorhees 1999).

    Arguments and result as of `hit_rate`.

    Example:
      >>> float(reciprocal_rank(jnp.array([1.0, 2.0, 4.0, 4.0])))
      0.5
    """
    return _reduce(1 / rank_U, where, reduce_fn)
