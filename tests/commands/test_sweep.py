"""mqsa-jax sweep: a grid into one table, stopped and continued, and one line for every mistake."""

import csv
import json
import time
from pathlib import Path

import numpy as np
import pytest

from mqsa_jax.commands.sweep import sweep_main
from mqsa_jax.commands.train import train_main
from mqsa_jax.config import RUN_FLAGS, Config
from mqsa_jax.errors import UserError
from mqsa_jax.grid import grid, identity, with_flags
from mqsa_jax.runs.sweep_directory import SweepDirectory
from mqsa_jax.training import population_loop
from mqsa_jax.training import sweep_runner as sweep

SETTINGS = {"dim": 8, "max-len": 6, "batch-size": 30, "epochs": 2, "devices": 1}
FLAGS = ["--dataset=histories.txt", *(f"--{name}={value}" for name, value in SETTINGS.items())]
GRID = ["--seeds=1,4", "--alpha", "0,1", "--population=2"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A working directory with data: 60 users, each with 4 to 9 of 30 items."""
    rng = np.random.default_rng(0)
    lines = [[user, *rng.integers(1, 31, rng.integers(4, 10))] for user in range(1, 61)]
    text = "".join(" ".join(map(str, line)) + "\n" for line in lines)
    (tmp_path / "histories.txt").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def swept(*arguments: str) -> list[dict[str, str]]:
    """The rows of the table after the command."""
    assert sweep_main([*FLAGS, *arguments]) == 0
    return rows()


def rows() -> list[dict[str, str]]:
    with open("sweeps/histories/results.csv", newline="") as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def refused(home, capsys):
    """Runs a command that must fail and change nothing; returns its one line on stderr."""

    def run(*arguments: str) -> str:
        before = files(home)
        capsys.readouterr()
        assert sweep_main([*FLAGS, *arguments]) == 2
        message = capsys.readouterr().err
        assert message.startswith("mqsa-jax sweep: error: ") and message.count("\n") == 1, message
        assert files(home) == before
        return message

    return run


def test_a_sweep_stopped_and_continued(home, monkeypatch, capsys, refused):
    monkeypatch.setattr(population_loop, "CHECKPOINT_SECONDS", 0)
    read, calls = population_loop._Group._read, []

    def read_or_stop(group, running):
        calls.append(group._epoch)
        if len(calls) == 4:  # The second epoch of the second group.
            raise KeyboardInterrupt
        read(group, running)

    with monkeypatch.context() as patch:
        patch.setattr(population_loop._Group, "_read", read_or_stop)
        assert sweep_main([*FLAGS, *GRID]) == 130
    assert calls == [0, 1, 0, 1]
    first = rows()
    assert [(row["seed"], row["alpha"]) for row in first] == [("1", "0.0"), ("1", "1.0")]
    capsys.readouterr()
    # A group of any size goes on first, as it was.
    done = swept(*GRID[:-1], "--population=1")
    assert capsys.readouterr().out.count("epoch 2") == 1
    assert done[:2] == first
    assert [(row["seed"], row["alpha"]) for row in done[2:]] == [("4", "0.0"), ("4", "1.0")]
    assert {path.name for path in (home / "sweeps/histories").iterdir()} == {
        "results.csv",
        "sweep.json",
    }
    assert swept(*GRID) == done
    assert "epoch" not in capsys.readouterr().out
    message = refused(*GRID, "--dim=16", "--epochs=3")
    assert "dim 8 there, 16 here" in message and "epochs 2 there, 3 here" in message
    assert_row_is_that_of_train(done[2], "--seed=4", "--alpha=0")
    rng = np.random.default_rng(1)
    other = "".join(f"{user} 1 2 3 {rng.integers(4, 9)}\n" for user in range(1, 61))
    (home / "histories.txt").write_text(other)
    assert "other data" in refused(*GRID)


def assert_row_is_that_of_train(row: dict[str, str], *arguments: str):
    assert train_main([*FLAGS, *arguments, "--run-dir=run"]) == 0
    result = json.loads(Path("run/test_metrics.json").read_text())
    history = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert (int(row["epoch"]), int(row["epochs_trained"])) == (result["epoch"], len(history))
    for name in sweep.METRICS:
        assert float(row[f"test_{name}"]) == pytest.approx(result[name])
        valid = history[result["epoch"] - 1][f"valid_{name}"]
        assert float(row[f"valid_{name}"]) == pytest.approx(valid)
    config = json.loads(Path("run/config.json").read_text())
    not_given = {name for name, value in config.items() if value is None}
    assert "init_from" in not_given and not_given.isdisjoint(row)
    for name in config.keys() - RUN_FLAGS - not_given - {"format_version"}:
        assert row[name] == str(config[name])
    assert row["data_fingerprint"] == result["data_fingerprint"]
    assert row["commit"] == result["provenance"]["commit"] and row["problem"] == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--alpha", "0,2"], "--alpha must be between 0 and 1, got 2.0"),
        (["--lambda_kd=0,x"], "--lambda-kd takes numbers"),
        (["--window=1,1.5"], "--window takes whole numbers"),
        (["--lr", "0.1,nan"], "--lr must be a finite number"),
        (["--alpha"], "--alpha"),
        (["--seeds", "0"], "--seeds must be between 1 and 10000"),
        (["--seeds", "1,,2"], "--seeds takes whole numbers"),
        (["--seeds=1,-2"], "--seed must be between"),
        (["--population=0"], "--population must be at least 1"),
        (["--dim=8,16"], "--dim"),
        (["--run-dir=x"], "--sweep-dir"),
        (["--parallel=pmap"], "--parallel"),
        (["--model=popular"], "nothing to sweep"),
        (["--model=sasrec", "--alpha=0,1"], "fixes --alpha"),
    ],
)
def test_mistakes_are_told_in_one_line(refused, arguments, words):
    assert words in refused(*arguments)


def test_a_folder_that_holds_no_sweep_is_refused(home, refused):
    (home / "mine").mkdir()
    (home / "mine" / "thesis.tex").write_text("mine")
    assert "--sweep-dir" in refused("--sweep-dir=mine")
    assert "--sweep-dir" in refused("--sweep-dir=mine", "--no-resume")


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "seed\n1\n", '"', "\xff"])
def test_a_table_that_is_not_ours_is_refused(home, content):
    folder = SweepDirectory(home / "sweep")
    folder.start(Config(), "fingerprint")
    folder.results.write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match="restore or delete it"):
        folder.done()


def test_rows_that_are_wanted_and_a_sweep_that_is_not(home):
    folder = SweepDirectory(home / "sweep")
    folder.start(Config(), "fingerprint")
    more = [with_flags(Config(), alpha=alpha) for alpha in (0.0, 0.5, 1.0)]
    folder.add([more[0].flat()])
    folder.add([more[2].flat()])
    assert folder.pending(more) == more[1:2]
    folder.checkpoints.mkdir()
    (folder.path / "notes.txt").write_text("mine")
    folder.delete()
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]


def test_the_grid_keeps_trials_of_a_seed_together():
    configs = list(grid(Config(), {"alpha": [0.0, 1.0], "seed": [3, 1]}))
    assert [(c.training.seed, c.model.alpha) for c in configs] == [(3, 0), (3, 1), (1, 0), (1, 1)]
    assert len({identity(config.flat()) for config in configs}) == 4
    one = with_flags(Config(), alpha=1.0)
    assert identity(one.flat()) == identity({**one.flat(), "alpha": "1"})


def test_help_comes_at_once(capsys):
    began = time.perf_counter()
    with pytest.raises(SystemExit) as stop:
        sweep_main(["--help"])
    assert not stop.value.code and time.perf_counter() - began < 2
    text = capsys.readouterr().out
    assert all(flag in text for flag in ("--seeds", "--population", "--sweep-dir", "--lambda-kd"))
