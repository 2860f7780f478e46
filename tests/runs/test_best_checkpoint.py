"""The best epoch's checkpoint is found, checked against the run's files, and never replaced."""

import json
from pathlib import Path

import numpy as np
import pytest

from mqsa_jax.commands.evaluate import eval_main
from mqsa_jax.errors import UserError
from mqsa_jax.runs.best_checkpoint import best_checkpoint
from mqsa_jax.runs.checkpoints import Checkpoints, Snapshot
from mqsa_jax.runs.run_directory import RunDirectory
from tests.runs.checkpoint_cases import (
    CONFIG,
    HARM,
    HISTORIES,
    blank,
    flip_a_byte,
    history,
)


def files(run: RunDirectory) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def refusal(run: RunDirectory) -> str:
    """What `best_checkpoint` and eval.py say, who must change nothing."""
    before = files(run)
    with pytest.raises(UserError) as caught:
        best_checkpoint(run)
    assert files(run) == before and "\n" not in str(caught.value)
    return str(caught.value)


def test_the_best_checkpoint_needs_no_data(rising, falling):
    for folder, epoch in ((rising, 3), (falling, 2)):
        best = best_checkpoint(RunDirectory(folder))
        assert (best.epoch, best.config) == (epoch, CONFIG)
        assert best.item_ids.tolist() == HISTORIES.item_ids.tolist()
        assert best.item_ids.dtype == np.int64
        assert best.data_fingerprint == HISTORIES.fingerprint()
        assert int(best.restore_plain()["step"]) == epoch


@pytest.mark.parametrize("harm", HARM)
def test_no_other_epoch_takes_the_place_of_a_best_one_that_is_also_the_latest(copy, rising, harm):
    run = copy(rising)
    harm(run, 3)
    message = refusal(run)
    assert "checkpoints/3" in message and "epoch 3 is the best" in message and "train" in message


@pytest.mark.parametrize("harm", HARM)
def test_nor_of_one_before_the_latest(copy, falling, harm):
    run = copy(falling)
    harm(run, 2)
    message = refusal(run)
    assert "checkpoints/2" in message and "epoch 2 is the best" in message


def test_eval_refuses_and_overwrites_nothing(copy, rising, tmp_path, monkeypatch, capsys):
    run = copy(rising)
    monkeypatch.chdir(tmp_path)
    lines = zip(HISTORIES.user_ids, ([5, 8, 13, 21], [34, 8, 5]), strict=True)
    Path("data.txt").write_text("".join(f"{u} {' '.join(map(str, i))}\n" for u, i in lines))
    flip_a_byte(run, 3)
    before = files(run)
    assert eval_main(["--run-dir", str(run.path), "--devices=1"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "epoch 3 is the best" in message
    assert files(run) == before


def test_a_later_epoch_that_is_damaged_hinders_no_evaluation_of_the_best(copy, falling):
    run = copy(falling)
    flip_a_byte(run, 3)
    assert best_checkpoint(run).epoch == 2


def test_without_a_record_the_history_tells(copy, rising):
    """As in runs that are older than the record."""
    run = copy(rising)
    (run.path / "best.json").unlink()
    assert best_checkpoint(run).epoch == 3
    flip_a_byte(run, 3)
    assert "epoch 3 is the best" in refusal(run)


def test_a_crash_before_the_record_was_written(copy, rising):
    """The checkpoint of epoch 3 was saved; the files of the run tell of epoch 2."""
    run = copy(rising)
    run.record_best(2, "")
    run.write_history(history(0.1, 0.2))
    assert best_checkpoint(run).epoch == 3


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_heads": 2}, "num_heads 2, trained with 1"),
        ({"window": 1, "alpha": 0.25}, "window 1, trained with 3, alpha 0.25, trained with 0.5"),
        ({"dim": 8}, "dim 8, trained with 4"),
        ({"precision": "bfloat16"}, "precision bfloat16, trained with float32"),
        ({"term_items": 4}, "term_items 4, trained with 0"),
        ({"model": "gru4rec-ted"}, "model gru4rec-ted, trained with mqsa-ted"),
        ({"seed": 7}, "seed 7, trained with 2023"),
    ],
)
def test_an_edited_configuration_is_refused_by_its_names(copy, rising, changes, named):
    run = copy(rising)
    values = json.loads(run.config_file.read_text())
    run.config_file.write_text(json.dumps(values | changes))
    assert f"config.json: not the configuration of {run.checkpoints / '3'} ({named}" in refusal(run)


def test_flags_of_the_machine_and_of_the_length_may_differ(copy, rising):
    run = copy(rising)
    values = json.loads(run.config_file.read_text())
    changes = {"devices": 4, "epochs": 9, "dataset": "/moved/data.txt", "data_dir": "x"}
    run.config_file.write_text(json.dumps(values | changes))
    assert best_checkpoint(run).config.dataset == "/moved/data.txt"


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (history(0.9, 0.2, 0.3), "metrics.jsonl:1: valid_NDCG@20 differ"),
        (history(0.1, 0.2, 0.31), "metrics.jsonl:3: valid_NDCG@20 differ"),
        ([{**line, "loss": 1.0} for line in history(0.1, 0.2, 0.3)], "metrics.jsonl:1: loss"),
        (history(0.1, 0.2, 0.3, 0.4), "checkpoints/4 is missing, and epoch 4 is the best"),
    ],
)
def test_an_edited_history_is_refused(copy, rising, lines, named):
    run = copy(rising)
    run.write_history(lines)
    assert named in refusal(run)


@pytest.mark.parametrize("name", ["metrics.jsonl", "best.json"])
@pytest.mark.parametrize("content", ["{", "[1]", '{"epoch": "x"}'])
def test_a_broken_file_is_refused_by_name(copy, rising, name, content):
    run = copy(rising)
    (run.path / name).write_text(content)
    assert name in refusal(run)


def test_a_checkpoint_of_an_older_version_is_of_the_same_configuration(tmp_path):
    """Its configuration lacks a version and every flag that is younger than the first runs."""
    old = json.loads((Path(__file__).parents[2] / OLD_RUN / "config.json").read_text())
    assert "model" not in old and "format_version" not in old
    run = RunDirectory(tmp_path)
    run.path.joinpath("config.json").write_text(json.dumps(old))
    run.path.joinpath("config.json").write_text(json.dumps({**old, "dim": 4, "max_len": 3}))
    checkpoints = Checkpoints(run.checkpoints)
    snapshot = Snapshot(history(0.1), {**old, "dim": 4, "max_len": 3}, 1, "fingerprint")
    checkpoints.save(1, blank(1), HISTORIES, snapshot)
    checkpoints.close()
    best = best_checkpoint(run)
    assert best.epoch == 1 and best.config == run.config()
    assert int(best.restore_plain()["step"]) == 1


OLD_RUN = "docs/results/benchmarks/beauty-2023-tau0.1"
