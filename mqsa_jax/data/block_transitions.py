"""Transition counts of a stream: summed over its blocks, in one pass, on the host.

What is in memory is the counts themselves, about twice, and one block.
"""

from collections.abc import Iterable

import numpy as np
import scipy.sparse

from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.errors import UserError


def count_block_transitions(
    blocks: Iterable[Histories],
    num_items: int,
    max_len: int,
    *,
    time_span: int = 1,
    decay: float = 1.0,
    symmetric: float = 0.0,
    popularity: float = 0.0,
) -> scipy.sparse.csr_array:
    """What `training_transitions` counts of the same histories in one piece.

    Equal where all weights are whole numbers; elsewhere equal but for rounding, since the sums are
    float64 here.

    Args:
      blocks: the data.
      num_items: V.
      max_len: items of a history that count.
      time_span, decay, symmetric, popularity: those of `count_transitions`.

    Returns:
      [V, V] float64, columns ascending.

    Raises:
      UserError: if there are more distinct pairs than 32-bit row starts can tell.
    """
    total = _Sum(num_items)
    for block in blocks:
        owner_N, source_N = splits.recent(block, "train", max_len).flat_index()
        item_N = block.items[source_N]
        for step in range(1, min(time_span, item_N.size - 1) + 1):
            same = owner_N[step:] == owner_N[:-step]
            total.add(item_N[:-step][same], item_N[step:][same], decay ** (step - 1))
    counts = total.result()
    if symmetric:
        counts = (counts + symmetric * counts.T).tocsr()
    if counts.nnz > np.iinfo(np.int32).max:
        raise UserError(
            f"{counts.nnz} distinct transitions are more than {np.iinfo(np.int32).max}; lower "
            "{time_span}, or prepare the data with a higher least number of events an item"
        )
    counts.sort_indices()
    if popularity:
        row_V, column_V = counts.sum(axis=1), counts.sum(axis=0)
        row_M = np.repeat(np.arange(num_items), np.diff(counts.indptr))
        counts.data /= (row_V[row_M] * column_V[counts.indices]) ** popularity
    return counts


class _Sum:
    """The sum of many sparse matrices [V, V].

    Each is merged with a sum of about its own size, so that an entry takes part in about as many
    additions as the number of matrices has binary digits.
    """

    def __init__(self, num_items: int):
        self._shape = (num_items, num_items)
        self._parts: list[scipy.sparse.csr_array] = []

    def add(self, from_P: np.ndarray, to_P: np.ndarray, weight: float) -> None:
        """Adds a weight to each of P entries, which may be the same."""
        entries = (np.full(from_P.size, weight), (from_P, to_P))
        part = scipy.sparse.csr_array(entries, shape=self._shape)
        part.sum_duplicates()
        while self._parts and self._parts[-1].nnz <= 2 * part.nnz:
            part = self._parts.pop() + part
        self._parts.append(part)

    def result(self) -> scipy.sparse.csr_array:
        total = scipy.sparse.csr_array(self._shape, dtype=np.float64)
        while self._parts:
            total = total + self._parts.pop()
        return total
