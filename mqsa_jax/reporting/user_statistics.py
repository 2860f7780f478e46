"""What the ranks and lists of a run's users tell: NDCG by groups of users, list statistics.

Shape legend: U users, V items, G groups, K items of a list.
"""

import numpy as np

from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.transitions import training_transitions
from mqsa_jax.data.user_groups import Groups, quantile_groups
from mqsa_jax.errors import UserError
from mqsa_jax.losses.list_metrics import gini
from mqsa_jax.losses.metrics import ndcg
from mqsa_jax.reporting.results import Run
from mqsa_jax.runs.files import ARRAY_ERRORS

TOLERANCE = 1e-5
"""Allowed difference of NDCG@20 from the ranks and in the result file, a float32 mean."""
TRANSITION_GROUPS = ((0, 0), (1, 1), (2, 2), (3, 5), (6, None))
"""First and last count of each group; None is no limit."""
NUM_POPULARITY_GROUPS = 5


def ndcg_at_20(rank_U: np.ndarray) -> np.ndarray:
    """[U] NDCG@20 of each user; 0 for infinite ranks.

    >>> ndcg_at_20(np.array([1.0, 3.0, 21.0, np.inf])).tolist()
    [1.0, 0.5, 0.0, 0.0]
    """
    return ndcg(np.asarray(rank_U, np.float64), 20, reduce_fn=None)


def log_rank(rank_U: np.ndarray, num_items: int) -> np.ndarray:
    """[U] log2 of the rank.

    A target that can never be recommended has an infinite rank. It counts as rank V + 1, behind
    every item, so that means and differences stay finite.

    >>> log_rank(np.array([1.0, 4.0, np.inf]), num_items=7).tolist()
    [0.0, 2.0, 3.0]
    """
    return np.log2(np.where(np.isposinf(rank_U), num_items + 1.0, rank_U))


def has_array(run: Run, file: str, name: str) -> bool:
    """Whether a run's file holds an array; True for a broken file, so that loading reports it."""
    if not (run.folder / file).is_file():
        return False
    try:
        with np.load(run.folder / file, allow_pickle=False) as stored:
            return name in stored.files
    except ARRAY_ERRORS:
        return True


def load_array(run: Run, file: str, name: str) -> np.ndarray:
    """An array of a run's file. Raises UserError if it cannot be read."""
    path = run.folder / file
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored[name]
    except ARRAY_ERRORS as error:
        raise UserError(f"{path}: array {name} is not readable ({error}); restore it") from None


def load_ranks(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """[U] user ids and [U] float64 ranks in the test; infinite for targets never recommended.

    Raises:
      UserError: if the file is broken, or its ranks do not give the run's NDCG@20.
    """
    user_U = load_array(run, "ranks.npz", "user_ids")
    rank_U = load_array(run, "ranks.npz", run.result).astype(np.float64)
    mean = ndcg_at_20(rank_U).mean() if rank_U.shape == user_U.shape else np.nan
    if not abs(mean - run.test["NDCG@20"]) <= TOLERANCE:
        raise UserError(
            f"{run.folder / 'ranks.npz'}: not the ranks of {run.result}_metrics.json beside it; "
            "evaluate the run again to make both anew"
        )
    return user_U, rank_U


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
