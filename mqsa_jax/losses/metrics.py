"""Ranking metrics of one relevant item a user, from its rank (1 is best; ties give halves).

Of JAX arrays they are pure functions like all others here. Of NumPy arrays they are NumPy's: what
has been read from the devices is summed up on the host, not behind the work that devices have got
since.
"""

import numpy as np
from jaxtyping import Array, Bool, Float

from mqsa_jax.losses.reduction import Reduction, mean

AnyArray = Array | np.ndarray
"""Of the devices or of the host; results are of the same kind."""


def _reduce(value_U: AnyArray, where: AnyArray | None, reduce_fn: Reduction | None):
    xp = value_U.__array_namespace__()
    where_U = xp.ones(value_U.shape, bool) if where is None else where
    value_U = xp.where(where_U, value_U, 0.0)
    if reduce_fn is None:
        return value_U
    # A mean over nothing is 0, not 0 / 0.
    return xp.where(where_U.any(), reduce_fn(value_U, where=where_U | ~where_U.any()), 0.0)


def _nan_where_rank_is(rank_U: AnyArray, value_U: AnyArray) -> AnyArray:
    """A rank that is not a number is an error to see, no miss."""
    xp = rank_U.__array_namespace__()
    return xp.where(xp.isnan(rank_U), xp.nan, value_U)


def hit_rate(
    rank_U: Float[AnyArray, "*U"],
    k: int,
    *,
    where: Bool[AnyArray, "*U"] | None = None,
    reduce_fn: Reduction | None = mean,
) -> Float[AnyArray, "..."]:
    """HR@K: whether the target is among the first K; `[rank <= K]`.

    Args:
      rank_U: [...] rank of each user's target.
      k: K, at least 1.
      where: [...] which users count; None: all.
      reduce_fn: reduction of all axes taking `where=`; None keeps a value for each user.

    Returns:
      The reduced value, 0 to 1 for a mean; 0 where nothing counts; NaN where a rank that counts is.

    Example:
      >>> float(hit_rate(np.array([1.0, 5.5, 6.0, 2.0]), 5))
      0.5
    """
    hit_U = (rank_U <= k).astype(rank_U.dtype)
    return _reduce(_nan_where_rank_is(rank_U, hit_U), where, reduce_fn)


def ndcg(
    rank_U: Float[AnyArray, "*U"],
    k: int,
    *,
    where: Bool[AnyArray, "*U"] | None = None,
    reduce_fn: Reduction | None = mean,
) -> Float[AnyArray, "..."]:
    """NDCG@K of one relevant item: `[rank <= K] / log2(1 + rank)` (Järvelin and Kekäläinen 2002).

    Arguments and result as of `hit_rate`.

    Example:
      >>> float(ndcg(np.array([1.0, 3.0]), 5))  # (1 + 1/2) / 2
      0.75
    """
    xp = rank_U.__array_namespace__()
    gain_U = xp.where(rank_U <= k, 1 / xp.log2(1 + rank_U), 0.0)
    return _reduce(_nan_where_rank_is(rank_U, gain_U), where, reduce_fn)


def reciprocal_rank(
    rank_U: Float[AnyArray, "*U"],
    *,
    where: Bool[AnyArray, "*U"] | None = None,
    reduce_fn: Reduction | None = mean,
) -> Float[AnyArray, "..."]:
    """1 / rank; its mean is the MRR (Voorhees 1999).

    Arguments and result as of `hit_rate`.

    Example:
      >>> float(reciprocal_rank(np.array([1.0, 2.0, 4.0, 4.0])))
      0.5
    """
    return _reduce(1 / rank_U, where, reduce_fn)
