"""What a run leaves behind, and that eval.py comes to the very same results."""

import hashlib
import io
import json
import math
import os
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from mqsa_jax.commands.evaluate import eval_main
from mqsa_jax.commands.train import train_main
from mqsa_jax.config import Config
from mqsa_jax.data import sources
from mqsa_jax.data.histories import read_histories
from mqsa_jax.training.progress import Progress
from mqsa_jax.training.running_epoch import SPEED

EPOCHS = 3
STEPS = 4  # an epoch: 60 users in batches of 16
SETTINGS = {"dim": 8, "max-len": 8, "batch-size": 16, "lr": 0.002, "devices": 1}
FLAGS = ["--dataset=toys", *(f"--{name}={value}" for name, value in SETTINGS.items())]
METRICS = [f"{name}@{k}" for k in (5, 10, 20) for name in ("HR", "NDCG")] + ["MRR"]
USERS = 60
ITEMS = 30


def write_histories(path: Path):
    """60 users, each with 2 to 9 of the items 1 to 25 and then two different ones of 26 to 30."""
    rng = np.random.default_rng(0)
    lines = []
    for user in range(1, USERS + 1):
        trained, held_out = rng.integers(1, 26, rng.integers(2, 10)), 26 + rng.permutation(5)[:2]
        lines.append(" ".join(map(str, [user, *trained, *held_out])) + "\n")
    path.write_text("".join(lines))


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """The working directory. Its folder `data` holds the data set `toys`, much smaller here."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "data").mkdir()
    file = folder / "data" / "Toys_and_Games.txt"
    write_histories(file)
    with open(file, "rb") as content, pytest.MonkeyPatch.context() as patch:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        patch.setitem(sources.SOURCES, "toys", sources.Source(file.name, sha256))
        patch.setenv("MQSA_DATA_DIR", str(folder / "empty"))
        (folder / "empty").mkdir()
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def trained(home):
    """A run in the default folder, not to be changed, and what it printed."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", printed)
        assert train_main([*FLAGS, "--data-dir", "data", "--epochs", str(EPOCHS)]) == 0
    return home / "runs" / "toys-2023", printed.getvalue()


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of the run for eval.py to add to."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def evaluate(run: Path, *more: str):
    assert eval_main(["--run-dir", str(run), "--devices", "1", *more]) == 0


def read(path: Path):
    return json.loads(path.read_text())


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def arrays(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "ranks.npz", allow_pickle=False) as stored:
        return dict(stored)


def test_the_folder_holds_all_that_was_promised(trained):
    run, _ = trained
    files = {
        "config.json",
        "metrics.jsonl",
        "best.json",
        "test_metrics.json",
        "ranks.npz",
        "training_counts.npz",
    }
    assert {path.name for path in run.iterdir()} == files | {"checkpoints", "tensorboard"}
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"1", "2", "3"}


def test_the_configuration_is_kept_in_full(trained):
    config = read(trained[0] / "config.json")
    given = dict(dataset="toys", dim=8, max_len=8, batch_size=16, lr=0.002, devices=1, epochs=3)
    defaults = dict(alpha=0.5, window=3, lambda_kd=0.1, seed=2023, parallel="jit", run_dir=None)
    defaults |= dict(precision="float32")
    assert (given | defaults | dict(data_dir="data")).items() <= config.items()
    assert list(config) == ["format_version", *Config().flat(), "data_fingerprint"]


def test_every_epoch_has_a_line(trained):
    history = lines(trained[0])
    assert [line["epoch"] for line in history] == [1, 2, 3]
    assert [line["step"] for line in history] == [STEPS, 2 * STEPS, 3 * STEPS]
    losses = ["loss", "loss_rec", "loss_kd"]
    for line in history:
        speed = set(SPEED) - {"device_memory_mib"}  # Which CPUs do not tell.
        assert {"epoch", "step", *losses, *speed} | {f"valid_{m}" for m in METRICS} == set(line)
        assert all(math.isfinite(value) for value in line.values()) and line["seconds"] > 0
        assert line["step_ms"] == pytest.approx(1000 * line["seconds"] / STEPS, abs=1)
        assert 0 <= line["data_wait_share"] <= 1
        assert line["loss"] > line["loss_rec"] + 0.1 * line["loss_kd"]
    assert history[0]["loss"] > history[1]["loss"] > history[2]["loss"]


