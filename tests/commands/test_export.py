"""The command `export`, and `recommend` from what it writes."""

import json

import pytest

from mqsa_jax import extras
from mqsa_jax.commands.export import export_main
from mqsa_jax.commands.recommend import recommend_main
from mqsa_jax.commands.train import train_main
from tests.commands.histories import write_histories

FLAGS = ["--dim=8", "--max-len=8", "--batch-size=16", "--epochs=1", "--devices=1", "--seed=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on `data.txt`, and its export."""
    folder = tmp_path_factory.mktemp("runs")
    write_histories(folder / "data.txt")
    dataset = f"--dataset={folder / 'data.txt'}"
    assert (
        train_main([dataset, "--model=mqsa-ted-plus", *FLAGS, f"--run-dir={folder / 'run'}"]) == 0
    )
    assert export_main([f"--run-dir={folder / 'run'}", f"--output={folder / 'export'}"]) == 0
    return folder


def test_an_export_recommends_what_its_run_recommends(folder, capsys):
    lists = []
    for name in ("run", "export"):
        flags = ["--all", f"--dataset={folder / 'data.txt'}", "--devices=1", "--explain"]
        output = folder / f"{name}.jsonl"
        assert recommend_main([f"--run-dir={folder / name}", *flags, f"--output={output}"]) == 0
        lists.append([json.loads(line) for line in output.read_text().splitlines()])
    assert len(lists[0]) == len(lists[1]) > 100
    for ours, theirs in zip(*lists, strict=True):
        assert ours.pop("score") == pytest.approx(theirs.pop("score"), rel=1e-5, abs=1e-6)
        assert (ours["user"], ours["item"], ours["transitions"]) == (
            theirs["user"],
            theirs["item"],
            theirs["transitions"],
        )


def test_the_description_holds_the_figures_and_no_path(folder):
    text = (folder / "export" / "config.json").read_text()
    stored, tested = (
        json.loads(text),
        json.loads((folder / "run" / "test_metrics.json").read_text()),
    )
    assert stored["metrics"]["test"]["NDCG@20"] == tested["NDCG@20"]
    assert stored["metrics"]["valid"]["NDCG@20"] > 0 and stored["data"]["name"] == "data.txt"
    assert stored["data"]["fingerprint"] == tested["data_fingerprint"]
    for name in ("config.json", "README.md"):
        assert str(folder) not in (folder / "export" / name).read_text()


def refused(capsys, *arguments) -> str:
    """The one line on stderr of a command that ends with exit code 2."""
    assert export_main([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_cannot_be_exported_is_told_in_one_line(folder, tmp_path, capsys, monkeypatch):
    run, output = f"--run-dir={folder / 'run'}", f"--output={tmp_path / 'export'}"
    assert "no such folder" in refused(capsys, "--run-dir=/nowhere", output)
    blank = tmp_path / "blank"
    blank.mkdir()
    assert "is this the folder of a run" in refused(capsys, f"--run-dir={blank}", output)
    (blank / "config.json").write_text((folder / "run" / "config.json").read_text())
    assert "no whole checkpoint; train first" in refused(capsys, f"--run-dir={blank}", output)
    assert "holds other things" in refused(capsys, run, f"--output={folder}")
    assert "holds other things" in refused(capsys, run, f"--output={folder / 'run'}", "--replace")
    assert "--replace replaces it" in refused(capsys, run, f"--output={folder / 'export'}")
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'mqsa-jax[onnx]'" in refused(capsys, run, output, "--onnx")
    assert "pip install 'mqsa-jax[usearch]'" in refused(capsys, run, output, "--index=usearch")
    assert not (tmp_path / "export").exists()


def test_lists_by_an_index_need_one(folder, capsys):
    flags = [f"--run-dir={folder / 'export'}", "--all", "--approximate"]
    assert recommend_main(flags) == 2
    assert "the export has no index" in capsys.readouterr().err
