"""For whom a model works: users grouped by what training has seen of their test case.

Shape legend: U users, V items, G groups.
"""

import numpy as np

from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories

TRANSITION_GROUPS = ((0, 0), (1, 1), (2, 2), (3, 5), (6, None))
"""First and last count of each group; None is no limit."""
NUM_POPULARITY_GROUPS = 5

Groups = tuple[list[str], np.ndarray]
"""[G] names, and int [U] the group of each user."""


def transition_counts(histories: Histories, max_len: int) -> np.ndarray:
    """[U] how often training saw the transition from the last item before the test's target to it.

    Counted as the teacher counts: direct successors in the last `max_len` training items.
    """
    kept = splits.window(histories, "train", max_len)
    owner_N, index_N = kept.flat_index()
    item_N = histories.items[index_N].astype(np.int64)
    follows_N = owner_N[1:] == owner_N[:-1]
    seen = (item_N[:-1] * histories.num_items + item_N[1:])[follows_N]
    pairs, counts = np.unique(seen, return_counts=True)
    last_U = histories.items[histories.offsets[1:] - 2].astype(np.int64)
    asked_U = last_U * histories.num_items + splits.targets(histories, "test")
    if not pairs.size:
        return np.zeros(asked_U.shape, np.int64)
    place_U = np.minimum(np.searchsorted(pairs, asked_U), pairs.size - 1)
    return np.where(pairs[place_U] == asked_U, counts[place_U], 0)


def item_counts(histories: Histories, max_len: int) -> np.ndarray:
    """[V] occurrences of each item in the last `max_len` training items of all users."""
    _, index_N = splits.window(histories, "train", max_len).flat_index()
    return np.bincount(histories.items[index_N], minlength=histories.num_items)


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
