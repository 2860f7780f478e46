"""Limits of a data set: items excluded from training to evaluation, and nothing to train on."""

import csv
import json
from pathlib import Path

import pytest

from mqsa_jax.commands.evaluate import eval_main
from mqsa_jax.commands.sweep import sweep_main
from mqsa_jax.commands.train import train_main

FLAGS = ["--dataset=loops.txt", "--dim=16", "--max-len=12", "--batch-size=20", "--devices=1"]
FLAGS += ["--seed=1", "--lr=0.02"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A working directory with 60 users who go round 4 of 40 items, and 9 of three items each."""
    monkeypatch.chdir(tmp_path)
    lines = [[user, *([4 * (user % 10) + item for item in range(1, 5)] * 3)] for user in range(60)]
    text = "".join(" ".join(map(str, [user + 1, *items])) + "\n" for user, *items in lines)
    (tmp_path / "loops.txt").write_text(text)
    (tmp_path / "short.txt").write_text("".join(f"{user} 1 2 {user}\n" for user in range(3, 9)))
    return tmp_path


def result(name: str = "test") -> dict:
    return json.loads(Path(f"run/{name}_metrics.json").read_text())


def best_validation() -> float:
    lines = Path("run/metrics.jsonl").read_text().splitlines()
    return max(json.loads(line)["valid_HR@5"] for line in lines)


@pytest.mark.filterwarnings("default:.*count as misses")
def test_repeat_consumption_is_a_miss_by_default_and_says_so(capsys):
    assert train_main([*FLAGS, "--epochs=3", "--run-dir=run"]) == 0
    assert best_validation() == 0
    assert (result()["exclude_seen"], result()["consumed_targets"]) == ("history", 60)
    expected = (
        "60 of 60 validation targets and 60 of 60 test targets were consumed before and count as "
        "misses (exclude_seen=history)\n"
    )
    assert capsys.readouterr().err == f"train.py: warning: {expected}"


@pytest.mark.filterwarnings("error:.*count as misses")
def test_the_policy_of_training_is_followed_by_test_and_evaluation():
    assert train_main([*FLAGS, "--exclude-seen=none", "--epochs=15", "--run-dir=run"]) == 0
    assert best_validation() > 0.9
    trained = result()
    assert trained["HR@5"] > 0.9
    assert (trained["exclude_seen"], trained["consumed_targets"]) == ("none", 0)
    Path("run/test_metrics.json").unlink()
    assert eval_main(["--run-dir=run"]) == 0
    assert result()["HR@5"] == trained["HR@5"] and result()["exclude_seen"] == "none"


def test_another_policy_has_a_file_of_its_own():
    assert train_main([*FLAGS, "--exclude-seen=none", "--epochs=2", "--run-dir=run"]) == 0
    before = result()
    assert eval_main(["--run-dir=run", "--exclude-seen=history"]) == 0
    assert result() == before
    other = result("test_history")
    assert (other["exclude_seen"], other["HR@20"], other["consumed_targets"]) == ("history", 0, 60)
    assert not Path("run/test_none_metrics.json").exists()


def test_a_sweep_follows_the_policy():
    assert sweep_main([*FLAGS, "--exclude-seen=none", "--epochs=4", "--seeds=1,2"]) == 0
    assert train_main([*FLAGS, "--exclude-seen=none", "--epochs=4", "--run-dir=run"]) == 0
    with open("sweeps/loops/results.csv", newline="") as file:
        first, _ = csv.DictReader(file)
    assert first["exclude_seen"] == "none"
    assert float(first["test_HR@5"]) == pytest.approx(result()["HR@5"])
    assert float(first["test_HR@5"]) > 0


def test_a_run_is_not_continued_by_another_policy(capsys):
    assert train_main([*FLAGS, "--epochs=1", "--run-dir=run"]) == 0
    assert train_main([*FLAGS, "--epochs=2", "--run-dir=run", "--exclude-seen=window"]) == 2
    assert "exclude_seen history there, window here" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["mqsa-ted", "mqsa-ted-plus", "transition"])
def test_nothing_to_train_on_is_refused_and_leaves_nothing(home, capsys, model):
    arguments = ["--dataset=short.txt", f"--model={model}", "--run-dir=run", "--devices=1"]
    assert train_main(arguments) == 2
    assert "error: nothing to train on: each of the 6 histories has 3 items" in (
        capsys.readouterr().err
    )
    assert not (home / "run").exists()


def test_a_sweep_of_nothing_is_refused(capsys):
    assert sweep_main(["--dataset=short.txt", "--devices=1", "--seeds=1"]) == 2
    assert "nothing to train on" in capsys.readouterr().err


@pytest.mark.filterwarnings("default:.*have no training position")
def test_users_and_targets_without_training_are_counted(home, capsys):
    with open("loops.txt", "a") as file:
        file.write("100 1 2 50\n101 1 3 51\n")
    assert train_main([*FLAGS, "--epochs=1", "--run-dir=run"]) == 0
    assert result()["untrained_targets"] == 2
    printed, warned = capsys.readouterr()
    assert "Of 62 targets 2 never occur in training" in printed
    assert "warning: 2 of 62 users have no training position" in warned
