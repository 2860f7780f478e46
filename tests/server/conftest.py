"""Small models that a server could have, loaded and with their programs compiled."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from mqsa_jax.data.histories import make_histories
from mqsa_jax.server.answers import Answers
from mqsa_jax.server.engine import Engine
from tests.inference.test_string_ids import ROWS, loaded, name

MAX_K = 20
"""More than there are items."""


def number(item: int) -> int:
    """An id that is no index."""
    return 10 * item + 7


def make_run(model: str, folder: Path, id_of=number):
    """A run of 12 items, of which the model reads the last 5 of a history."""
    histories = make_histories(range(len(ROWS)), [[id_of(item) for item in row] for row in ROWS])
    return loaded(model, histories, folder)[0]


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Callable[[str], Answers]:
    """What answers for a model, made when it is first asked for: `strings` has ids of that kind."""

    @functools.cache
    def made(name_of_model: str) -> Answers:
        folder = tmp_path_factory.mktemp("served") / name_of_model
        is_text = name_of_model == "strings"
        model, id_of = ("mqsa-ted", name) if is_text else (name_of_model, number)
        engine = Engine(make_run(model, folder, id_of), MAX_K)
        engine.warm_up()
        return Answers(engine, generation=1)

    return made
