"""A run's history, a line of numbers an epoch: what is best in it, and whether more is to come."""

import math
from typing import Any

STOPPING_METRIC = "valid_NDCG@20"


def best_epoch(history: list[dict[str, Any]]) -> int:
    """The first epoch of the best validation NDCG@20; 0 before the first."""
    best = max(history, key=lambda line: line[STOPPING_METRIC], default={"epoch": 0})
    return best["epoch"]


def is_finished(history: list[dict[str, Any]], epochs: int, patience: int) -> bool:
    """Whether all epochs are done, or `patience` of them brought nothing better."""
    done = len(history)
    return done >= epochs or done - best_epoch(history) >= patience


def with_no_better(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The history with one more epoch, not known yet, as if it brought nothing better."""
    return [*history, {"epoch": len(history) + 1, STOPPING_METRIC: -math.inf}]
