"""The largest entries of each row of a sparse matrix, on the host."""

import numpy as np


def largest_of_rows(
    row_M: np.ndarray, column_M: np.ndarray, value_M: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """At most `width` entries of each row, the largest; of equal ones those of smaller column.

    Args:
      row_M, column_M, value_M: [M] the entries, in any order.
      width: at least 1.

    Returns:
      Their rows, columns and values, by row and the largest first, and each one's place in its row.
    """
    order_M = np.lexsort((column_M, -value_M, row_M))
    row_M, column_M, value_M = row_M[order_M], column_M[order_M], value_M[order_M]
    place_M = np.arange(row_M.size) - np.searchsorted(row_M, row_M)
    kept_M = place_M < width
    return row_M[kept_M], column_M[kept_M], value_M[kept_M], place_M[kept_M]
