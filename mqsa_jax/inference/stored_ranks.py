"""The ranks that a run's test gave its users, and other arrays in its folder.

Shape legend: U users.
"""

from pathlib import Path

import numpy as np

from mqsa_jax.errors import UserError
from mqsa_jax.losses.metrics import ndcg
from mqsa_jax.runs.files import ARRAY_ERRORS

RANKS = "ranks.npz"
TOLERANCE = 1e-5
"""Allowed difference of NDCG@20 from the ranks and in the result file, a float32 mean."""


def ndcg_at_20(rank_U: np.ndarray) -> np.ndarray:
    """[U] NDCG@20 of each user; 0 for infinite ranks.

    >>> ndcg_at_20(np.array([1.0, 3.0, 21.0, np.inf])).tolist()
    [1.0, 0.5, 0.0, 0.0]
    """
    return ndcg(np.asarray(rank_U, np.float64), 20, reduce_fn=None)


def has_array(folder: Path, file: str, name: str) -> bool:
    """Whether a run's file holds an array; True for a broken file, so that loading reports it."""
    if not (folder / file).is_file():
        return False
    try:
        with np.load(folder / file, allow_pickle=False) as stored:
            return name in stored.files
    except ARRAY_ERRORS:
        return True


def load_array(folder: Path, file: str, name: str) -> np.ndarray:
    """An array of a run's file. Raises UserError if it cannot be read."""
    path = folder / file
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored[name]
    except ARRAY_ERRORS as error:
        raise UserError(f"{path}: array {name} is not readable ({error}); restore it") from None


def load_ranks(folder: Path, result: str, expected: float) -> tuple[np.ndarray, np.ndarray]:
    """[U] user ids and [U] float64 ranks in the test; infinite for targets never recommended.

    Args:
      folder: of a run.
      result: `test`, or another result beside it.
      expected: its NDCG@20 in the result file.

    Raises:
      UserError: if the file is broken, or its ranks do not give that NDCG@20.
    """
    user_U = load_array(folder, RANKS, "user_ids")
    rank_U = load_array(folder, RANKS, result).astype(np.float64)
    mean = ndcg_at_20(rank_U).mean() if rank_U.shape == user_U.shape else np.nan
    if not abs(mean - expected) <= TOLERANCE:
        raise UserError(
            f"{folder / RANKS}: not the ranks of {result}_metrics.json beside it; evaluate the run "
            "again to make both anew"
        )
    return user_U, rank_U
