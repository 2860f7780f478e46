"""The largest entries of the rows of a sparse matrix."""

import numpy as np
import pytest

from mqsa_jax.data.transitions import largest_of_rows


def test_example():
    row = np.array([2, 0, 0, 2, 0])
    column = np.array([1, 4, 3, 0, 9])
    value = np.array([1.0, 5.0, 5.0, 7.0, 6.0])
    rows, columns, values, ranks = largest_of_rows(row, column, value, 2)
    assert rows.tolist() == [0, 0, 2, 2]
    assert columns.tolist() == [9, 3, 0, 1]  # of 3 and 4, which tie, the smaller
    assert values.tolist() == [6.0, 5.0, 7.0, 1.0]
    assert ranks.tolist() == [0, 1, 0, 1]


def test_no_entries():
    nothing = np.zeros(0, np.int64)
    assert [part.size for part in largest_of_rows(nothing, nothing, np.zeros(0), 3)] == [0] * 4


@pytest.mark.parametrize("width", [0, -1])
def test_a_width_below_1_is_refused(width):
    with pytest.raises(ValueError, match="width must be at least 1"):
        largest_of_rows(np.zeros(1, int), np.zeros(1, int), np.ones(1), width)
