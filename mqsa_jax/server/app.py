"""The HTTP interface: paths, limits, errors, and the OpenAPI page with examples that work."""

from typing import Annotated, Any

import orjson
from fastapi import Body, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.requests import Request as HttpRequest

import mqsa_jax
from mqsa_jax.server.answers import Answers
from mqsa_jax.server.batching import Batcher
from mqsa_jax.server.live_model import LiveModel
from mqsa_jax.server.metrics import MeasuredRequests, Metrics
from mqsa_jax.server.requests import (
    Limits,
    RecommendRequest,
    RefusedError,
    Request,
    ScoreRequest,
    SimilarRequest,
    shown,
)

PATHS = frozenset({"/recommend", "/score", "/similar", "/items", "/health", "/metrics", "/docs"})
JSON = "application/json"


class Problem(BaseModel):
    """Why a request is not answered."""

    detail: str
    """The reason, in one line."""


def make_app(live: LiveModel, batcher: Batcher, limits: Limits, metrics: Metrics) -> FastAPI:
    """The application; its examples are made by the model that is served now."""
    app = FastAPI(
        title="mqsa-jax serve",
        description="Items that come next, by a model of sequential recommendation. Ids are those "
        "of the data that the model was trained on.",
        version=mqsa_jax.__version__,
        max_body_size=limits.max_body,
        redoc_url=None,
    )
    app.add_middleware(MeasuredRequests, metrics=metrics, paths=PATHS)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(RefusedError, _refused)
    _add_posts(app, live.answers, batcher, limits)
    _add_gets(app, live, batcher, metrics)
    return app


def _add_posts(app: FastAPI, answers: Answers, batcher: Batcher, limits: Limits) -> None:
    async def answer(request: Request) -> Response:
        limits.check(request)
        return Response(await batcher.answer(request), media_type=JSON)

    requests = _examples(answers)

    def documented(path: str) -> dict[str, Any]:
        return {"path": path, "responses": _responses(answers, requests[path])}

    def body(path: str) -> Any:
        named = {name: {"value": value} for name, value in requests[path].items()}
        return Body(openapi_examples=named)

    @app.post(**documented("/recommend"))
    async def recommend(
        request: Annotated[RecommendRequest, body("/recommend")],
    ) -> Response:
        """The items that come next after a history, best first.

        Items of the history that the model does not know are skipped and counted in `unknown`. If
        none is left, the most frequent items of the training data are listed, with the score null.
        """
        return await answer(request)

    @app.post(**documented("/score"))
    async def score(request: Annotated[ScoreRequest, body("/score")]) -> Response:
        """Scores of given items as the next one after a history, in the order of `items`."""
        return await answer(request)

    @app.post(**documented("/similar"))
    async def similar(request: Annotated[SimilarRequest, body("/similar")]) -> Response:
        """The items whose vectors are nearest to an item's; the scores are cosines."""
        return await answer(request)


def _add_gets(app: FastAPI, live: LiveModel, batcher: Batcher, metrics: Metrics) -> None:
    @app.get("/items/{id:path}", responses={404: {"model": Problem}})
    async def items(id: str) -> Response:
        """What is known of an item: how often it occurs in training, and what followed it."""
        return Response(live.answers.item(id), media_type=JSON)

    @app.get("/health")
    async def health() -> Response:
        """The model that is served, and the state of its folder; 200 as long as it is served."""
        content = {
            "status": "ok" if live.problem is None else "the new model is not served",
            "problem": live.problem,
            "folder": live.folder_state,
            "waiting": batcher.waiting(),
            "model": live.describe(),
        }
        return Response(orjson.dumps(content), media_type=JSON)

    @app.get("/metrics")
    async def prometheus() -> Response:
        """Counts and latencies, for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _examples(answers: Answers) -> dict[str, dict[str, Any]]:
    """Requests that this model answers, by path and by name."""
    first = answers.engine.examples(3)
    timed = [{"item": item, "time": 1393545600 + day * 86400} for day, item in enumerate(first)]
    plain = {"history": first, "k": 3}
    return {
        "/recommend": {
            "a history": plain,
            "with times": {"history": timed[::-1], "k": 3},
            "with reasons": plain | {"explain": True},
            "not some items": plain | {"deny": first[:1], "exclude_seen": "none"},
        },
        "/score": {"two items": {"history": first[:1], "items": first[1:]}},
        "/similar": {"an item": {"item": first[0], "k": 3}},
    }


def _responses(answers: Answers, requests: dict[str, Any]) -> dict[int | str, Any]:
    """What a path answers: examples, made by the model, and the form of its problems."""
    kinds = {"history": RecommendRequest, "items": ScoreRequest, "item": SimilarRequest}
    worked = {}
    for name, content in requests.items():
        kind = next(kinds[field] for field in ("items", "history", "item") if field in content)
        request = kind(**content)
        (made,) = answers.method(request)([request])
        if isinstance(made, bytes):
            worked[name] = {"value": orjson.loads(made)}
    problems = {
        status: {"model": Problem, "description": what}
        for status, what in (
            (413, "The body is too large"),
            (422, "The request does not fit the model or the limits"),
            (503, "Too many requests wait"),
        )
    }
    return {200: {"content": {JSON: {"examples": worked}}}, **problems}


async def _refused(_: HttpRequest, refused: Exception) -> JSONResponse:
    assert isinstance(refused, RefusedError)
    headers = {"retry-after": "1"} if refused.status == 503 else None
    return _problem(refused.status, refused.reason, headers)


async def _invalid(_: HttpRequest, error: Exception) -> JSONResponse:
    """The first of the errors, in one line."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _problem(
            422, f"the body is not JSON: {first['ctx']['error']}, at {first['loc'][-1]}"
        )
    where = ".".join(shown(part).strip("'") for part in first["loc"] if part != "body")
    what = first["msg"]
    if not where and first["type"] in ("model_attributes_type", "missing"):
        what = "the body must be a JSON object, sent with content-type: application/json"
    return _problem(422, f"{where}: {what}" if where else what)


def _problem(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    # Half a surrogate pair is a string of JSON, but no text that can be sent.
    text = reason.encode("ascii", "backslashreplace").decode()
    return JSONResponse({"detail": text}, status, headers)
