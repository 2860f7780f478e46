"""Metrics of recommended lists beyond their accuracy, on the host; JAX is not imported.

Lists are [U, K], items best first, -1 behind the last one of a list that ends early. Where a metric
is a mean over users, it follows the contract of `mqsa_jax.losses.reduction`: `where` says which
users count, and users without any item in their list never do. Lists are worked on block of users
by block, so that memory beside them is constant.

Shape legend: U users, V items, K items of a list, k of them that a metric reads, D width.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from mqsa_jax.losses.reduction import Reduction, checked_where, mean, reduced

BLOCK_USERS = 1 << 10
"""Users whose lists are worked on at a time."""
Lists = Int[np.ndarray, "U K"]
Where = Bool[np.ndarray, " U"] | None


def _first(list_UK: np.ndarray, k: int, num_items: int) -> np.ndarray:
    """[U, k] the first k items; ValueError if k or an item is outside its range."""
    if not 1 <= k <= list_UK.shape[1]:
        raise ValueError(f"k must be between 1 and {list_UK.shape[1]}, but is {k}")
    if list_UK.size and not -1 <= list_UK.min() <= list_UK.max() < num_items:
        raise ValueError(
            f"items must be -1 to {num_items - 1}, but are {list_UK.min()} to {list_UK.max()}"
        )
    return list_UK[:, :k]


def list_counts(
    list_UK: Lists, k: int, num_items: int, *, where: Where = None
) -> Int[np.ndarray, " V"]:
    """[V] int64 number of users whose first k items hold each item.

    Args:
      list_UK: [U, K] items of each list, best first, each once; -1 behind the last.
      k: items of a list that are read, 1 to K.
      num_items: V.
      where: [U] which users count; None: all.

    Raises:
      ValueError: if k or an item is outside its range, or `where` is not boolean [U].
    """
    first_UK, where = _first(list_UK, k, num_items), checked_where(where, list_UK.shape[:1])
    shown_N = first_UK[first_UK >= 0] if where is None else first_UK[where][first_UK[where] >= 0]
    return np.bincount(shown_N, minlength=num_items)


def coverage(list_UK: Lists, k: int, num_items: int, *, where: Where = None) -> float:
    """Catalogue coverage@k: the share of the V items that are in some user's first k.

    The aggregate diversity of Adomavicius and Kwon (TKDE 2012), divided by V. Arguments and errors
    as of `list_counts`.

    Example:
      >>> coverage(np.array([[0, 1], [0, -1]]), 2, 4)
      0.5
    """
    return float((list_counts(list_UK, k, num_items, where=where) > 0).mean())


def gini(value_V: Real[np.ndarray, " V"]) -> float:
    """Gini coefficient, `sum_i (2 i - V - 1) x_i / (V sum x)` over ascending x_1 .. x_V.

    Args:
      value_V: [V] values of 0 or above, such as `list_counts`.

    Returns:
      0 if all are equal, or 0, to 1 - 1/V if only one is above 0.

    Example:
      >>> gini(np.array([1, 1, 1, 1])), gini(np.array([0, 0, 0, 1]))
      (0.0, 0.75)
    """
    num, total = len(value_V), value_V.sum()
    weight_V = 2 * np.arange(1, num + 1) - num - 1
    return float((weight_V * np.sort(value_V)).sum() / (num * total)) if total else 0.0


def _of_lists(
    first_UK: np.ndarray,
    where: np.ndarray | None,
    reduce_fn: Reduction | None,
    value_fn: Callable[[np.ndarray, np.ndarray], np.ndarray],
    fewest: int = 1,
) -> Float[np.ndarray, "..."]:
    """Reduces `value_fn` of lists and which slots are filled; users of fewer items never count."""
    where = checked_where(where, first_UK.shape[:1])
    value_U, counts_U = np.zeros(len(first_UK)), np.zeros(len(first_UK), bool)
    for begin in range(0, len(first_UK), BLOCK_USERS):
        block = slice(begin, begin + BLOCK_USERS)
        filled_BK = first_UK[block] >= 0
        counts_U[block] = filled_BK.sum(1) >= fewest
        with np.errstate(invalid="ignore", divide="ignore"):
            value_U[block] = value_fn(np.maximum(first_UK[block], 0), filled_BK)
    counts_U &= True if where is None else where
    return reduced(value_U, counts_U, reduce_fn)


def popularity(
    list_UK: Lists,
    k: int,
    value_V: Real[np.ndarray, " V"],
    *,
    where: Where = None,
    reduce_fn: Reduction | None = mean,
) -> Float[np.ndarray, "..."]:
    """ARP@k: average popularity of recommended items, `mean_u mean_{i in L_u} value_i`.

    Yin et al., Challenging the Long Tail Recommendation, VLDB 2012.

    Args:
      list_UK, k: as of `list_counts`.
      value_V: [V] popularity of each item, such as the number of training users who consumed it.
      where: [U] which users count; None: all with an item in their list.
      reduce_fn: reduction over users taking `where=`; None keeps a value for each user.

    Returns:
      The reduced value, in the unit of `value_V`; 0 where no user counts.

    Raises:
      ValueError: as `list_counts`.

    Example:
      >>> float(popularity(np.array([[0, 1], [2, -1]]), 2, np.array([10, 4, 1])))  # (7 + 1) / 2
      4.0
    """

    def mean_value(item_BK, filled_BK):
        return (value_V[item_BK] * filled_BK).sum(1) / filled_BK.sum(1)

    return _of_lists(_first(list_UK, k, len(value_V)), where, reduce_fn, mean_value)


def self_information(users_V: Int[np.ndarray, " V"], num_users: int) -> Float[np.ndarray, " V"]:
    """[V] bits `-log2(max(n_i, 1) / U)` of the fact that a user consumed item i.

    The maximum bounds items that nobody consumed, whose self-information has no bound otherwise.

    Args:
      users_V: [V] n, training users who consumed each item.
      num_users: U, at least 1.

    Example:
      >>> self_information(np.array([8, 2, 0]), 8).tolist()
      [0.0, 2.0, 3.0]
    """
    return np.log2(num_users) - np.log2(np.maximum(users_V, 1))


def novelty(
    list_UK: Lists,
    k: int,
    users_V: Int[np.ndarray, " V"],
    num_users: int,
    *,
    where: Where = None,
    reduce_fn: Reduction | None = mean,
) -> Float[np.ndarray, "..."]:
    """Novelty@k in bits: `mean_u mean_{i in L_u} -log2 p(i)`, p(i) the share of users who know i.

    Mean self-information: Zhou et al., Solving the apparent diversity-accuracy dilemma of
    recommender systems, PNAS 2010; Vargas and Castells, RecSys 2011.

    Args:
      list_UK, k, where, reduce_fn: as of `popularity`.
      users_V, num_users: as of `self_information`.

    Returns:
      The reduced value, 0 to log2 U; 0 where no user counts.

    Raises:
      ValueError: as `list_counts`.

    Example:
      >>> float(novelty(np.array([[0, 1]]), 2, np.array([8, 2]), 8))
      1.0
    """
    bits_V = self_information(users_V, num_users)
    return popularity(list_UK, k, bits_V, where=where, reduce_fn=reduce_fn)


def diversity(
    list_UK: Lists,
    k: int,
    item_VD: Float[np.ndarray, "V D"],
    *,
    where: Where = None,
    reduce_fn: Reduction | None = mean,
) -> Float[np.ndarray, "..."]:
    """Intra-list diversity@k: the mean of `1 - cos(e_i, e_j)` over pairs of different items.

    Ziegler et al., WWW 2005, with cosine distance. With unit vectors e and n items,
    `1 - (|sum e|^2 - sum |e|^2) / (n (n - 1))`. A vector of zeros is at distance 1 from all.

    Args:
      list_UK, k: as of `list_counts`.
      item_VD: [V, D] vectors of the items.
      where, reduce_fn: as of `popularity`; users with fewer than two items never count.

    Returns:
      The reduced value, 0 to 2; 0 where no user counts, as for k = 1.

    Raises:
      ValueError: as `list_counts`.

    Example:
      >>> item_VD = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
      >>> float(diversity(np.array([[0, 1, 2]]), 3, item_VD))  # (1 + 2 + 1) / 3
      1.3333333333333333
    """
    norm_V = np.linalg.norm(item_VD, axis=1)
    scale_V = np.where(norm_V > 0, 1 / np.where(norm_V > 0, norm_V, 1), 0)

    def mean_distance(item_BK, filled_BK):
        unit_BKD = item_VD[item_BK].astype(np.float64) * (scale_V[item_BK] * filled_BK)[..., None]
        size_B = filled_BK.sum(1)
        cosines_B = (unit_BKD.sum(1) ** 2).sum(-1) - (unit_BKD**2).sum((1, 2))
        return 1 - cosines_B / (size_B * (size_B - 1))

    return _of_lists(_first(list_UK, k, len(item_VD)), where, reduce_fn, mean_distance, fewest=2)
