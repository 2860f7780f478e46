"""Traits of a user who is picked count in the lists; a built history has none."""

import csv
import shutil

import numpy as np
import pytest

pytest.importorskip("openTSNE")

from fastapi import HTTPException

from mqsa_jax.commands.recommend import recommend_main
from mqsa_jax.commands.train import train_main
from mqsa_jax.explore.app import ListsQuestion, make_app
from mqsa_jax.explore.explorer import load_explorer
from mqsa_jax.explore.options import ExploreOptions
from tests.explore.conftest import FLAGS

# The file says nothing of user 60.
pytestmark = pytest.mark.filterwarnings("ignore:.*59 of 60 users have some of 5 attributes")


@pytest.fixture(scope="module")
def trained(home):
    """A run whose users have one of three ages and, half of them, a town; others know nothing."""
    folder, traits = home / "with-traits", home / "traits.csv"
    rows = [f"{user},{20 + user % 3},{'x|y' if user % 2 else ''}" for user in range(1, 60)]
    traits.write_text("\n".join(["user,age,town", *rows]))
    colours = home / "colours.csv"
    colours.write_text(
        "\n".join(["item,kind,price", *(f"{i},k{i % 4},{i}.5" for i in range(1, 31))])
    )
    data = [f"--dataset={home / 'data.txt'}", f"--user-traits={traits}"]
    attributes = [f"--item-attributes={colours}", "--attribute-columns=kind"]
    flags = [*data, *attributes, "--model=mqsa-ted", "--lr=0.05", *FLAGS]
    assert train_main([*flags, f"--run-dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def explorer(trained):
    told = []
    made = load_explorer(ExploreOptions(str(trained)), told.append)
    assert told == []
    return made


@pytest.fixture(scope="module")
def asked(explorer):
    """The answer of a path, by what the path is given."""
    app = make_app(explorer, ["*"])
    endpoints = {route.path: route.endpoint for route in app.routes if route.path != "/static"}
    return lambda path, *given, **named: endpoints[path](*given, **named)


def recommended(run_dir, user, tmp_path):
    """[(item, score)] of the command `recommend`, which reads the traits itself."""
    output = tmp_path / f"{user}.csv"
    flags = [f"--run-dir={run_dir}", f"--users={user}", f"--output={output}", "--devices=1"]
    assert recommend_main(flags) == 0
    with open(output, newline="") as file:
        return [(int(row["item"]), float(row["score"])) for row in csv.DictReader(file)]


def listed(explorer, answer):
    ids = explorer.lists.run.item_ids
    return [(int(ids[each["item"]]), each["score"]) for each in answer["lists"]["model"]]


@pytest.mark.parametrize("user", ["2", "7", "60"])
def test_the_lists_of_a_user_are_those_of_recommend(trained, explorer, asked, user, tmp_path):
    history = [item["index"] for item in asked("/api/history", user=user)["items"]]
    found = listed(explorer, asked("/api/lists", ListsQuestion(history=history, user=user)))
    expected = recommended(trained, user, tmp_path)
    assert [item for item, _ in found] == [item for item, _ in expected]
    np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], rtol=1e-4)
    nobody = listed(explorer, asked("/api/lists", ListsQuestion(history=history)))
    (without,) = explorer.lists.run.recommend([explorer.lists.run.item_ids[history]], k=10)
    np.testing.assert_allclose([s for _, s in nobody], [s for _, s in without], rtol=1e-4)
    # Of user 60 the file tells nothing.
    differs = max(abs(a - b) for (_, a), (_, b) in zip(found, nobody, strict=True))
    assert differs < 1e-5 if user == "60" else differs > 1e-3


def test_the_page_gets_the_traits_by_name_and_knows_that_there_are_some(explorer, asked):
    assert explorer.description["traits"]
    assert asked("/api/history", user="7")["traits"] == ["age = 21", "town = x", "town = y"]
    assert asked("/api/history", user="2")["traits"] == ["age = 22"]
    assert asked("/api/history", user="60")["traits"] == []
    with pytest.raises(HTTPException) as caught:
        asked("/api/lists", ListsQuestion(history=[3], user="nobody"))
    assert caught.value.status_code == 404 and "no user 'nobody'" in caught.value.detail


def test_the_map_has_the_attributes_of_training_unless_others_are_named(explorer, trained, home):
    assert list(explorer.attributes) == ["kind", "popularity"]
    assert explorer.attributes["kind"].names == ["k1", "k2", "k0", "k3"]
    named = ExploreOptions(
        str(trained), item_attributes=str(home / "colours.csv"), attribute_columns="price"
    )
    assert list(load_explorer(named, lambda line: None).attributes) == ["price", "popularity"]


def test_files_of_traits_and_attributes_that_have_moved_are_named(trained, home, tmp_path):
    moved = [tmp_path / name for name in ("traits.csv", "colours.csv")]
    for path in moved:
        shutil.move(home / path.name, path)
    try:
        told = []
        explorer = load_explorer(ExploreOptions(str(trained)), told.append)
        assert explorer.users is None and list(explorer.attributes) == ["popularity"]
        assert [line.split(":")[0] for line in told] == ["no attributes", "no users to pick"]
        assert "--dataset and --user-traits name the files" in told[1]
        traits, colours = map(str, moved)
        named = ExploreOptions(str(trained), item_attributes=colours, user_traits=traits)
        users = load_explorer(named, told.append).users
        assert users.traits(users.index("7")) == ["age = 21", "town = x", "town = y"]
    finally:
        for path in moved:
            shutil.move(path, home / path.name)
