"""A run without its data or counts is shown as far as it goes; ids may be strings."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

pytest.importorskip("openTSNE")

from mqsa_jax.data.histories import make_histories
from mqsa_jax.data.ids import STRING
from mqsa_jax.errors import UserError
from mqsa_jax.explore.catalogue import Catalogue
from mqsa_jax.explore.explorer import Explorer, load_explorer
from mqsa_jax.explore.item_map import ItemMap
from mqsa_jax.explore.model_lists import Asked, ModelLists
from mqsa_jax.explore.options import ExploreOptions
from mqsa_jax.explore.users import Users
from mqsa_jax.runs.run_directory import RunDirectory


def test_without_data_and_counts_the_lists_are_there_and_the_rest_is_told(run_dir, tmp_path):
    copy = shutil.copytree(run_dir, tmp_path / "copy")
    (copy / "training_counts.npz").unlink()
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"dataset": str(tmp_path / "gone.txt")}))
    told = []
    explorer = load_explorer(ExploreOptions(str(copy)), told.append)
    assert [line.split(":")[0] for line in told] == [
        "no teacher, transitions and popularity",
        "no users to pick",
    ]
    assert explorer.description["notes"] == told and explorer.description["users"] is None
    assert explorer.attributes == {} and "teacher" not in str(explorer.description["columns"])
    answer = explorer.lists.answer(Asked([3, 4], 0.5, 3, 1.0, "history", 9))
    assert len(answer["lists"]["model"]) == 10 and answer["reasons"]["transitions"] == []
    assert explorer.training["missing"] == "the breakdown needs the run's data"
    assert len(explorer.training["epochs"]) == 2
    named = ExploreOptions(str(copy), dataset=str(tmp_path / "gone.txt"))
    with pytest.raises(UserError, match="no such file"):
        load_explorer(named, told.append)


def test_ids_may_be_strings(run, tmp_path):
    names = np.array([f"B{item:03d}" for item in run.item_ids.tolist()], STRING)
    named = dataclasses.replace(run, item_ids=names)
    histories = make_histories(["ann", "Bob", "bo"], [["B001", "B002", "B003"]] * 3)
    explorer = Explorer(
        RunDirectory(run.folder),
        ModelLists(named, 5),
        Catalogue(names, [""] * len(names), None),
        {},
        Users(histories),
        [],
        ItemMap(RunDirectory(tmp_path), np.asarray(run.item_vectors()), None),
    )
    expected = run.similar(int(run.item_ids[4]), k=10)
    found = [each["id"] for each in explorer.neighbours(4)["neighbours"]]
    assert found == [f"B{item:03d}" for item, _ in expected]
    assert explorer.users.search("bo", 9) == ["bo", "Bob"]
    bob = explorer.users.index("Bob")
    assert explorer.users.history(bob) == [0, 1, 2] and explorer.users.index("eve") is None
    assert explorer.catalogue.search("b004", 1) == [named.indices(["B004"])[0]]
