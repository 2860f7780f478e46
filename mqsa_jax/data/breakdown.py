"""Groups of users by how often training holds what their test asks for.

Shape legend: U users, V items, G groups.
"""

import numpy as np

from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.transitions import training_transitions
from mqsa_jax.data.user_groups import Groups, quantile_groups

BREAKDOWN_TITLES = {
    "transition": "Occurrences of the test's transition in training",
    "popularity": "Occurrences of the target in training",
}
TRANSITION_GROUPS = ((0, 0), (1, 1), (2, 2), (3, 5), (6, None))
"""First and last count of each group; None is no limit."""
NUM_POPULARITY_GROUPS = 5


def breakdown_groups(histories: Histories, max_len: int) -> dict[str, Groups]:
    """The groups of each of `BREAKDOWN_TITLES`.

    Args:
      histories: split by leave-one-out.
      max_len: items of a history that training reads.
    """
    count_V = splits.item_counts(histories, max_len)
    return {
        "transition": transition_groups(transition_counts(histories, max_len)),
        "popularity": popularity_groups(count_V[splits.targets(histories, "test")]),
    }


def transition_counts(histories: Histories, max_len: int) -> np.ndarray:
    """[U] occurrences in training of the transition from the item before the test target to it.

    Counted as for the teacher: direct successors in the last `max_len` training items.
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
      num_groups: largest G; there are fewer groups if many users have the same count.
    """
    return quantile_groups(count_U, num_groups)


def group_means(value_U: np.ndarray, group_U: np.ndarray, num_groups: int) -> list[float | None]:
    """[G] mean value of each group; None for a group without users.

    >>> group_means(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 2]), 3)
    [2.0, None, 5.0]
    """
    users_G = np.bincount(group_U, minlength=num_groups)
    sums_G = np.bincount(group_U, weights=value_U, minlength=num_groups)
    return [float(s / n) if n else None for s, n in zip(sums_G, users_G, strict=True)]
