"""Ranking metrics of one relevant item a user, from its rank: 1 is best, ties give halves.

They follow the contract of `mqsa_jax.losses.reduction`. For JAX arrays they are pure functions.
For NumPy arrays they are computed by NumPy in the precision of the array, and JAX is not imported.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Bool, Float, Real

from mqsa_jax.losses.reduction import Reduction, checked_where, mean, reduced

CUTOFFS = (5, 10, 20)
"""K of HR@K and NDCG@K by default."""


def _checked(rank_U: Real[Any, "*U"], where: Bool[Any, "*U"] | None) -> Float[Any, "*U"]:
    """The ranks; 1 for users who do not count, NaN for ranks below 1."""
    xp = rank_U.__array_namespace__()
    where = checked_where(where, rank_U.shape)
    # Integers hold no NaN.
    rank_U = rank_U.astype(xp.result_type(rank_U.dtype, xp.float32))
    rank_U = rank_U if where is None else xp.where(where, rank_U, 1)
    # A product, so that gradients are NaN too.
    return rank_U * xp.where(rank_U >= 1, 1, xp.nan).astype(rank_U.dtype)


def _checked_cutoff(k: int) -> int:
    if k < 1:
        raise ValueError(f"the cutoff k must be at least 1, but is {k}")
    return k


def hit_rate(
    rank_U: Real[Any, "*U"],
    k: int,
    *,
    where: Bool[Any, "*U"] | None = None,
    reduce_fn: Reduction | None = mean,
) -> Float[Any, "..."]:
    """HR@K: whether the target is among the first K; `[rank <= K]`.

    Args:
      rank_U: [...] rank of each user's target, at least 1; infinite if it is never recommended.
      k: K, at least 1.
      where: [...] which users count; None: all.
      reduce_fn: reduction of all axes taking `where=`; None keeps a value for each user.

    Returns:
      The reduced value, 0 to 1 for a mean; 0 where nothing counts; NaN where a rank that counts is
      NaN or below 1.

    Raises:
      ValueError: if `k` is below 1.

    Example:
      >>> import numpy as np
      >>> float(hit_rate(np.array([1.0, 5.5, 6.0, 2.0]), 5))
      0.5
    """
    xp, rank_U = rank_U.__array_namespace__(), _checked(rank_U, where)
    missed_U = rank_U > _checked_cutoff(k)
    # A comparison with NaN is False, which would be a hit.
    hit_U = xp.where(xp.isnan(rank_U), rank_U, (~missed_U).astype(rank_U.dtype))
    return reduced(hit_U, where, reduce_fn)


def ndcg(
    rank_U: Real[Any, "*U"],
    k: int,
    *,
    where: Bool[Any, "*U"] | None = None,
    reduce_fn: Reduction | None = mean,
) -> Float[Any, "..."]:
    """NDCG@K of one relevant item: `[rank <= K] / log2(1 + rank)` (Järvelin and Kekäläinen 2002).

    Arguments, result and errors as of `hit_rate`.

    Example:
      >>> import numpy as np
      >>> float(ndcg(np.array([1.0, 3.0]), 5))  # (1 + 1/2) / 2
      0.75
    """
    xp, rank_U = rank_U.__array_namespace__(), _checked(rank_U, where)
    gain_U = xp.where(rank_U > _checked_cutoff(k), 0, 1 / xp.log2(1 + rank_U))
    return reduced(gain_U, where, reduce_fn)


def reciprocal_rank(
    rank_U: Real[Any, "*U"],
    *,
    where: Bool[Any, "*U"] | None = None,
    reduce_fn: Reduction | None = mean,
) -> Float[Any, "..."]:
    """1 / rank; its mean is the MRR (Voorhees 1999).

    Arguments and result as of `hit_rate`.

    Example:
      >>> import numpy as np
      >>> float(reciprocal_rank(np.array([1.0, 2.0, 4.0, 4.0])))
      0.5
    """
    return reduced(1 / _checked(rank_U, where), where, reduce_fn)


def summarise(rank_U: Float[Any, " U"], cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """HR@K and NDCG@K at each cutoff and MRR, means over users; worked out on the host.

    Args:
      rank_U: [U] rank of each user's target, as of `hit_rate`.
      cutoffs: K, at least 1 each.

    Raises:
      ValueError: if a cutoff is below 1.
    """
    result = {}
    for k in cutoffs:
        result[f"HR@{k}"] = float(hit_rate(rank_U, k))
        result[f"NDCG@{k}"] = float(ndcg(rank_U, k))
    return {**result, "MRR": float(reciprocal_rank(rank_U))}
