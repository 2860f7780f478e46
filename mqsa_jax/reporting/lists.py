"""What recommended lists are like, whether or not they hit: coverage, novelty, popularity bias."""

import numpy as np


def list_statistics(top_UK: np.ndarray, count_V: np.ndarray) -> dict[str, float]:
    """Coverage, novelty, average popularity and concentration of recommended lists.

    Args:
      top_UK: int [U, K] items recommended to each user; -1: none in that place.
      count_V: [V] occurrences of each item in training.

    Returns:
      `coverage`: share of the V items that anybody is recommended; `novelty`: mean of
      -log2((count + 1) / (sum of counts + V)) over recommended items, in bits; `arp`: mean
      count of recommended items; `gini`: Gini coefficient of how often each item is recommended,
      0 if all alike, towards 1 if few items fill all lists. `filled`: share of places with an
      item.
    """
    num_items = len(count_V)
    shown_N = top_UK[top_UK >= 0]
    shown_V = np.bincount(shown_N, minlength=num_items)
    share_V = (count_V + 1) / (count_V.sum() + num_items)
    return {
        "coverage": float((shown_V > 0).mean()),
        "novelty": float(-np.log2(share_V[shown_N]).mean()),
        "arp": float(count_V[shown_N].mean()),
        "gini": gini(shown_V),
        "filled": shown_N.size / top_UK.size,
    }


def gini(value_V: np.ndarray) -> float:
    """Gini coefficient, sum_i (2 i - V - 1) x_i / (V sum x) over ascending x_1 .. x_V.

    >>> gini(np.array([1, 1, 1, 1])), gini(np.array([0, 0, 0, 1]))
    (0.0, 0.75)
    """
    num = len(value_V)
    weight_V = 2 * np.arange(1, num + 1) - num - 1
    return float((weight_V * np.sort(value_V)).sum() / (num * value_V.sum()))
