"""A float64 NumPy oracle of ranks among V items and of their metrics over U users."""

from collections.abc import Collection, Sequence

import numpy as np


def rank(scores_V: np.ndarray, target: int, excluded: Collection[int] = ()) -> float:
    """``1 + strictly higher + tied / 2``, counted among the other items that are not excluded.

    A target that is excluded itself can never be recommended: inf.

    Raises:
      ValueError: if a score is NaN.
    """
    if np.isnan(scores_V).any():
        raise ValueError("scores contain NaN")
    others = [item for item in range(len(scores_V)) if item != target and item not in excluded]
    if target in excluded:
        return float("inf")
    higher = sum(bool(scores_V[item] > scores_V[target]) for item in others)
    tied = sum(bool(scores_V[item] == scores_V[target]) for item in others)
    return 1 + higher + tied / 2


def hit_rate(ranks_U: Sequence[float], k: int) -> float:
    """Share of users with ``rank <= k``."""
    return float(np.mean([1.0 if user_rank <= k else 0.0 for user_rank in ranks_U]))


def ndcg(ranks_U: Sequence[float], k: int) -> float:
    """Mean over users of ``1 / log2(rank + 1)`` where ``rank <= k``, else 0."""
    return float(
        np.mean([1.0 / np.log2(user_rank + 1) if user_rank <= k else 0.0 for user_rank in ranks_U])
    )


def reciprocal_rank(ranks_U: Sequence[float]) -> float:
    """Mean over users of ``1 / rank``."""
    return float(np.mean([1.0 / user_rank for user_rank in ranks_U]))
