"""The page's server: files of the page, and answers in JSON. It talks to no other host.

Items go by their index everywhere, users by their id.
"""

import random
import threading
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from mqsa_jax.config import ExcludeSeen
from mqsa_jax.explore.attributes import Categories
from mqsa_jax.explore.explorer import Explorer
from mqsa_jax.explore.model_lists import MAX_FACTOR, NOBODY, Asked

STATIC = Path(__file__).parent / "static"
MAX_HISTORY = 10_000
"""Longest history that is answered."""
FOUND = 12
"""Items or users that a search finds at most."""
_HEADERS = {
    # The page loads nothing from elsewhere, and no other page may embed it.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

Text = Annotated[str, Query(max_length=200)]
Index = Annotated[int, Query(ge=0)]


class ListsQuestion(BaseModel):
    """A history and what a person has set; None: as the run has it."""

    history: Annotated[list[int], Field(min_length=1, max_length=MAX_HISTORY)]
    alpha: Annotated[float, Field(ge=0, le=1)] | None = None
    window: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    term_factor: Annotated[float, Field(ge=0, le=MAX_FACTOR)] = 1.0
    exclude_seen: ExcludeSeen | None = None
    item: int | None = None
    user: str | None = None
    """Whose history it is, for what the traits add; None: of nobody."""


def make_app(explorer: Explorer, hosts: list[str]) -> FastAPI:
    """The application.

    Args:
      explorer: what is shown.
      hosts: names by which the page may be asked for: a page of another site cannot read this one
        by a name of its own.
    """
    # Without the pages of FastAPI, which load their scripts from another host.
    app = FastAPI(title="mqsa-jax explore", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)

    @app.middleware("http")
    async def with_headers(request: Request, call_next: Any) -> Response:
        response = await call_next(request)
        response.headers.update(_HEADERS)
        return response

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    app.mount("/static", StaticFiles(directory=STATIC))
    _add_lists(app, explorer)
    _add_searches(app, explorer)
    _add_map(app, explorer)
    return app


def _add_lists(app: FastAPI, explorer: Explorer) -> None:
    """What the views of lists and of training ask for."""
    computing = threading.Lock()

    @app.get("/api/run")
    def run() -> dict[str, Any]:
        return explorer.description

    @app.get("/api/training")
    def training() -> dict[str, Any]:
        with computing:
            return explorer.training

    @app.post("/api/lists")
    def lists(question: ListsQuestion) -> dict[str, Any]:
        for item in (*question.history, question.item or 0):
            _check_item(explorer, item)
        run = explorer.lists.run
        answer = explorer.lists.answer(
            Asked(
                question.history,
                float(run.hparams.alpha) if question.alpha is None else question.alpha,
                int(run.hparams.window) if question.window is None else question.window,
                question.term_factor,
                question.exclude_seen or run.config.evaluation.exclude_seen,
                question.item,
                NOBODY if question.user is None else _user(explorer, question.user),
            )
        )
        return answer | {"items": explorer.items_of(answer)}


def _add_searches(app: FastAPI, explorer: Explorer) -> None:
    """How users and items are found."""

    @app.get("/api/users")
    def users(text: Text = "") -> list[str]:
        return [] if explorer.users is None else explorer.users.search(text, FOUND)

    @app.get("/api/users/random")
    def random_user() -> str:
        if explorer.users is None:
            raise HTTPException(404, "the run's data are not at hand")
        return explorer.users.name(random.randrange(explorer.users.histories.num_users))

    @app.get("/api/history")
    def history(user: Text) -> dict[str, Any]:
        index = _user(explorer, user)
        return {
            "items": [explorer.catalogue.item(item) for item in explorer.users.history(index)],
            "traits": explorer.users.traits(index),
        }

    @app.get("/api/item")
    def item(index: Index) -> dict[str, Any]:
        _check_item(explorer, index)
        return explorer.catalogue.item(index)

    @app.get("/api/items")
    def items(text: Text = "") -> list[dict[str, Any]]:
        found = explorer.catalogue.search(text, FOUND)
        return [explorer.catalogue.item(item) for item in found]


def _add_map(app: FastAPI, explorer: Explorer) -> None:
    """What the view of the map asks for."""

    @app.get("/api/map")
    def status() -> dict[str, Any]:
        return explorer.item_map.status()

    @app.get("/api/map/items")
    def indices() -> Response:
        return _binary(explorer.item_map.items.astype("<i4").tobytes())

    @app.get("/api/map/positions")
    def positions() -> Response:
        return _binary(explorer.item_map.positions().astype("<f4").tobytes())

    @app.get("/api/map/colours")
    def colours(attribute: Text) -> dict[str, Any]:
        return _attribute(explorer, attribute).colours(explorer.num_items)

    @app.get("/api/map/values")
    def values(attribute: Text, text: Text = "") -> list[dict[str, Any]]:
        found = _attribute(explorer, attribute)
        return found.search(text, FOUND) if isinstance(found, Categories) else []

    @app.get("/api/map/members")
    def members(attribute: Text, value: Index) -> list[int]:
        found = _attribute(explorer, attribute)
        if not isinstance(found, Categories) or value >= len(found.names):
            raise HTTPException(404, f"attribute {attribute!r} has no value {value}")
        return found.members(value).tolist()

    @app.get("/api/neighbours")
    def neighbours(item: Index) -> dict[str, Any]:
        _check_item(explorer, item)
        return explorer.neighbours(item)


def _user(explorer: Explorer, user: str) -> int:
    index = None if explorer.users is None else explorer.users.index(user)
    if index is None:
        raise HTTPException(404, f"no user {user!r} in the run's data")
    return index


def _attribute(explorer: Explorer, name: str) -> Any:
    if name not in explorer.attributes:
        raise HTTPException(404, f"no attribute {name!r}")
    return explorer.attributes[name]


def _check_item(explorer: Explorer, item: int) -> None:
    if not 0 <= item < explorer.num_items:
        raise HTTPException(404, f"no item {item}; items are 0 to {explorer.num_items - 1}")


def _binary(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream")
