"""Packing histories into rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqsa_jax.data.packing import best_fit, pack, ragged, round_up
from mqsa_jax.data.splits import Slices

quick = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def lengths(draw):
    """Lengths [G, B] and the row length."""
    row_length = draw(st.integers(1, 12))
    groups, slots = draw(st.integers(1, 3)), draw(st.integers(1, 15))
    values = st.lists(st.integers(0, row_length), min_size=groups * slots, max_size=groups * slots)
    return np.array(draw(values)).reshape(groups, slots), row_length


def naive_best_fit(length_B, row_length):
    """Longest first, each into the fullest row that has room, else into a new one."""
    rows, row_of = [], {}
    for slot in sorted(range(len(length_B)), key=lambda slot: -length_B[slot]):
        fitting = [row for row in range(len(rows)) if rows[row] + length_B[slot] <= row_length]
        if not fitting:
            rows.append(0)
            fitting = [len(rows) - 1]
        row_of[slot] = max(fitting, key=lambda row: rows[row])
        rows[row_of[slot]] += length_B[slot]
    return [row_of[slot] for slot in range(len(length_B))]


@quick
@given(lengths())
def test_rows_never_overflow_and_histories_never_overlap(case):
    length_GB, row_length = case
    row_GB, column_GB = best_fit(length_GB, row_length)
    for length_B, row_B, column_B in zip(length_GB, row_GB, column_GB, strict=True):
        taken = np.zeros((len(length_B), row_length), int)
        for length, row, column in zip(length_B, row_B, column_B, strict=True):
            if length:
                assert 0 <= column <= row_length - length
                taken[row, column : column + length] += 1
        assert taken.max(initial=0) <= 1
        used = taken.any(1)
        # Rows are used from 0 up, each from column 0 up.
        assert not (used[1:] & ~used[:-1]).any()
        assert (np.diff(taken, axis=1) <= 0).all()


@quick
@given(lengths())
def test_agrees_with_best_fit_in_plain_python(case):
    length_GB, row_length = case
    row_GB, _ = best_fit(length_GB, row_length)
    for length_B, row_B in zip(length_GB, row_GB, strict=True):
        expected = np.array(naive_best_fit(length_B.tolist(), row_length))
        np.testing.assert_array_equal(row_B[length_B > 0], expected[length_B > 0])


def test_an_example():
    row, column = best_fit(np.array([[3, 5, 2, 4], [7, 7, 0, 7]]), 7)
    assert row.tolist()[0] == [1, 0, 0, 1]
    assert column.tolist()[0] == [4, 0, 5, 0]
    assert [row[1][slot] for slot in (0, 1, 3)] == [0, 1, 2]


def test_the_fullest_row_with_room_is_chosen():
    # 9; 7 and 5, which leaves room 1 in the second row and 4 in the first: there the 1 fits best.
    row, column = best_fit(np.array([[9, 7, 5, 1]]), 13)
    assert row.tolist() == [[0, 1, 1, 1]]
    assert column.tolist() == [[0, 0, 7, 12]]


@pytest.mark.parametrize("slots", [16, 256])
def test_short_histories_take_hardly_more_rows_than_they_fill(slots):
    rng = np.random.default_rng(0)
    length_GB = np.minimum(rng.geometric(1 / 7, (20, slots)), 50)
    row_GB, _ = best_fit(length_GB, 50)
    fewest = -(-length_GB.sum(1) // 50)
    assert (row_GB.max(1) + 1 <= fewest + 1).all()


@st.composite
def slices(draw):
    """Slices [G, B] of 40 items, at most `row_length` long, with segment numbers."""
    row_length = draw(st.integers(1, 9))
    groups, slots = draw(st.integers(1, 3)), draw(st.integers(1, 8))
    length = draw(
        st.lists(st.integers(0, row_length), min_size=groups * slots, max_size=groups * slots)
    )
    begin = [draw(st.integers(0, 40 - each)) for each in length]
    begin, length = (np.array(each).reshape(groups, slots) for each in (begin, length))
    segment = np.array(
        [draw(st.permutations(range(3 * slots)))[:slots] for _ in range(groups)], np.int64
    )
    return Slices(begin, begin + length), segment, row_length


ITEMS = np.random.default_rng(0).integers(0, 1000, 40)


@quick
@given(slices(), st.sampled_from([None, 1, 5]))
def test_every_history_can_be_unpacked(case, num_rows):
    slices_GB, segment_ids_GB, row_length = case
    rows = pack(slices_GB, segment_ids_GB, row_length, num_rows)
    item = rows.scatter(ITEMS[rows.source])
    groups, slots = segment_ids_GB.shape
    assert item.shape == rows.position.shape == rows.segment_ids.shape
    assert item.shape[0] == groups
    assert item.shape[1] >= (num_rows or 1)
    assert item.shape[2] == row_length
    for group in range(groups):
        for slot in range(slots):
            begin, end = slices_GB.begin[group, slot], slices_GB.end[group, slot]
            own = rows.segment_ids[group] == segment_ids_GB[group, slot]
            # Row by row, left to right: the history in its order, and all in one row.
            assert item[group][own].tolist() == ITEMS[begin:end].tolist()
            assert own.any(1).sum() == (end > begin)
            positions = list(range(row_length - (end - begin), row_length))
            assert rows.position[group][own].tolist() == positions
            if end > begin:
                row, columns = rows.row[group, slot], np.nonzero(own.any(0))[0]
                assert own[row].any()
                assert columns[0] == rows.column[group, slot]
                assert (np.diff(columns) == 1).all()
    padding = rows.segment_ids < 0
    assert (rows.segment_ids[padding] == -1).all()
    assert not item[padding].any()
    assert not rows.position[padding].any()
    assert (~padding).sum() == slices_GB.lengths.sum()


def test_rows_are_as_many_as_needed_or_asked_for():
    begin, length = np.array([[0, 4, 8]]), np.array([[4, 4, 3]])
    segment = np.arange(3)[None]
    for num_rows, expected in ((None, 2), (1, 2), (2, 2), (6, 6)):
        rows = pack(Slices(begin, begin + length), segment, 8, num_rows)
        assert rows.segment_ids.shape == (1, expected, 8)


def test_an_example_of_rows():
    # Items 10..12 as history 5, items 20 and 21 as history 2, nothing as history 9.
    slices_GB = Slices(np.array([[10, 20, 7]]), np.array([[13, 22, 7]]))
    rows = pack(slices_GB, np.array([[5, 2, 9]]), 6)
    assert rows.segment_ids.tolist() == [[[5, 5, 5, 2, 2, -1]]]
    assert rows.position.tolist() == [[[3, 4, 5, 4, 5, 0]]]
    assert rows.scatter(rows.source).tolist() == [[[10, 11, 12, 20, 21, 0]]]


def test_ragged_numbers_the_entries_of_each_group():
    offset, size = ragged(np.array([0, 0, 0, 2, 3, 3]), 5)
    assert offset.tolist() == [0, 1, 2, 0, 0, 1]
    assert size.tolist() == [3, 0, 1, 2, 0]


@quick
@given(st.integers(1, 10**9))
def test_sizes_are_rounded_up_by_an_eighth_at_most(size):
    rounded = round_up(size)
    assert size <= rounded <= size * 9 / 8
    assert round_up(rounded) == rounded
    # Four leading binary digits, zeros behind.
    assert rounded % (1 << max(rounded.bit_length() - 4, 0)) == 0


def test_few_sizes_are_left():
    assert len({round_up(size) for size in range(1024, 2049)}) == 9
    assert [round_up(size) for size in (0, 1, 15, 16, 17, 100)] == [1, 1, 15, 16, 18, 104]
