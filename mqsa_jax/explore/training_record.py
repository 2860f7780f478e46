"""How a run was trained and tested: curves by epoch, test figures, and where it is good.

Shape legend: U users, G groups.
"""

from typing import Any

import numpy as np

from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.user_groups import Groups
from mqsa_jax.errors import UserError
from mqsa_jax.reporting.charts import BREAKDOWN_AXES
from mqsa_jax.reporting.results import load_run
from mqsa_jax.reporting.user_statistics import (
    group_means,
    load_ranks,
    ndcg_at_20,
    popularity_groups,
    transition_counts,
    transition_groups,
)
from mqsa_jax.runs.history import best_epoch
from mqsa_jax.runs.run_directory import RunDirectory


def training_record(
    run_dir: RunDirectory, histories: Histories | None, max_len: int
) -> dict[str, Any]:
    """What the page shows of a run's training.

    Args:
      run_dir: the run's folder.
      histories: its data, in memory; None: not at hand.
      max_len: items of a history that training reads.

    Returns:
      `epochs`, lines of numbers; `best`, the best epoch; `test`, figures by name, or None before
      the test; `breakdown`, mean test NDCG@20 by groups of users; `missing`, why there is none.
    """
    history = run_dir.history()
    epochs = [
        {name: value for name, value in line.items() if isinstance(value, int | float)}
        for line in history
    ]
    test, breakdown, missing = None, [], None
    try:
        results = {run.result: run for run in load_run(run_dir.path)}
        run = results.get("test")
        if run is None:
            raise UserError("the run has no test result; evaluate it")
        test = {name: value for name, value in run.test.items() if _is_figure(name, value)}
        if histories is None:
            raise UserError("the breakdown needs the run's data")
        if histories.cuts is not None:
            raise UserError("data split by time have no breakdown")
        user_U, rank_U = load_ranks(run)
        if not np.array_equal(user_U, histories.user_ids):
            raise UserError(f"{run_dir.path / 'ranks.npz'}: of other users than the data's")
        ndcg_U = ndcg_at_20(rank_U)
        breakdown = [
            _by_group(kind, groups, ndcg_U) for kind, groups in _groups(histories, max_len).items()
        ]
    except UserError as error:
        missing = str(error)
    return {
        "epochs": epochs,
        "best": best_epoch(history),
        "test": test,
        "breakdown": breakdown,
        "missing": missing,
    }


def _groups(histories: Histories, max_len: int) -> dict[str, Groups]:
    count_V = splits.item_counts(histories, max_len)
    return {
        "transition": transition_groups(transition_counts(histories, max_len)),
        "popularity": popularity_groups(count_V[splits.targets(histories, "test")]),
    }


def _by_group(kind: str, groups: Groups, ndcg_U: np.ndarray) -> dict[str, Any]:
    """Mean NDCG@20, and number of users, of each group."""
    names, group_U = groups
    return {
        "title": BREAKDOWN_AXES[kind],
        "groups": names,
        "users": np.bincount(group_U, minlength=len(names)).tolist(),
        "ndcg": group_means(ndcg_U, group_U, len(names)),
    }


def _is_figure(name: str, value: Any) -> bool:
    return name.startswith(("HR@", "NDCG@", "MRR")) and isinstance(value, int | float)
