"""A run's history, a line of numbers an epoch: what is best in it, and whether more is to come."""

import math
from typing import Any

import numpy as np

from mqsa_jax.losses.metrics import summarise

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


DIVERGED = 10.0
"""Ranking loss of an epoch, in units of that of guessing, from which training has diverged.

Initial scores are all but equal, so that training begins at the loss of guessing, log(V + 1) with
the padding class, and reduces it; even a learning rate that is too high for learning anything stays
near it. The ranking loss alone is compared: l2, distillation (logits are divided by tau) and graph
regularisation may be large in a run that ranks well.
"""


def losses_line(losses: Any, step: int, num_items: int) -> dict[str, Any]:
    """Step and mean losses of an epoch.

    Args:
      losses: `training.step.Losses` of every step [steps], NumPy arrays.
      step: steps done at its end, since training began.
      num_items: V.

    Raises:
      FloatingPointError: naming the step, if a loss is not a number, or if training has diverged.
    """
    wrong = np.flatnonzero(~np.isfinite(losses.loss))
    if wrong.size:
        first = step - losses.loss.size + int(wrong[0]) + 1
        raise FloatingPointError(f"the loss of step {first} is {losses.loss[wrong[0]]}")
    means = {name: float(getattr(losses, name).mean()) for name in ("loss", "loss_rec", "loss_kd")}
    guessing = math.log(num_items + 1)
    if means["loss_rec"] > DIVERGED * guessing:
        raise FloatingPointError(
            f"training has diverged by step {step}: the mean ranking loss of the epoch is "
            f"{means['loss_rec']:.4g}, that of guessing {guessing:.4g}"
        )
    return {"step": step, **means}


def metrics_line(split: str, ranks_U: np.ndarray) -> dict[str, float]:
    """What the ranks of all users [U] come to, named after the split: `valid_NDCG@20`."""
    return {f"{split}_{name}": value for name, value in summarise(ranks_U).items()}
