"""Users' ranks of a run, and a metric from them by NumPy."""

import zipfile

import numpy as np

from mqsa_jax.errors import UserError
from mqsa_jax.reporting.results import Run

TOLERANCE = 1e-5
"""By which NDCG@20 from the ranks may differ from that of test_metrics.json, a float32 mean."""


def ndcg(rank_U: np.ndarray, k: int = 20) -> np.ndarray:
    """[U] NDCG@K of each user: 1 / log2(1 + rank) up to rank K, else 0.

    >>> ndcg(np.array([1.0, 3.0, 21.0])).tolist()
    [1.0, 0.5, 0.0]
    """
    rank_U = np.asarray(rank_U, np.float64)
    return np.where(rank_U <= k, 1 / np.log2(1 + rank_U), 0.0)


def has_array(run: Run, file: str, name: str) -> bool:
    """Whether a run's file holds an array; a broken file counts as if it did, to be told of."""
    try:
        with np.load(run.folder / file, allow_pickle=False) as stored:
            return name in stored.files
    except (OSError, ValueError, zipfile.BadZipFile):
        return True


def load_array(run: Run, file: str, name: str) -> np.ndarray:
    """An array of a run's file. Raises UserError if it cannot be read."""
    path = run.folder / file
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored[name]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: no array {name} to be read ({error}); restore it") from None


def load_ranks(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """[U] user ids and [U] float64 ranks in the test.

    Raises:
      UserError: if the file is broken, or not of the run's test result.
    """
    user_U = load_array(run, "ranks.npz", "user_ids")
    rank_U = load_array(run, "ranks.npz", "test").astype(np.float64)
    stated = run.test["NDCG@20"]
    if rank_U.shape != user_U.shape or abs(ndcg(rank_U).mean() - stated) > TOLERANCE:
        raise UserError(
            f"{run.folder / 'ranks.npz'}: not the ranks of test_metrics.json beside it; "
            "make both anew with eval.py"
        )
    return user_U, rank_U