def test_the_result_says_how_and_on_what_it_was_measured(trained, home):
    result = read(trained[0] / "test_metrics.json")
    data = read_histories(home / "data" / "Toys_and_Games.txt")
    facts = dict(split="test", exclude_seen="history", ranking="full", users=USERS, items=ITEMS)
    best = max(lines(trained[0]), key=lambda line: line["valid_NDCG@20"])
    facts |= dict(epoch=best["epoch"], data_fingerprint=data.fingerprint())
    assert facts.items() <= result.items()
    assert set(METRICS) <= result.keys()
    assert {"jax", "jaxlib", "numpy", "mqsa_jax", "python"} <= result["versions"].keys()


def test_the_metrics_are_those_of_the_ranks(trained):
    stored, result = arrays(trained[0]), read(trained[0] / "test_metrics.json")
    assert stored["user_ids"].tolist() == list(range(1, USERS + 1))
    rank = stored["test"].astype(np.float64)
    assert rank.shape == (USERS,) and rank.min() >= 1 and rank.max() <= ITEMS
    assert len(np.unique(rank)) > 10
    for k in (5, 10, 20):
        gain = np.where(rank <= k, 1 / np.log2(1 + rank), 0)
        assert result[f"HR@{k}"] == pytest.approx((rank <= k).mean(), rel=1e-6)
        assert result[f"NDCG@{k}"] == pytest.approx(gain.mean(), rel=1e-6)
    assert result["MRR"] == pytest.approx((1 / rank).mean(), rel=1e-6)


def events(folder: Path) -> dict[str, dict[int, float]]:
    """Values by tag and step. A record is its length (8 bytes), a CRC (4), the event, a CRC (4)."""
    values = {}
    for file in folder.iterdir():
        content, offset = file.read_bytes(), 0
        while offset < len(content):
            (size,) = struct.unpack_from("<Q", content, offset)
            event = Event.FromString(content[offset + 12 : offset + 12 + size])
            offset += size + 16
            for value in event.summary.value:
                values.setdefault(value.tag, {})[event.step] = value.simple_value
    return values


def test_tensorboard_shows_every_epoch(trained):
    shown = events(trained[0] / "tensorboard")
    for name in ("loss", "loss_rec", "loss_kd", "valid_HR@5", "valid_NDCG@20"):
        expected = {line["epoch"]: pytest.approx(line[name]) for line in lines(trained[0])}
        assert shown[name.replace("@", "_at_")] == expected


def table(printed: str) -> dict[str, list[str]]:
    """The numbers in the rows of a printed table."""
    printed = printed.replace("MRR, without a cutoff:", "MRR")
    words = [line.replace("│", " ").split() for line in printed.splitlines()]
    names = ("HR", "NDCG", "MRR")
    return {first: numbers for first, *numbers in filter(None, words) if first in names}


def table_of(result: dict) -> dict[str, list[str]]:
    rows = {name: [result[f"{name}@{k}"] for k in (5, 10, 20)] for name in ("HR", "NDCG")}
    rows["MRR"] = [result["MRR"]]
    return {name: [f"{value:.4f}" for value in values] for name, values in rows.items()}


def test_plain_lines_and_a_table_are_printed_without_a_terminal(trained):
    run, printed = trained
    assert "\r" not in printed and "\x1b" not in printed
    epochs = [line for line in printed.splitlines() if line.startswith("epoch ")]
    assert len(epochs) == EPOCHS
    for line, metrics in zip(epochs, lines(run), strict=True):
        assert line.startswith(f"epoch {metrics['epoch']}/{EPOCHS} ")
        assert f"loss {metrics['loss']:.4f}" in line
        assert f"valid_NDCG@20 {metrics['valid_NDCG@20']:.4f}" in line
    shown = printed.split(epochs[-1])[1]
    assert table(shown) == table_of(read(run / "test_metrics.json"))
    assert str(run) in shown


