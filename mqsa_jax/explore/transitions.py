"""What the training transitions tell of a history: the teacher's list, and what leads to an item.

Shape legend: V items, T items of a history, M transitions from one item.
"""

import functools

import jax.numpy as jnp
import numpy as np
import scipy.sparse

from mqsa_jax.losses.teacher import teacher_rows

LEAST_ROOM = 16
"""Room for that many transitions from an item at least, so that few programs are compiled."""


class Transitions:
    """Transition counts as lists, probabilities and links."""

    def __init__(self, matrix: scipy.sparse.csr_array, tau: float):
        """Takes [V, V] counts, and the temperature of the teacher."""
        self._matrix, self._tau = matrix, tau
        self.probabilities = functools.lru_cache(maxsize=4)(self._probabilities)
        """float64 [V] the teacher's p(j | item); kept, since a moved slider asks for the same."""

    def followers(self, item: int) -> np.ndarray:
        """Ascending indices of the items that ever followed one."""
        return np.unique(self._row(item)[0])

    def _probabilities(self, item: int) -> np.ndarray:
        successor_M, count_M = self._row(item)
        room = max(1 << max(len(successor_M) - 1, 0).bit_length(), LEAST_ROOM)
        behind = (0, room - len(successor_M))
        successor_M = np.pad(successor_M, behind).astype(np.int32)
        rows = teacher_rows(
            jnp.array([item], jnp.int32),
            jnp.zeros(room, jnp.int32),
            jnp.asarray(successor_M),
            jnp.asarray(np.pad(count_M, behind), jnp.float32),
            self._matrix.shape[0],
            self._tau,
        )
        probability_V = np.full(self._matrix.shape[0], float(rows.base[0]))
        np.add.at(probability_V, successor_M, np.asarray(rows.bump, np.float64))
        return probability_V

    def into(self, item: int, history_T: np.ndarray) -> list[dict[str, int | float]]:
        """Transitions from the items of a history into one, the most probable first.

        Returns:
          For each `item` that it starts at, its weighted `count` in training, and the `share` of
          that in all counts from the same item.
        """
        from_N = np.unique(history_T)
        rows = self._matrix[from_N]
        count_N = rows[:, [item]].toarray()[:, 0]
        share_N = count_N / np.maximum(rows.sum(axis=1), np.finfo(np.float64).tiny)
        return [
            {"item": int(from_N[n]), "count": float(count_N[n]), "share": float(share_N[n])}
            for n in np.argsort(-share_N, kind="stable")
            if count_N[n] > 0
        ]

    def _row(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        begin, end = self._matrix.indptr[item : item + 2]
        return self._matrix.indices[begin:end], self._matrix.data[begin:end]
