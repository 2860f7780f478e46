"""What the ranks and lists of a run's users tell: numbers to compare runs by, list statistics.

Shape legend: U users, V items, K items of a list.
"""

import numpy as np

from mqsa_jax.losses.list_metrics import gini


def log_rank(rank_U: np.ndarray, num_items: int) -> np.ndarray:
    """[U] log2 of the rank.

    A target that can never be recommended has an infinite rank. It counts as rank V + 1, behind
    every item, so that means and differences stay finite.

    >>> log_rank(np.array([1.0, 4.0, np.inf]), num_items=7).tolist()
    [0.0, 2.0, 3.0]
    """
    return np.log2(np.where(np.isposinf(rank_U), num_items + 1.0, rank_U))


def list_statistics(top_UK: np.ndarray, count_V: np.ndarray) -> dict[str, float]:
    """Coverage, novelty, popularity and concentration of recommended lists, hits or not.

    Args:
      top_UK: int [U, K] items recommended to each user; -1 fills lists that are shorter.
      count_V: [V] occurrences of each item in training.

    Returns:
      `coverage`: fraction of the V items that at least one user is recommended; `novelty`: mean of
      -log2((count + 1) / (sum of counts + V)) over recommended items, in bits; `arp`: mean count
      of recommended items; `gini`: Gini coefficient of how often each item is recommended, 0 if
      equally often; `filled`: fraction of the U × K slots that hold an item. `novelty` and `arp`
      are 0 if no list holds an item.
    """
    num_items = len(count_V)
    shown_N = top_UK[top_UK >= 0]
    shown_V = np.bincount(shown_N, minlength=num_items)
    probability_V = (count_V + 1) / (count_V.sum() + num_items)
    return {
        "coverage": float((shown_V > 0).mean()),
        "novelty": float(-np.log2(probability_V[shown_N]).mean()) if shown_N.size else 0.0,
        "arp": float(count_V[shown_N].mean()) if shown_N.size else 0.0,
        "gini": gini(shown_V),
        "filled": shown_N.size / top_UK.size,
    }
