"""For whom a model works: users grouped by what training has seen of their test case.

Shape legend: U users, V items, G groups.
"""

import numpy as np

from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.transitions import training_transitions

TRANSITION_GROUPS = ((0, 0), (1, 1), (2, 2), (3, 5), (6, None))
"""First and last count of each group; None is no limit."""
NUM_POPULARITY_GROUPS = 5

Groups = tuple[list[str], np.ndarray]
"""[G] names, and int [U] the group of each user."""


def transition_counts(histories: Histories, max_len: int) -> np.ndarray:
    """[U] how often training saw the transition from the last item before the test's target to it.

    Counted as the teacher counts: direct successors in the last `max_len` training items.
    """
    count_VV = training_transitions(histories, max_len).to_scipy()
    last_U = histories.items[histories.offsets[1:] - 2]
    return count_VV[last_U, splits.targets(histories, "test")].astype(np.int64)


def transition_groups(count_U: np.ndarray) -> Groups:
    """Groups by `transition_counts`: 0, 1, 2, 3-5, more."""
    names = [
        f">{first - 1}" if last is None else str(first) if first == last else f"{first}-{last}"
        for first, last in TRANSITION_GROUPS
    ]
    firsts = [first for first, _ in TRANSITION_GROUPS]
    return names, np.searchsorted(firsts, count_U, side="right") - 1


def popularity_groups(count_U: np.ndarray, num_groups: int = NUM_POPULARITY_GROUPS) -> Groups:
    """Groups of about equal size by the target's count; equal counts stay together.

    Args:
      count_U: [U] occurrences of each user's target in training.
      num_groups: G at most; fewer where many users share a count.
    """
    shares = np.arange(1, num_groups + 1) / num_groups
    last_G = np.unique(np.quantile(count_U, shares, method="inverted_cdf"))
    group_U = np.searchsorted(last_G, count_U)
    names = []
    for group in range(len(last_G)):
        inside = count_U[group_U == group]
        first, last = int(inside.min()), int(inside.max())
        names.append(str(first) if first == last else f"{first}-{last}")
    return names, group_U


def group_means(value_U: np.ndarray, group_U: np.ndarray, num_groups: int) -> list[float | None]:
    """[G] mean value of each group; None where nobody is.

    >>> group_means(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 2]), 3)
    [2.0, None, 5.0]
    """
    users_G = np.bincount(group_U, minlength=num_groups)
    sums_G = np.bincount(group_U, weights=value_U, minlength=num_groups)
    return [float(s / n) if n else None for s, n in zip(sums_G, users_G, strict=True)]
