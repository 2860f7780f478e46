"""Whether two models differ: paired over the users of a data set."""

import numpy as np
import scipy.stats

RESAMPLES = 10_000
_BLOCK = 2_000_000  # draws at a time, to bound memory


def bootstrap(
    difference_U: np.ndarray, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Percentile bootstrap of the mean of paired differences (Efron 1979).

    Args:
      difference_U: [U] a value a user.
      resamples: samples of U users, drawn with replacement.
      level: fraction of the resampled means inside the interval.
      seed: of the draws.

    Returns:
      Lower and upper end of the interval; two-sided p-value of a mean of 0: twice the fraction
      of resampled means on the rarer side of 0, each side's count plus one (Davison and Hinkley
      1997).
    """
    rng = np.random.default_rng(seed)
    users = len(difference_U)
    block = max(1, _BLOCK // users)
    means = []
    for start in range(0, resamples, block):
        drawn = rng.integers(users, size=(min(block, resamples - start), users), dtype=np.int32)
        means.append(difference_U[drawn].mean(axis=1))
    tail = (1 - level) / 2
    means = np.concatenate(means)
    low, high = np.quantile(means, [tail, 1 - tail])
    rarer = min((means <= 0).sum(), (means >= 0).sum())
    return float(low), float(high), float(min(2 * (rarer + 1) / (resamples + 1), 1))


def wilcoxon(difference_U: np.ndarray) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test; zeros are dropped, all zeros give 1."""
    if not np.any(difference_U):
        return 1.0
    return float(scipy.stats.wilcoxon(difference_U).pvalue)


def holm(p_C: np.ndarray) -> np.ndarray:
    """[C] p-values corrected for C comparisons (Holm 1979).

    In ascending order the i-th of C is multiplied by C - i + 1, and none falls below the one
    before it.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_C)
    scaled = np.sort(p_C) * np.arange(len(p_C), 0, -1)
    corrected = np.empty(len(p_C))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected


def compare(
    ndcg_U: np.ndarray,
    other_ndcg_U: np.ndarray,
    log_rank_U: np.ndarray,
    other_log_rank_U: np.ndarray,
) -> dict[str, float | list[float]]:
    """A model against another, by users' values averaged over seeds.

    Args:
      ndcg_U: [U] NDCG@20 of the model.
      other_ndcg_U: [U] of the other.
      log_rank_U: [U] log2 of the rank by the model.
      other_log_rank_U: [U] by the other.

    Returns:
      `difference` of mean NDCG@20 (model less other) with its 95% `interval`, the bootstrap's
      `p_mean` and the Wilcoxon test's `p_ndcg`; the fraction of users whom the model ranks
      `better`, ties counted half, and `p_rank`.
    """
    difference_U = ndcg_U - other_ndcg_U
    rank_difference_U = log_rank_U - other_log_rank_U
    better = (rank_difference_U < 0).mean() + (rank_difference_U == 0).mean() / 2
    low, high, p_mean = bootstrap(difference_U)
    return {
        "difference": float(difference_U.mean()),
        "interval": [low, high],
        "p_mean": p_mean,
        "p_ndcg": wilcoxon(difference_U),
        "better": float(better),
        "p_rank": wilcoxon(rank_difference_U),
    }
