"""Files of a run's folder: what is deleted with a run, and what is not."""

import json

import numpy as np
import pytest

from mqsa_jax.config import Config
from mqsa_jax.errors import FolderError, UserError
from mqsa_jax.runs.run_directory import RunDirectory

WRITTEN = ("metrics.jsonl", "best.json", "test_metrics.json", "valid_metrics.json", "ranks.npz")
OWN = ("notes.txt", "metrics.json", "thesis.tex")


@pytest.fixture
def run_dir(tmp_path) -> RunDirectory:
    """A folder with files of a run and files of the user's own."""
    run_dir = RunDirectory(tmp_path / "run")
    run_dir.start(Config(), "fingerprint")
    run_dir.write_ablation([{"name": "the recipe", "MRR": 0.5}])
    for name in (*WRITTEN, *OWN, "checkpoints/1/state", "tensorboard/events"):
        path = run_dir.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return run_dir


def names(run_dir: RunDirectory) -> set[str]:
    return {path.name for path in run_dir.path.iterdir()}


def test_the_ablation_is_a_file_of_the_run(run_dir):
    stored = json.loads((run_dir.path / "ablation.json").read_text())
    assert stored == [{"name": "the recipe", "MRR": 0.5}]


def test_a_run_is_deleted_with_its_results_and_nothing_else(run_dir):
    run_dir.delete_run()
    assert names(run_dir) == set(OWN)


def test_results_are_deleted_without_the_run(run_dir):
    run_dir.delete_results()
    kept = {"config.json", "metrics.jsonl", "best.json", "checkpoints", "tensorboard"}
    assert names(run_dir) == {*kept, *OWN}


def test_a_folder_without_a_run_is_not_deleted(run_dir):
    run_dir.config_file.unlink()
    before = names(run_dir)
    with pytest.raises(FolderError, match="is not empty and holds no run to delete"):
        run_dir.delete_run()
    assert names(run_dir) == before


def test_arrays_are_not_added_to_a_damaged_file(tmp_path):
    run_dir = RunDirectory(tmp_path)
    run_dir.write_result("test", {}, np.arange(3), np.arange(3.0))
    content = (tmp_path / "ranks.npz").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"PK" + content[2:60]):
        (tmp_path / "ranks.npz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"ranks.npz: damaged"):
            run_dir.write_result("valid", {}, np.arange(3), np.arange(3.0))
        assert (tmp_path / "ranks.npz").read_bytes() == damaged
