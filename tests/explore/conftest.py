"""Small runs, and files of titles and attributes of their items."""

import json

import numpy as np
import pytest

import mqsa_jax
from mqsa_jax.commands.train import train_main

FLAGS = ["--dim=8", "--max-len=8", "--batch-size=16", "--epochs=2", "--devices=1", "--seed=1"]


def histories() -> str:
    """60 users who mostly go from an item to the next of 30, so that transitions tell a lot."""
    rng = np.random.default_rng(0)
    lines = []
    for user in range(1, 61):
        steps = np.where(rng.random(rng.integers(5, 12)) < 0.8, 1, rng.integers(2, 29))
        items = (user + np.cumsum(steps)) % 30 + 1
        lines.append(" ".join(map(str, [user, *items])))
    return "".join(f"{line}\n" for line in lines)


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A folder of runs on `data.txt`, and what is known of the items."""
    folder = tmp_path_factory.mktemp("explore")
    (folder / "data.txt").write_text(histories())
    # What looks like HTML must be shown as it is; the last one is of no item.
    titles = {str(item): f"Toy <b>{item}</b> & more" for item in range(1, 31)} | {"999": "Gone"}
    (folder / "titles.json").write_text(json.dumps(titles))
    attributes = {str(item): [f"colour {item % 3}", "toy"] for item in range(1, 30)}
    (folder / "attributes.json").write_text(json.dumps(attributes))
    return folder


@pytest.fixture(scope="session")
def run_dir(home):
    """The folder of a trained run, of the model that has all parts."""
    folder = home / "mqsa-ted-plus"
    arguments = [f"--dataset={home / 'data.txt'}", "--model=mqsa-ted-plus", *FLAGS]
    assert train_main([*arguments, f"--run-dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="session")
def run(run_dir):
    """That run, loaded."""
    return mqsa_jax.load_model(run_dir)


@pytest.fixture(scope="session")
def url(home, run):
    """The address of its page."""
    from tests.explore.browser import served

    files = [
        f"--item-titles={home / 'titles.json'}",
        f"--item-attributes={home / 'attributes.json'}",
    ]
    with served(run.folder, *files) as address:
        yield address


@pytest.fixture(scope="session")
def driven():
    """A browser."""
    from tests.explore.browser import Browser

    browser = Browser()
    yield browser
    browser.driver.quit()


@pytest.fixture
def page(driven, url):
    """The page with the first user's lists; nothing may be reported as wrong at the end."""
    from tests.explore.browser import opened

    driven.driver.get_log("browser")
    yield opened(driven, url)
    assert [entry["message"] for entry in driven.driver.get_log("browser")] == []