def test_a_bar_is_shown_on_a_terminal(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    names = ("loss", "loss_rec", "loss_kd", "valid_HR@20", "valid_NDCG@20")
    line = {"epoch": 2, "step": 8, "seconds": 0.1} | dict.fromkeys(names, 0.25)
    with Progress(tmp_path, 1, 3) as progress:
        progress.show(line, best=2)
    last = terminal.getvalue().split("\r")[-1]
    assert "| 2/3 [" in last and "loss=0.2500" in last and "best=2" in last
    assert "epoch 2/3" not in terminal.getvalue()


def test_eval_comes_to_the_same_result(run, trained):
    expected = read(run / "test_metrics.json"), arrays(run)
    (run / "test_metrics.json").unlink()
    (run / "ranks.npz").unlink()
    kept = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    evaluate(run)
    result = read(run / "test_metrics.json")
    expected[0].pop("provenance"), result.pop("provenance")
    assert result == expected[0]
    assert arrays(run).keys() == expected[1].keys() == {"user_ids", "test"}
    for name, array in arrays(run).items():
        assert array.dtype == expected[1][name].dtype
        np.testing.assert_array_equal(array, expected[1][name])
    assert {path: path.read_bytes() for path in kept} == kept


def test_eval_leaves_the_provenance_of_figures_that_it_confirms(run, trained):
    path = run / "test_metrics.json"
    before = read(path)
    before["provenance"]["command"] = ["train.py"]
    path.write_text(json.dumps(before))
    evaluate(run)
    assert read(path) == before
    path.write_text(json.dumps({**before, "MRR": 0.5}))
    evaluate(run)
    after = read(path)
    assert after["MRR"] == before["MRR"] and after["provenance"]["command"] != ["train.py"]


def test_eval_of_the_validation_split_is_the_best_epochs(run, capsys):
    evaluate(run, "--split", "valid")
    result = read(run / "valid_metrics.json")
    best = lines(run)[result["epoch"] - 1]
    assert {name: result[name] for name in METRICS} == {m: best[f"valid_{m}"] for m in METRICS}
    assert result["split"] == "valid"
    assert arrays(run).keys() == {"user_ids", "test", "valid"}
    assert table(capsys.readouterr().out) == table_of(result)


def test_items_seen_before_are_left_out_as_asked(run):
    for policy in ("window", "none"):
        evaluate(run, "--exclude-seen", policy)
        result = read(run / f"test_{policy}_metrics.json")
        assert (result["exclude_seen"], result["split"]) == (policy, "test")
    ranks = arrays(run)
    assert (ranks["test"] <= ranks["test_window"]).all()
    assert (ranks["test_window"] <= ranks["test_none"]).all()
    assert (ranks["test_window"] < ranks["test_none"]).any()
    # The window holds the last 8 training items and the validation item.
    more_left_out = ranks["test"] < ranks["test_window"]
    length = read_histories("data/Toys_and_Games.txt").lengths
    assert more_left_out.any() and not more_left_out[length <= 8 + 2].any()


def test_data_that_moved_are_found_by_data_dir(run, home, tmp_path, capsys):
    before = read(run / "test_metrics.json")
    shutil.copytree(home / "data", tmp_path / "moved")
    os.rename(home / "data", home / "gone")
    try:
        assert eval_main(["--run-dir", str(run), "--devices", "1"]) == 2
        assert "--data-dir 'data' is no directory" in capsys.readouterr().err
        evaluate(run, "--data-dir", str(tmp_path / "moved"))
        again = [*FLAGS, "--data-dir", str(tmp_path / "moved"), "--epochs", str(EPOCHS)]
        assert train_main([*again, "--run-dir", str(run)]) == 0
    finally:
        os.rename(home / "gone", home / "data")
    after = read(run / "test_metrics.json")
    assert {name: after[name] for name in METRICS} == {name: before[name] for name in METRICS}


def test_a_run_with_a_damaged_checkpoint_is_not_evaluated(run, capsys):
    for path in (run / "checkpoints").iterdir():
        (path / "manifest.json").unlink()
    assert eval_main(["--run-dir", str(run)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "no whole checkpoint" in message and str(run) in message
