"""A float64 NumPy oracle of the transition counts and the teacher of V items."""

from collections.abc import Sequence

import numpy as np

from tests.oracle import History, log_softmax


def count_transitions(
    histories: Sequence[History],
    num_items: int,
    *,
    max_len: int,
    time_span: int = 1,
    decay: float = 1.0,
    symmetric: float = 0.0,
    popularity: float = 0.0,
) -> np.ndarray:
    """``C[i, j]`` [V, V]: how often j comes k = 1 to ``time_span`` steps after i.

    Each time weighs ``decay**(k - 1)``, and ``symmetric`` of it counts as j before i. Then
    ``C[i, j]`` is divided by (sum of row i, times sum of column j) to the power ``popularity``.

    Of each history only the last ``max_len`` items count.
    """
    counts_VV = np.zeros((num_items, num_items))
    for history in histories:
        kept = history[-max_len:]
        for t, item in enumerate(kept):
            for step, successor in enumerate(kept[t + 1 : t + 1 + time_span]):
                counts_VV[item, successor] += decay**step
                counts_VV[successor, item] += symmetric * decay**step
    damped_VV = counts_VV.copy()
    for i, j in zip(*np.nonzero(counts_VV), strict=True):
        damped_VV[i, j] /= (counts_VV[i].sum() * counts_VV[:, j].sum()) ** popularity
    return damped_VV


def multi_step(counts_VV: np.ndarray, steps: int, decay: float) -> np.ndarray:
    """[V, V] transitions, and ``decay**(k - 1)`` of the paths of k = 2 to ``steps`` of them.

    A path goes on from item i to j with probability ``C_ij / sum_j C_ij``, and stops where it
    comes back to the item it began with.
    """
    total_VV = counts_VV.copy()
    for first, counts_V in enumerate(counts_VV):
        reached_V = counts_V
        for step in range(1, steps):
            further_V = np.zeros(len(counts_V))
            for item in np.flatnonzero(reached_V):
                if counts_VV[item].any():
                    further_V += reached_V[item] * counts_VV[item] / counts_VV[item].sum()
            further_V[first] = 0
            total_VV[first] += decay**step * further_V
            reached_V = further_V
    return total_VV


def teacher_probabilities(counts_VV: np.ndarray, tau: float) -> np.ndarray:
    """``p_T(j|i) = softmax_j(w_ij / tau)`` [V, V] over all items, those without a count included.

    ``w_ij = C_ij / max_j C_ij``, and 0 in rows without counts.
    """
    teacher_VV = np.empty(counts_VV.shape, np.float64)
    for item, counts_V in enumerate(np.asarray(counts_VV, np.float64)):
        largest = counts_V.max()
        weights_V = counts_V / largest if largest > 0 else counts_V
        teacher_VV[item] = np.exp(log_softmax(weights_V / tau))
    return teacher_VV
