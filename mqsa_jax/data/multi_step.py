"""Transition counts extended by paths of several transitions; on the host."""

import numpy as np
import scipy.sparse

from mqsa_jax.data.transitions import TransitionCounts, largest_of_rows

BLOCK = 256
"""Rows whose products are formed at a time, before their smaller entries are dropped."""


def multi_step(
    counts: TransitionCounts, steps: int, decay: float = 1.0, *, keep: int = 64
) -> TransitionCounts:
    r"""Adds the paths of 2 to `steps` transitions to the transitions themselves.

        C + decay C^(2) + decay^2 C^(3) + ...,   C^(1) = C,   C^(k + 1) = C^(k) P without diagonal,
        P_ij = C_ij / sum_j C_ij

    C^(k)_ij is how often item j is expected k transitions after item i, if each transition depends
    only on the item before it. So a term has the same weight relative to C in every row. A path
    ends where it returns to its first item. All transitions are kept; of each further term only the
    largest entries of each row are, before the next term is formed from it.

    Not under jit: the number of entries depends on the counts.

    Args:
      counts: transition counts, [V, V].
      steps: transitions of the longest path, at least 1; 1 returns `counts` unchanged.
      decay: weight of one more transition, above 0 and at most 1.
      keep: most entries of each term in a row, at least 1; of equal ones, those of smaller j.

    Returns:
      Counts with at most `(steps - 1) * keep` more entries in a row.

    Raises:
      ValueError: if an argument is outside its range, or counts are NaN.

    Example:
      >>> import jax.numpy as jnp
      >>> from mqsa_jax.data.transitions import count_transitions
      >>> items, segments = jnp.array([0, 1, 0, 1, 1, 2]), jnp.array([0, 0, 1, 1, 2, 2])
      >>> counts = count_transitions(items, segments, 3)  # 0 > 1 twice, 1 > 2
      >>> multi_step(counts, 2, decay=0.5).to_scipy().todense().tolist()
      [[0.0, 2.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    if steps < 1 or keep < 1:
        raise ValueError(f"steps and keep must be at least 1, but are {steps} and {keep}")
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be above 0 and at most 1, but is {decay}")
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
    # Finding the smallest kept value of each row takes linear time, and leaves few to sort.
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
