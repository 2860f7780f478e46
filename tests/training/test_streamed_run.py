"""Runs on a streamed folder by the command line: trained, resumed, evaluated, recommended."""

import json
import shutil

import jax
import numpy as np
import pytest

from mqsa_jax.commands.evaluate import eval_main
from mqsa_jax.commands.recommend import recommend_main
from mqsa_jax.commands.sweep import sweep_main
from mqsa_jax.commands.train import train_main
from mqsa_jax.data import streamed
from mqsa_jax.runs.best_checkpoint import best_checkpoint
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training import loop
from mqsa_jax.training.running_epoch import SPEED
from mqsa_jax.training.saver import RunSaver
from tests.data.stream_cases import random_histories, write_folder

EPOCHS = 3
FLAGS = [
    *("--dataset=log", "--dim=8", "--max-len=8", "--batch-size=16", "--lr=0.002", "--devices=1"),
    *("--patience=20", "--stream-window=48", "--seed=3"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The working directory: a folder with the data, of 101 users in small row groups."""
    folder = tmp_path_factory.mktemp("home")
    write_folder(folder / "log", random_histories(101), group_events=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(loop, "STEPS_PER_PROGRAM", 3)
        patch.setattr(streamed, "BLOCK_ITEMS", 150)
        yield folder


def train(run, epochs=EPOCHS, *more):
    """The exit code."""
    return train_main([*FLAGS, f"--run-dir={run}", f"--epochs={epochs}", *more])


@pytest.fixture(scope="module")
def whole(home):
    assert train("whole", EPOCHS, "--stream=always") == 0
    return home / "whole"


def params(run):
    return best_checkpoint(RunDirectory(run)).restore_plain()["params"]


def history(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in SPEED} for line in lines]


def ranks(run):
    with np.load(run / "ranks.npz") as arrays:
        return {name: arrays[name].tolist() for name in arrays}


def assert_equal_runs(one, other):
    assert history(one) == history(other)
    jax.tree.map(np.testing.assert_array_equal, params(one), params(other))
    assert ranks(one) == ranks(other)


def test_a_run_that_goes_on_is_exactly_the_same(whole, home):
    assert train("parts", 1, "--stream=always") == 0
    assert train("parts", 2, "--stream=always", "--stream-workers=1") == 0
    assert train("parts", EPOCHS, "--stream=always") == 0
    assert_equal_runs(home / "parts", whole)


def test_one_window_trains_as_data_in_memory(home):
    """The same users in the same steps: equal but for the rounding of padded sums."""
    assert train("window", 2, "--stream=always", "--stream-window=101") == 0
    assert train("memory", 2, "--stream=never", "--stream-window=101") == 0
    here, there = history(home / "window"), history(home / "memory")
    for ours, theirs in zip(here, there, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=1e-5), name
    assert ranks(home / "window") == ranks(home / "memory")


def test_windows_train_in_another_order(whole, home):
    assert train("other", 1, "--stream=always", "--stream-window=101") == 0
    assert history(home / "other")[0]["loss"] != history(whole)[0]["loss"]


def test_evaluation_and_lists_are_those_of_data_in_memory(whole, home, capsys):
    copy = shutil.copytree(whole, home / "copy")
    before = ranks(copy)
    (copy / "ranks.npz").unlink()
    assert eval_main(["--run-dir=copy"]) == 0
    assert ranks(copy)["test"] == before["test"]
    result = json.loads((copy / "test_metrics.json").read_text())
    assert result["users"] == 101 and "drawn_users" not in result
    assert recommend_main(["--run-dir=copy", "--all", "--k=3", "--output=all.csv"]) == 0
    assert recommend_main(["--run-dir=copy", "--users=180,105", "--k=3", "--output=two.csv"]) == 0
    everyone, some = (
        # Scores differ by rounding, as blocks of other sizes do; user, place and item do not.
        [line.split(",")[:3] for line in (home / name).read_text().splitlines()[1:]]
        for name in ("all.csv", "two.csv")
    )
    # The first user has consumed all items.
    assert len(everyone) == 3 * 100
    assert some == [row for user in ("180", "105") for row in everyone if row[0] == user]


def test_a_sample_of_users_is_evaluated(home):
    assert train("sample", 1, "--stream=always", "--eval-users=30") == 0
    result = json.loads((home / "sample" / "test_metrics.json").read_text())
    assert (result["users"], result["drawn_users"]) == (30, 30)
    assert len(ranks(home / "sample")["test"]) == 30


def refused(capsys, *arguments, command=train_main):
    capsys.readouterr()
    assert command([*FLAGS, *arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_a_folder_of_other_data_is_refused(whole, home, capsys):
    copy = shutil.copytree(whole, home / "moved")
    write_folder(home / "changed", random_histories(101, seed=1))
    message = refused(
        capsys, f"--run-dir={copy}", "--stream=always", "--epochs=4", "--dataset=changed"
    )
    assert "on other data" in message
    assert eval_main([f"--run-dir={copy}", "--dataset=changed"]) == 2
    assert "on other data" in capsys.readouterr().err


def test_a_shard_that_changes_while_it_streams(whole, home, capsys, monkeypatch):
    """The last epoch that was saved stays; training goes on there once the file is back."""
    path = home / "log" / "histories" / "00002.parquet"
    content, status = path.read_bytes(), path.stat()
    save = RunSaver.save_epoch

    def save_and_damage(saver, *arguments):
        save(saver, *arguments)
        path.write_bytes(content[: len(content) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(RunSaver, "save_epoch", save_and_damage)
        message = refused(capsys, "--run-dir=damaged", "--stream=always", f"--epochs={EPOCHS}")
    assert f"{path}: has changed while it is in use; prepare the data set again" in message
    assert len(history(home / "damaged")) == 1
    path.write_bytes(content)
    assert status.st_size == path.stat().st_size
    assert train("damaged", EPOCHS, "--stream=always") == 0
    assert_equal_runs(home / "damaged", whole)


def test_what_cannot_be_streamed_is_refused(home, capsys):
    message = refused(capsys, "--dataset=synthetic", "--stream=always", "--run-dir=none")
    assert "--stream always needs a prepared folder, which synthetic is not" in message
    message = refused(capsys, "--stream=always", "--lr=0.1,0.2", command=sweep_main)
    assert "--stream" in message and "sweep" in message
    assert not (home / "none").exists()


def test_without_the_teacher_its_rows_are_left_out(home, monkeypatch):
    """And training is the same: nothing reads them."""
    flags = ("--lambda-kd=0", "--stream-window=101")
    shapes = []
    whole_batch = loop.whole_batch

    def told(batch, layout):
        shapes.append(batch.successor.shape[2])
        return whole_batch(batch, layout)

    monkeypatch.setattr(loop, "whole_batch", told)
    assert train("bare", 1, "--stream=always", *flags) == 0
    assert train("full", 1, "--stream=never", *flags) == 0
    assert set(shapes) == {1}
    assert ranks(home / "bare") == ranks(home / "full")
