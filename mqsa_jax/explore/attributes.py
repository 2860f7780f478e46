"""Attributes of the items, by which the map is coloured: categories or numbers.

Shape legend: V items, N pairs of an item and a value.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mqsa_jax.data.attributes import Column
from mqsa_jax.data.ids import Ids
from mqsa_jax.explore.catalogue import by_index
from mqsa_jax.prepare.attribute_files import read_attribute_file

NUM_COLOURS = 8
"""Values of an attribute that get a colour of their own."""
MIN_NUMBERS = 12
"""Different numbers from which an attribute is a scale rather than categories."""
NONE, OTHER = -1, -2
"""Colour of an item without a value, and of one whose values have no colour."""


@dataclasses.dataclass(frozen=True, eq=False)
class Categories:
    """An attribute with values, any number of them an item."""

    names: Sequence[str]
    """Values, the most frequent first."""
    item_N: np.ndarray
    """[N] int32 item of each pair, ascending in its value."""
    value_N: np.ndarray
    """[N] int32 index in `names`."""

    def members(self, value: int) -> np.ndarray:
        """Indices of the items that have a value."""
        begin, end = np.searchsorted(self.value_N, (value, value + 1))
        return self.item_N[begin:end]

    def search(self, text: str, limit: int) -> list[dict[str, Any]]:
        """Values whose name holds a text, as `colours` has them, the most frequent first."""
        wanted = text.strip().casefold()
        found = (value for value, name in enumerate(self.names) if wanted in name.casefold())
        return [self._value(value) for value in itertools.islice(found, limit)]

    def _value(self, value: int) -> dict[str, Any]:
        return {
            "name": self.names[value],
            "count": len(self.members(value)),
            "value": value,
        }

    def colours(self, num_items: int) -> dict[str, Any]:
        """`values` with `name` and `count` of the most frequent; `colour` [V] of each item.

        The colour is the index in `values`, of several the rarest, which says most; `OTHER` for an
        item that has none of them and `NONE` for one that has no value at all.
        """
        colour_V = np.full(num_items, NONE)
        colour_V[self.item_N] = OTHER
        # The rarest come last and win.
        top_N = self.value_N < NUM_COLOURS
        colour_V[self.item_N[top_N]] = self.value_N[top_N]
        values = [self._value(value) for value in range(min(len(self.names), NUM_COLOURS))]
        return {"kind": "categories", "values": values, "colour": colour_V.tolist()}


@dataclasses.dataclass(frozen=True, eq=False)
class Numbers:
    """An attribute that is a number."""

    number_V: np.ndarray
    """[V] float64; NaN where there is none."""

    def colours(self, num_items: int) -> dict[str, Any]:
        """`low`, `middle` and `high` of the scale; `share` [V], which is -1 without a number.

        The share is the fraction of the items with a smaller number, ties counting half, so that
        skewed numbers use the whole scale.
        """
        known_V = ~np.isnan(self.number_V)
        number_N = np.sort(self.number_V[known_V])
        below_V, upto_V = (np.searchsorted(number_N, self.number_V, side) for side in SIDES)
        share_V = np.where(known_V, (below_V + upto_V) / (2 * max(len(number_N), 1)), -1)
        low, middle, high = np.quantile(number_N, (0, 0.5, 1)) if len(number_N) else (0, 0, 0)
        return {
            "kind": "numbers",
            "low": float(low),
            "middle": float(middle),
            "high": float(high),
            "share": np.round(share_V, 3).tolist(),
        }


SIDES = ("left", "right")
Attribute = Categories | Numbers


def read_attributes(
    path: str, columns: str | None, item_ids: Ids
) -> tuple[dict[str, Attribute], int]:
    """Attributes by name, those that a model reads from the file; and how many other items it has.

    An attribute of 12 different numbers or more, at most one an item, is a scale; others are
    categories.

    Args:
      path, columns: as of `read_attribute_file`.
      item_ids: [V] vocabulary.

    Raises:
      UserError: as `read_attribute_file` and `by_index`.
    """
    found, unknown = by_index(path, read_attribute_file(path, "item", columns), item_ids)
    return {column.name: _attribute(column, len(item_ids)) for column in found}, unknown


def _attribute(column: Column, num_items: int) -> Attribute:
    """The attribute of a column whose owners are item indices."""
    numbers = [_number(value) for value in column.values]
    once = len(set(column.owners)) == len(column.owners)
    if once and None not in numbers and len(set(numbers)) >= MIN_NUMBERS:
        number_V = np.full(num_items, np.nan)
        number_V[column.owners] = numbers
        return Numbers(number_V)
    texts = (f"{value:g}" if column.is_number else value for value in column.values)
    return _categories(set(zip(column.owners, texts, strict=True)))


def _categories(pairs: Iterable[tuple[int, str]]) -> Categories:
    pairs = list(pairs)
    names, value_N, count = np.unique(
        np.array([value for _, value in pairs], object), return_inverse=True, return_counts=True
    )
    # The most frequent first, of equal ones in the order of their names.
    order = np.lexsort((np.arange(len(names)), -count))
    rank = np.empty(len(names), np.int32)
    rank[order] = np.arange(len(names), dtype=np.int32)
    value_N, item_N = rank[value_N], np.array([item for item, _ in pairs], np.int32)
    by_value = np.lexsort((item_N, value_N))
    return Categories([names[i] for i in order], item_N[by_value], value_N[by_value])


def _number(value: float | str) -> float | None:
    """The number that a value stands for; None if it is none."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
