"""Small models that a server could have, loaded and with their programs compiled."""

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
def runs(tmp_path_factory) -> Path:
    """A folder of runs: trained, counted, and trained on ids that are strings."""
    folder = tmp_path_factory.mktemp("served")
    for model in ("mqsa-ted-plus", "transition"):
        make_run(model, folder / model)
    make_run("mqsa-ted", folder / "strings", name)
    return folder


@pytest.fixture(scope="session")
def answers(runs) -> dict[str, Answers]:
    """What answers for each of them."""
    from mqsa_jax import load_run

    made = {}
    for generation, folder in enumerate(sorted(runs.iterdir())):
        engine = Engine(load_run(folder), MAX_K)
        engine.warm_up()
        made[folder.name] = Answers(engine, generation)
    return made
