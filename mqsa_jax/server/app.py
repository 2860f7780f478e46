"""The HTTP interface: paths, limits, errors, and the OpenAPI page with examples that work."""

from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.routing import request_response

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


class DirectRoute(APIRoute):
    """Calls an endpoint that takes the request and gives a response, with nothing around it.

    What FastAPI does for dependencies and parameters takes about as long as all else here.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.app = request_response(self.endpoint)


class Item(BaseModel):
    """An item of an answer; with reasons, in a list that `explain` asked for."""

    model_config = ConfigDict(extra="allow")
    item: int | str
    score: float | None


class Listed(BaseModel):
    """An answer."""

    model: int
    """Number of the model that made it; each that is swapped in has the next one."""
    unknown: int
    """Items of the history that the model does not know."""
    items: list[Item]


def make_app(live: LiveModel, batcher: Batcher, limits: Limits, metrics: Metrics) -> FastAPI:
    """The application; its examples are made by the model that is served now."""
    # The page and its scripts come from this process, not from another host.
    app = FastAPIOffline(
        title="mqsa-jax serve",
        description="Items that come next, by a model of sequential recommendation. Ids are those "
        "of the data that the model was trained on.",
        version=mqsa_jax.__version__,
        redoc_url=None,
        redirect_slashes=False,
        # `/metrics` has the figures; looking for another collector takes time at each request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        # Swagger UI would have another host check the schema.
        swagger_ui_parameters={"validatorUrl": "none"},
    )
    app.router.route_class = DirectRoute
    app.add_middleware(MeasuredRequests, metrics=metrics, paths=PATHS)
    app.add_exception_handler(ValidationError, _invalid)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(ClientDisconnect, _left)
    _add_posts(app, live.answers, batcher, limits)
    _add_gets(app, live, batcher, metrics)
    return app


def _add_posts(app: FastAPI, answers: Answers, batcher: Batcher, limits: Limits) -> None:
    async def answer(kind: type[Request], request: HttpRequest) -> Response:
        content = kind.model_validate_json(await _body(request, limits.max_body))
        limits.check(content)
        return Response(await batcher.answer(content), media_type=JSON)

    @app.post("/recommend", **_documented(RecommendRequest, answers))
    async def recommend(request: HttpRequest) -> Response:
        """The items that come next after a history, best first.

        Items of the history that the model does not know are skipped and counted in `unknown`. If
        none is left, the most frequent items of the training data are listed, with the score null.
        """
        return await answer(RecommendRequest, request)

    @app.post("/score", **_documented(ScoreRequest, answers))
    async def score(request: HttpRequest) -> Response:
        """Scores of given items as the next one after a history, in the order of `items`."""
        return await answer(ScoreRequest, request)

    @app.post("/similar", **_documented(SimilarRequest, answers))
    async def similar(request: HttpRequest) -> Response:
        """The items whose vectors are nearest to an item's; the scores are cosines."""
        return await answer(SimilarRequest, request)


def _add_gets(app: FastAPI, live: LiveModel, batcher: Batcher, metrics: Metrics) -> None:
    id_ = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    known = {"responses": {404: {"model": Problem}}, "openapi_extra": {"parameters": [id_]}}

    @app.get("/items/{id:path}", **known)
    async def items(request: HttpRequest) -> Response:
        """What is known of an item: how often it occurs in training, and what followed it."""
        return Response(live.answers.item(request.path_params["id"]), media_type=JSON)

    @app.get("/health")
    async def health(_: HttpRequest) -> Response:
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
    async def prometheus(_: HttpRequest) -> Response:
        """Counts and latencies, for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _documented(kind: type[Request], answers: Answers) -> dict[str, Any]:
    """What the OpenAPI page has of a path: schemas, and examples with the answers of this model."""
    asked, answered = {}, {}
    for name, request in kind.examples(answers.engine.examples(3)).items():
        content = kind(**request)
        (made,) = answers.method(content)([content])
        if isinstance(made, bytes):
            asked[name] = {"value": request}
            answered[name] = {"value": orjson.loads(made)}
    body = {"schema": kind.model_json_schema(), "examples": asked}
    problems = {
        status: {"model": Problem, "description": what}
        for status, what in (
            (413, "The body is too large"),
            (422, "The request does not fit the model or the limits"),
            (503, "Too many requests wait"),
        )
    }
    return {
        "openapi_extra": {"requestBody": {"required": True, "content": {JSON: body}}},
        "response_class": Response,
        "responses": {200: {"model": Listed, "content": {JSON: {"examples": answered}}}} | problems,
    }


async def _body(request: HttpRequest, limit: int) -> bytes:
    """The body; raises RefusedError as soon as it proves too large: uvicorn drops the rest."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise RefusedError(413, f"the body is larger than {limit} bytes, the limit")
        parts.append(part)
    return b"".join(parts)


async def _refused(_: HttpRequest, refused: Exception) -> JSONResponse:
    assert isinstance(refused, RefusedError)
    headers = {"retry-after": "1"} if refused.status == 503 else None
    return _problem(refused.status, refused.reason, headers)


async def _invalid(_: HttpRequest, error: Exception) -> JSONResponse:
    """The first of the errors, in one line."""
    assert isinstance(error, ValidationError)
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(shown(part).strip("'") for part in first["loc"])
    return _problem(422, f"{where}: {first['msg']}" if where else first["msg"])


async def _left(_: HttpRequest, error: Exception) -> JSONResponse:
    return _problem(400, "the connection ended before the body did")


def _problem(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": reason}, status, headers)
