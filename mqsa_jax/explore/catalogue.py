"""The items of a run as a person knows them: ids, titles, how frequent they are; and a search.

Shape legend: V items.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from mqsa_jax.data.attributes import Column
from mqsa_jax.data.ids import Ids, Lookup, ids_like
from mqsa_jax.errors import UserError
from mqsa_jax.prepare.attribute_files import read_titles


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


def titles_of(path: str, column: str | None, item_ids: Ids) -> tuple[list[str], int]:
    """Titles of V items, and how many other items the file has.

    Args:
      path, column: as of `read_titles`. Of several titles an item has the first.
      item_ids: [V] vocabulary.

    Raises:
      UserError: as `read_titles` and `by_index`.
    """
    (indexed,), unknown = by_index(path, [read_titles(path, column)], item_ids)
    titles = [""] * len(item_ids)
    for index, title in zip(indexed.owners, indexed.values, strict=True):
        titles[index] = titles[index] or " ".join(title.split())
    return titles, unknown


def by_index(path: str, columns: Sequence[Column], item_ids: Ids) -> tuple[list[Column], int]:
    """The columns of a file for the items of a run, whose owners are item indices.

    Returns:
      The columns; and how many items of the file the run does not have.

    Raises:
      UserError: if the run has none of them.
    """
    lookup, indexed = Lookup(item_ids), []
    known, unknown = set(), set()
    for column in columns:
        index_N = lookup.indices(ids_like(item_ids, column.owners)).tolist()
        unknown.update(
            owner for owner, index in zip(column.owners, index_N, strict=True) if index < 0
        )
        kept = [(i, value) for i, value in zip(index_N, column.values, strict=True) if i >= 0]
        known.update(index for index, _ in kept)
        owners, values = [index for index, _ in kept], [value for _, value in kept]
        indexed.append(dataclasses.replace(column, owners=owners, values=values))
    if not known:
        raise UserError(
            f"{path}: none of its {len(unknown)} items is in the run's data: other ids?"
        )
    return indexed, len(unknown)
