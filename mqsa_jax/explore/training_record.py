"""How a run was trained and tested: curves by epoch, test figures, and where it is good.

Shape legend: U users, G groups.
"""

from typing import Any

import numpy as np

from mqsa_jax.data.breakdown import BREAKDOWN_TITLES, breakdown_groups, group_means
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.user_groups import Groups
from mqsa_jax.errors import UserError
from mqsa_jax.inference.stored_ranks import RANKS, load_ranks, ndcg_at_20
from mqsa_jax.runs.files import read_json
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
        result = _test_result(run_dir)
        test = {name: value for name, value in result.items() if _is_figure(name, value)}
        breakdown = _breakdown(run_dir, result["NDCG@20"], histories, max_len)
    except UserError as error:
        missing = str(error)
    return {
        "epochs": epochs,
        "best": best_epoch(history),
        "test": test,
        "breakdown": breakdown,
        "missing": missing,
    }


def _test_result(run_dir: RunDirectory) -> dict[str, Any]:
    """The test's result; UserError if there is none, or it is broken."""
    path = run_dir.path / "test_metrics.json"
    if not path.exists():
        raise UserError("the run has no test result; evaluate it")
    result = read_json(path)
    if not isinstance(result, dict) or not isinstance(result.get("NDCG@20"), float):
        raise UserError(f"{path}: lacks NDCG@20; delete it, and evaluate the run again")
    return result


def _breakdown(
    run_dir: RunDirectory, ndcg: float, histories: Histories | None, max_len: int
) -> list[dict[str, Any]]:
    """Test NDCG@20 by groups of users; UserError if there is none."""
    if histories is None:
        raise UserError("the breakdown needs the run's data")
    if histories.cuts is not None:
        raise UserError("data split by time have no breakdown")
    user_U, rank_U = load_ranks(run_dir.path, "test", ndcg)
    if not np.array_equal(user_U, histories.user_ids):
        raise UserError(f"{run_dir.path / RANKS}: of other users than the data's")
    ndcg_U = ndcg_at_20(rank_U)
    groups = breakdown_groups(histories, max_len)
    return [_by_group(kind, each, ndcg_U) for kind, each in groups.items()]


def _by_group(kind: str, groups: Groups, ndcg_U: np.ndarray) -> dict[str, Any]:
    """Mean NDCG@20, and number of users, of each group."""
    names, group_U = groups
    return {
        "title": BREAKDOWN_TITLES[kind],
        "groups": names,
        "users": np.bincount(group_U, minlength=len(names)).tolist(),
        "ndcg": group_means(ndcg_U, group_U, len(names)),
    }


def _is_figure(name: str, value: Any) -> bool:
    return name.startswith(("HR@", "NDCG@", "MRR")) and isinstance(value, int | float)
