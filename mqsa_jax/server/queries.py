"""Requests in terms of the model: ids become indices, and what does not fit is refused."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mqsa_jax.data.ids import ids_like, is_text
from mqsa_jax.inference.recommend import allowed_items
from mqsa_jax.inference.serving import LoadedRun
from mqsa_jax.server.requests import (
    RecommendRequest,
    RefusedError,
    ScoreRequest,
    SimilarRequest,
    shown,
)

NOTHING = np.zeros(0, np.int32)
"""No indices."""


@dataclasses.dataclass(frozen=True, eq=False)
class Query:
    """What a request asks of the model. V items of the model, N of the history."""

    row: np.ndarray
    """[N] int32 known items of the history, or the one item whose neighbours are asked for."""
    unknown: int = 0
    """Items of the history that the model does not know."""
    k: int = 1
    allowed_V: np.ndarray | None = None
    """[V] whether an item may be listed; None: all may."""
    excluded: np.ndarray = dataclasses.field(default_factory=lambda: NOTHING)
    """Indices of further items that are left out of the list."""
    columns: np.ndarray = dataclasses.field(default_factory=lambda: NOTHING)
    """Indices of the items to score."""


class QueryReader:
    """Reads requests by the vocabulary of a model."""

    def __init__(self, model: LoadedRun):
        self._model = model
        self._wanted, self._kind = (
            (str, "strings") if is_text(model.item_ids) else (int, "integers")
        )

    def recommend(self, request: RecommendRequest) -> Query:
        """Raises RefusedError if ids are of the other kind than the model's; so do the others."""
        row, unknown = self._history(request)
        config = self._model.config
        policy = request.exclude_seen or config.evaluation.exclude_seen
        seen = {"history": row, "window": row[-config.model.max_len :], "none": NOTHING}
        return Query(row, unknown, request.k, self._allowed(request), seen[policy])

    def score(self, request: ScoreRequest) -> Query:
        """Refuses unknown items to score, too, and histories of which nothing is known."""
        row, unknown = self._history(request)
        if not len(row):
            raise RefusedError(422, "history: holds no item that the model knows")
        columns = self._indices(request.items, "items")
        if (columns < 0).any():
            raise self._not_known(422, "items", request.items[int(np.argmin(columns))])
        return Query(row, unknown, columns=columns)

    def similar(self, request: SimilarRequest) -> Query:
        """Refuses an unknown item, too."""
        row = self._indices([request.item], "item")
        if row[0] < 0:
            raise self._not_known(422, "item", request.item)
        return Query(row, k=request.k, allowed_V=self._allowed(request))

    def item(self, text: str) -> int:
        """Index of the item whose id stands in a path."""
        (index,) = self._model.lookup.indices(ids_like(self._model.item_ids, [text])).tolist()
        if index < 0:
            raise self._not_known(404, "item", text)
        return index

    def _not_known(self, status: int, where: str, id_: Any) -> RefusedError:
        return RefusedError(status, f"{where}: {shown(id_)} is not among the items of the model")

    def _history(self, request: RecommendRequest | ScoreRequest) -> tuple[np.ndarray, int]:
        index_N = self._indices(request.history, "history")
        row = index_N[index_N >= 0]
        return row, len(index_N) - len(row)

    def _indices(self, ids: Sequence[Any], where: str) -> np.ndarray:
        """int32 index of each id, -1 where the model does not know it."""
        return self._model.lookup.indices(self._checked(ids, where)) if ids else NOTHING

    def _checked(self, ids: Sequence[Any], where: str) -> np.ndarray:
        if set(map(type, ids)) - {self._wanted}:
            entry = next(index for index, id_ in enumerate(ids) if type(id_) is not self._wanted)
            raise RefusedError(
                422,
                f"{where}: entry {entry} is {shown(ids[entry])}; the item ids of this model are "
                f"{self._kind}",
            )
        return ids_like(self._model.item_ids, list(ids)) if ids else self._model.item_ids[:0]

    def _allowed(self, request: RecommendRequest | SimilarRequest) -> np.ndarray | None:
        allow, deny = (
            None if ids is None else self._checked(ids, where)
            for where, ids in (("allow", request.allow), ("deny", request.deny))
        )
        return allowed_items(self._model.lookup, self._model.num_items, allow, deny)[0]
