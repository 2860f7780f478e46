"""What lists and ranks of all users tell beyond their mean accuracy: list metrics, user groups."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mqsa_jax.data import splits
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.user_groups import cold_targets, lengths_before_target, quantile_groups
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.losses import list_metrics
from mqsa_jax.losses.metrics import CUTOFFS, summarise

LENGTH_GROUPS = 4
"""Groups of users by the length of their history, at most: quartiles."""
NO_VECTORS = "a counted model has no item vectors"


@dataclasses.dataclass(frozen=True)
class Figures:
    """What an evaluation works out of its ranking."""

    cutoffs: tuple[int, ...] = CUTOFFS
    """K of HR@K, NDCG@K and the list metrics, each once, ascending."""
    beyond_accuracy: bool = False
    """Whether lists are made too, for `beyond_accuracy`."""

    @property
    def longest(self) -> int | None:
        """Items of a list; None where no lists are made."""
        return self.cutoffs[-1] if self.beyond_accuracy else None


def beyond_accuracy(
    data: Dataset,
    protocol: Protocol,
    max_len: int,
    rank_U: Float[np.ndarray, " U"],
    list_UK: Int[np.ndarray, "U K"],
    item_VD: Float[np.ndarray, "V D"] | None,
    cutoffs: Sequence[int],
) -> dict[str, Any]:
    """Metrics of the lists at each cutoff, and accuracy by cold targets and length of history.

    Args:
      data: in memory or streamed.
      protocol: of the ranking.
      max_len: training items of a user that count, the most recent ones.
      rank_U: [U] rank of each user's target.
      list_UK: [U, K] items of each user's list, best first; -1 behind the last.
      item_VD: [V, D] vectors of the items, for the diversity; None: it is left out.
      cutoffs: K at most each.

    Returns:
      By name: `coverage@K`, `novelty@K` in bits, `popularity@K` in training users, `gini@K`,
      `diversity@K` from two items on; `users_with_a_list`; `cold_targets` and `warm_targets`, a
      number of `users` and their HR, NDCG and MRR if there are any; and `history_lengths`, the same
      for each group. The formulas are those of `mqsa_jax.losses.list_metrics`.
    """
    users_V = splits.user_counts(data, max_len)
    result: dict[str, Any] = {"users_with_a_list": int((list_UK[:, 0] >= 0).sum())}
    for k in cutoffs:
        shown_V = list_metrics.list_counts(list_UK, k, data.num_items)
        result[f"coverage@{k}"] = list_metrics.coverage(list_UK, k, data.num_items)
        result[f"novelty@{k}"] = float(list_metrics.novelty(list_UK, k, users_V, data.num_users))
        result[f"popularity@{k}"] = float(list_metrics.popularity(list_UK, k, users_V))
        result[f"gini@{k}"] = list_metrics.gini(shown_V)
        if item_VD is not None and k > 1:
            result[f"diversity@{k}"] = float(list_metrics.diversity(list_UK, k, item_VD))
    if item_VD is None:
        result["diversity_left_out"] = NO_VECTORS
    cold_U = cold_targets(data, protocol.split, max_len, protocol.sample)
    result["cold_targets"] = _metrics_of(rank_U, cold_U, cutoffs)
    result["warm_targets"] = _metrics_of(rank_U, ~cold_U, cutoffs)
    length_U = lengths_before_target(data, protocol.split, protocol.sample)
    names, group_U = quantile_groups(length_U, LENGTH_GROUPS)
    result["history_lengths"] = {
        name: _metrics_of(rank_U, group_U == group, cutoffs) for group, name in enumerate(names)
    }
    return result


def _metrics_of(
    rank_U: np.ndarray, where_U: np.ndarray, cutoffs: Sequence[int]
) -> dict[str, int | float]:
    """Number of users of a group, and their metrics if there are any."""
    users = int(where_U.sum())
    return {"users": users, **(summarise(rank_U[where_U], cutoffs) if users else {})}
