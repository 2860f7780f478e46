"""The items of a run as a person knows them: ids, titles, how frequent they are; and a search.

Shape legend: V items.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from mqsa_jax.data.ids import Ids
from mqsa_jax.errors import UserError
from mqsa_jax.explore.item_files import VALUE, read_item_rows

KNOWN_TITLE = ("title", "name", "item_title", "item_name", "product_title", "product_name")
"""Names by which the column of the titles is guessed."""


@dataclasses.dataclass(frozen=True, eq=False)
class Catalogue:
    """The items of a run."""

    item_ids: Ids
    """[V]."""
    titles: Sequence[str]
    """V; empty where there is none."""
    count_V: np.ndarray | None
    """[V] occurrences in training; None: not known."""

    def item(self, index: int) -> dict[str, Any]:
        """What the page shows of an item: `index`, `id`, `title` and `count`."""
        count = None if self.count_V is None else int(self.count_V[index])
        return {
            "index": int(index),
            "id": str(self.item_ids[index]),
            "title": self.titles[index],
            "count": count,
        }

    def search(self, text: str, limit: int) -> list[int]:
        """Indices of the items whose id or title holds all words of a text.

        First the item of that very id, then those whose id or title begins with the text, then the
        most frequent ones.
        """
        wanted, words = text.casefold().strip(), text.casefold().split()
        found = [
            index
            for index, (id_, title) in enumerate(self._folded)
            if all(word in id_ or word in title for word in words)
        ]

        def order(index: int) -> tuple:
            id_, title = self._folded[index]
            begins = id_.startswith(wanted) or title.startswith(wanted)
            count = 0 if self.count_V is None else -int(self.count_V[index])
            return id_ != wanted, not begins, count, index

        return sorted(found, key=order)[:limit]

    @functools.cached_property
    def _folded(self) -> list[tuple[str, str]]:
        """Id and title of each item, for comparisons without case."""
        ids = map(str, self.item_ids.tolist())
        return [
            (id_.casefold(), title.casefold()) for id_, title in zip(ids, self.titles, strict=True)
        ]


def read_titles(path: str, column: str | None, item_ids: Ids) -> tuple[list[str], int]:
    """Titles of V items, and how many rows of the file are of other items.

    Args:
      path: file of a column of titles, or a JSON object of them by item id.
      column: name of that column; None: guessed.
      item_ids: [V] vocabulary.

    Raises:
      UserError: as `read_item_rows`; or if titles are no text.
    """
    rows = read_item_rows(path, item_ids, KNOWN_TITLE if column is None else (column,))
    (name, values), *_ = rows.columns.items()
    if name == VALUE and not all(isinstance(value, str) for value in values):
        raise UserError(f"{path}: its values are no titles; --item-attributes takes attributes")
    titles = [""] * len(item_ids)
    for index, value in zip(rows.index_N.tolist(), values, strict=True):
        titles[index] = titles[index] or ("" if value is None else " ".join(str(value).split()))
    return titles, rows.unknown
