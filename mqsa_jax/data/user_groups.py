"""Groups of users by what is known of them before their target, or of the target itself."""

from typing import Literal

import numpy as np

from mqsa_jax.data import splits
from mqsa_jax.data.dataset import Dataset

Groups = tuple[list[str], np.ndarray]
"""[G] names, and int [U] the group of each user."""


def quantile_groups(value_U: np.ndarray, num_groups: int) -> Groups:
    """Groups of about equal size by a whole number; equal numbers stay together.

    Args:
      value_U: [U] a number of each user.
      num_groups: largest G; there are fewer groups if many users have the same number.

    Returns:
      Names, the smallest and largest number of each group, and the group of each user.

    >>> quantile_groups(np.array([3, 3, 3, 4, 5, 9, 9, 10]), 4)
    (['3', '4', '5-9', '10'], array([0, 0, 0, 1, 2, 2, 2, 3]))
    """
    fractions = np.arange(1, num_groups + 1) / num_groups
    last_G = np.unique(np.quantile(value_U, fractions, method="inverted_cdf"))
    group_U = np.searchsorted(last_G, value_U)
    names = []
    for group in range(len(last_G)):
        inside = value_U[group_U == group]
        first, last = int(inside.min()), int(inside.max())
        names.append(str(first) if first == last else f"{first}-{last}")
    return names, group_U


def cold_targets(
    data: Dataset, split: Literal["valid", "test"], max_len: int, sample: int = 0
) -> np.ndarray:
    """bool [U], whether a user's target never occurs among the training items that are read.

    No model can have learned such an item. Users are those of `splits.evaluated_blocks`.
    """
    count_V = splits.item_counts(data, max_len)
    blocks = splits.evaluated_blocks(data, split, sample)
    return np.concatenate([count_V[splits.targets(block, split)] == 0 for block in blocks])


def lengths_before_target(
    data: Dataset, split: Literal["valid", "test"], sample: int = 0
) -> np.ndarray:
    """int64 [U], items that each user consumed before the target, beyond `max_len` too.

    Users are those of `splits.evaluated_blocks`.
    """
    return np.concatenate(
        [
            splits.recent(block, split, int(block.lengths.max())).lengths
            for block in splits.evaluated_blocks(data, split, sample)
        ]
    )
