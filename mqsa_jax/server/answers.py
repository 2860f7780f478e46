"""Batches of requests in, JSON of their answers out."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import orjson

from mqsa_jax.errors import UserError
from mqsa_jax.inference.batch_shapes import MAX_BATCH
from mqsa_jax.inference.lists import Lists
from mqsa_jax.inference.named_lists import Recommendation, named_lists
from mqsa_jax.inference.ranks import NO_ITEM
from mqsa_jax.server.engine import EXPLAINED, Engine
from mqsa_jax.server.queries import Query, QueryReader
from mqsa_jax.server.requests import (
    RecommendRequest,
    RefusedError,
    Request,
    ScoreRequest,
    SimilarRequest,
)

Answer = bytes | RefusedError
"""The JSON of an answer, or why there is none."""
FOLLOWERS = 10
"""Items that are named as the most frequent successors of one."""


class Answers:
    """Answers requests by one engine, at most `MAX_BATCH` at once."""

    def __init__(self, engine: Engine, generation: int):
        """Takes the engine, and the number of the model that every answer repeats."""
        self.engine, self.generation = engine, generation
        self._reader = QueryReader(engine.model)

    def method(self, request: Request) -> Callable[[Sequence[Any]], list[Answer]]:
        """What answers requests of this kind."""
        if isinstance(request, RecommendRequest):
            return self.explained if request.explain else self.recommend
        return self.score if isinstance(request, ScoreRequest) else self.similar

    def recommend(self, requests: Sequence[RecommendRequest]) -> list[Answer]:
        """Lists of items after histories."""
        out, known = self._listable(requests)
        for some in _parts(known, MAX_BATCH):
            listed = self._pairs(self._lists(list(some.values())))
            out |= {
                slot: self._json(query, pairs[: query.k])
                for (slot, query), pairs in zip(some.items(), listed, strict=True)
            }
        return _in_order(out)

    def explained(self, requests: Sequence[RecommendRequest]) -> list[Answer]:
        """The same with reasons."""
        out, known = self._listable(requests)
        for some in _parts(known, EXPLAINED):
            queries = list(some.values())
            lists = self._lists(queries)
            try:
                why = self.engine.explanations([query.row for query in queries], lists)
            except UserError as error:
                out |= dict.fromkeys(some, RefusedError(422, f"explain: {error}"))
                continue
            listed = named_lists(self.engine.model.item_ids, lists, why)
            out |= {
                slot: self._json(query, [_with_reasons(each) for each in each_list[: query.k]])
                for (slot, query), each_list in zip(some.items(), listed, strict=False)
            }
        return _in_order(out)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Answer]:
        """Scores of given items after histories."""
        out, known = self._read(requests, self._reader.score)
        if known:
            score_BV = self.engine.scores([query.row for query in known.values()])
            for (slot, query), score_V in zip(known.items(), np.asarray(score_BV), strict=False):
                names = self.engine.names(query.columns)
                out[slot] = self._json(query, _pairs_of(names, score_V[query.columns]))
        return _in_order(out)

    def similar(self, requests: Sequence[SimilarRequest]) -> list[Answer]:
        """Lists of the items of nearest vectors."""
        if not self.engine.has_vectors:
            reason = "the model is counted, not trained: it has no item vectors to compare"
            return [RefusedError(422, reason) for _ in requests]
        out, known = self._read(requests, self._reader.similar)
        if known:
            queries = list(known.values())
            cosine_BV = self.engine.cosines([int(query.row[0]) for query in queries])
            listed = self._pairs(self._best(queries, cosine_BV, of_cosines=True))
            out |= {
                slot: self._json(query, pairs[: query.k])
                for (slot, query), pairs in zip(known.items(), listed, strict=True)
            }
        return _in_order(out)

    def item(self, text: str) -> bytes:
        """What is known of the item of an id; raises RefusedError if there is none."""
        index, engine = self._reader.item(text), self.engine
        (name,) = engine.names(np.array([index]))
        answer: dict[str, Any] = {"model": self.generation, "item": name}
        if engine.counts is not None:
            items, counts = engine.followers(index, FOLLOWERS)
            named = zip(engine.names(items), counts.tolist(), strict=True)
            answer["training_count"] = int(engine.counts.items[index])
            answer["followers"] = [{"item": name, "count": count} for name, count in named]
        return orjson.dumps(answer)

    def _read(
        self, requests: Sequence[Any], read: Callable[[Any], Query]
    ) -> tuple[dict[int, Answer], dict[int, Query]]:
        """By slots of the batch: answers to what is refused, and queries of all others."""
        out: dict[int, Answer] = {}
        queries = {}
        for slot, request in enumerate(requests):
            try:
                queries[slot] = read(request)
            except RefusedError as refused:
                out[slot] = refused
        return out, queries

    def _listable(
        self, requests: Sequence[RecommendRequest]
    ) -> tuple[dict[int, Answer], dict[int, Query]]:
        """As `_read`, with popular items as answers where nothing of the history is known."""
        out, queries = self._read(requests, self._reader.recommend)
        for slot, query in queries.items():
            if not len(query.row):
                out[slot] = self._popular(query, requests[slot].explain)
        return out, {slot: query for slot, query in queries.items() if len(query.row)}

    def _popular(self, query: Query, explain: bool) -> Answer:
        try:
            names = self.engine.names(self.engine.popular(query.k, query.allowed_V))
        except UserError as error:
            return RefusedError(422, f"history: holds no item that the model knows, and {error}")
        items = [{"item": name, "score": None} for name in names]
        if explain:
            no_reasons = ((), (), ())
            items = [_with_reasons(Recommendation(name, None, *no_reasons)) for name in names]
        return self._json(query, items)

    def _lists(self, queries: Sequence[Query]) -> Lists:
        return self._best(queries, self.engine.scores([query.row for query in queries]))

    def _best(self, queries: Sequence[Query], score_BV: Any, *, of_cosines: bool = False) -> Lists:
        """A list for each query, as long as the longest that one of them asks for."""
        excluded_BV = np.zeros(score_BV.shape, bool)
        for excluded_V, query in zip(excluded_BV, queries, strict=False):
            if query.allowed_V is not None:
                np.logical_not(query.allowed_V, out=excluded_V)
            excluded_V[query.excluded] = True
        k = max(query.k for query in queries)
        return self.engine.lists(score_BV, k, excluded_BV, len(queries), of_cosines=of_cosines)

    def _pairs(self, lists: Lists) -> Iterator[list[dict[str, Any]]]:
        """The items of each list, with their scores."""
        names_UK = self.engine.names(lists.items)
        length_U = (lists.items != NO_ITEM).sum(axis=1).tolist()
        for names, score_K, length in zip(names_UK, lists.scores, length_U, strict=True):
            yield _pairs_of(names[:length], score_K[:length])

    def _json(self, query: Query, items: list[dict[str, Any]]) -> bytes:
        content = {"model": self.generation, "unknown": query.unknown, "items": items}
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _pairs_of(names: Sequence[Any], score_N: np.ndarray) -> list[dict[str, Any]]:
    """float32 scores are written with as many digits as tell them apart."""
    return [{"item": name, "score": score} for name, score in zip(names, score_N, strict=True)]


def _with_reasons(listed: Recommendation) -> dict[str, Any]:
    """Under the names that `recommend --explain` writes."""
    attended = {
        name: [
            {"item": item, "weight": np.float32(weight)} for item, weight in getattr(listed, name)
        ]
        for name in ("short_attention", "long_attention")
    }
    transitions = [
        vars(each) | {"probability": np.float32(each.probability)} for each in listed.transitions
    ]
    score = None if listed.score is None else np.float32(listed.score)
    return {"item": listed.item, "score": score, **attended, "transitions": transitions}


def _parts(queries: dict[int, Query], size: int) -> Iterator[dict[int, Query]]:
    pairs = list(queries.items())
    for begin in range(0, len(pairs), size):
        yield dict(pairs[begin : begin + size])


def _in_order(answers: dict[int, Answer]) -> list[Answer]:
    return [answers[slot] for slot in range(len(answers))]
