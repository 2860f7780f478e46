"""Packing histories into rows, to save computation on padding.

A history fills a seventh of a row on average. Each row holds several, side by side, with segment
numbers. Many groups (a group is what one device gets of one step) are packed at once.

Shape legend: G groups, B histories a group, R rows, T positions a row.
"""

import dataclasses

import numpy as np
from jaxtyping import Int, Int32

from mqsa_jax.data.splits import Slices

CAPACITY_MARGIN = 1.1
"""Room for later epochs over what the first one needs, so that they share its compiled program."""


@dataclasses.dataclass(frozen=True, eq=False)
class PackedRows:
    """Row and column of each history, and the rows' position and segment numbers."""

    row: Int[np.ndarray, "G B"]
    """Row of each history."""
    column: Int[np.ndarray, "G B"]
    """First column of each history."""
    index: Int[np.ndarray, " N"]
    """Of each packed position in the flat [G, R, T]."""
    source: Int[np.ndarray, " N"]
    """Index of its item in the flat item array."""
    position: Int32[np.ndarray, "G R T"]
    """T - 1 for the newest item of a history; 0 at padding."""
    segment_ids: Int32[np.ndarray, "G R T"]
    """Segment number; -1 at padding."""

    def scatter(self, value_N: np.ndarray) -> np.ndarray:
        """[G, R, T] int32 with a value at each packed position, 0 at padding."""
        out = np.zeros(self.segment_ids.size, np.int32)
        out[self.index] = value_N
        return out.reshape(self.segment_ids.shape)


def best_fit(length_GB: np.ndarray, row_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Best-fit decreasing bin packing, all groups side by side.

    Args:
      length_GB: [G, B] lengths, 0 to `row_length`.
      row_length: T.

    Returns:
      [G, B] row and [G, B] first column of each history; rows are used from 0 up.

    Example:
      >>> row, column = best_fit(np.array([[3, 5, 2, 4]]), 7)
      >>> row.tolist(), column.tolist()
      ([[1, 0, 0, 1]], [[4, 0, 5, 0]])
    """
    groups, slots = length_GB.shape
    order_GB = np.argsort(-length_GB, axis=1, kind="stable")
    sorted_GB = np.take_along_axis(length_GB, order_GB, axis=1)
    every = np.arange(groups)
    room_GR = np.full((groups, slots), row_length, np.int32)
    # At most one row is less than half full, which bounds the number of rows in use.
    fewest = int((-(-length_GB.sum(axis=1) // row_length)).max(initial=0))
    most = min(slots, 2 * fewest + 1)
    row_GB, column_GB = np.zeros_like(length_GB), np.zeros_like(length_GB)
    for slot in range(slots):
        length_G = sorted_GB[:, slot]
        left_GR = room_GR[:, :most] - length_G[:, None]
        row_G = np.where(left_GR >= 0, left_GR, row_length + 1).argmin(axis=1)
        row_GB[every, order_GB[:, slot]] = row_G
        column_GB[every, order_GB[:, slot]] = row_length - room_GR[every, row_G]
        room_GR[every, row_G] -= length_G
    return row_GB, column_GB


def pack(
    slices_GB: Slices, segment_ids_GB: np.ndarray, row_length: int, num_rows: int | None = None
) -> PackedRows:
    """Packs the histories of each group into rows.

    Args:
      slices_GB: [G, B] slices of the flat item array, each at most `row_length` long.
      segment_ids_GB: [G, B] segment number of each history.
      row_length: T.
      num_rows: R at least; more are made if they are needed.
    """
    length_GB = slices_GB.lengths
    row_GB, column_GB = best_fit(length_GB, row_length)
    needed = int((row_GB + (length_GB > 0)).max(initial=1))
    shape = (length_GB.shape[0], max(needed, num_rows or 0), row_length)
    owner_N, source_N = slices_GB.flat_index()
    offset_N = source_N - slices_GB.begin.ravel()[owner_N]
    group_N = owner_N // length_GB.shape[1]
    row_N = group_N * shape[1] + row_GB.ravel()[owner_N]
    index_N = row_N * row_length + column_GB.ravel()[owner_N] + offset_N
    position, segment = np.zeros(shape, np.int32), np.full(shape, -1, np.int32)
    position.ravel()[index_N] = row_length - length_GB.ravel()[owner_N] + offset_N
    segment.ravel()[index_N] = segment_ids_GB.ravel()[owner_N]
    return PackedRows(row_GB, column_GB, index_N, source_N, position, segment)


def ragged(group_N: np.ndarray, num_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """[N] offset of each entry in its group (groups ascending), and [G] the groups' sizes."""
    size_G = np.bincount(group_N, minlength=num_groups)
    start_G = np.cumsum(size_G) - size_G
    return np.arange(group_N.size) - start_G[group_N], size_G


def round_up(size: int) -> int:
    """The next size with four leading binary digits, for fewer shapes; at most 1/8 is waste.

    Example:
      >>> [round_up(n) for n in (0, 7, 17, 33, 1233)]
      [1, 7, 18, 36, 1280]
    """
    step = 1 << max(size.bit_length() - 4, 0)
    return max(-(-size // step) * step, 1)


@dataclasses.dataclass(frozen=True)
class Capacity:
    """Static sizes of a batch."""

    rows: int
    distinct: int
    transitions: int

    def margined(self) -> "Capacity":
        """With room for other draws of users, rounded to few different sizes."""
        return Capacity(*(round_up(int(n * CAPACITY_MARGIN)) for n in dataclasses.astuple(self)))

    def holding(self, needed: "Capacity") -> "Capacity":
        """At least this, and at least what is needed, again rounded."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(needed), strict=True)
        return Capacity(*(have if need <= have else round_up(need) for have, need in pairs))
