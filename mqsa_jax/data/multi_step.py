"""Paths of several transitions, as sparse counts: computed once, on the host."""

import numpy as np
import scipy.sparse

from mqsa_jax.data.sparse_rows import largest_of_rows
from mqsa_jax.data.transitions import TransitionCounts

BLOCK = 256
"""Rows whose products are formed before they are pruned."""


def multi_step(
    counts: TransitionCounts, steps: int, decay: float = 1.0, *, keep: int = 64
) -> TransitionCounts:
    r"""Adds the paths of 2 to `steps` transitions to the transitions themselves.

        C + decay C^(2) + decay^2 C^(3) + ...,   C^(1) = C,   C^(k + 1) = C^(k) P without diagonal,
        P_ij = C_ij / sum_j C_ij

    C^(k)_ij is how often item j is expected k transitions after item i, if each transition depends
    on the item before it alone. So a term weighs the same against the transitions in every row.
    A path ends where it comes back to its first item. No transition is dropped; of each further
    term only the largest entries of each row are kept, before the next is formed from it.

    Not under jit: how many items lie within reach is known only once they are found.

    Args:
      counts: transition counts, [V, V].
      steps: transitions of the longest path, at least 1; 1 returns `counts` unchanged.
      decay: weight of one more transition, above 0 and at most 1.
      keep: entries of each term that a row keeps at most, at least 1; of equal ones, the smaller j.

    Returns:
      Counts with at most `(steps - 1) * keep` more entries in a row.

    Example:
      >>> import jax.numpy as jnp
      >>> from mqsa_jax.data.transitions import count_transitions
      >>> items, segments = jnp.array([0, 1, 0, 1, 1, 2]), jnp.array([0, 0, 1, 1, 2, 2])
      >>> counts = count_transitions(items, segments, 3)  # 0 > 1 twice, 1 > 2
      >>> multi_step(counts, 2, decay=0.5).to_scipy().todense().tolist()
      [[0.0, 2.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    if steps == 1:
        return counts
    term = total = counts.to_scipy().astype(np.float64)
    sum_V = total.sum(axis=1)
    row_V = np.repeat(1 / np.where(sum_V > 0, sum_V, 1), np.diff(total.indptr))
    step = scipy.sparse.csr_array((total.data * row_V, total.indices, total.indptr), total.shape)
    for power in range(1, steps):
        blocks = [
            _largest(term[begin : begin + BLOCK] @ step, begin, keep)
            for begin in range(0, counts.num_items, BLOCK)
        ]
        term = scipy.sparse.vstack(blocks, format="csr")
        total = total + decay**power * term
    return TransitionCounts.from_scipy(total)


def _largest(rows: scipy.sparse.csr_array, begin: int, keep: int) -> scipy.sparse.csr_array:
    """The `keep` largest entries of each row off the diagonal; row 0 is row `begin` of all."""
    row_M, column_M = rows.tocoo().coords
    value_M = np.where(row_M + begin == column_M, 0, rows.data)
    # Finding each row's least kept value takes linear time, and leaves little to sort.
    least_R = np.array(
        [
            np.partition(value, -keep)[-keep] if len(value) > keep else 0
            for value in np.split(value_M, rows.indptr[1:-1])
        ]
    )
    likely_M = (value_M > 0) & (value_M >= least_R[row_M])
    row_M, column_M, value_M, _ = largest_of_rows(
        row_M[likely_M], column_M[likely_M], value_M[likely_M], keep
    )
    return scipy.sparse.csr_array((value_M, (row_M, column_M)), shape=rows.shape)
