"""A run that is stopped and continued ends exactly as if it never was."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from mqsa_jax.commands.train import train_main
from mqsa_jax.training import loop
from mqsa_jax.training.running_epoch import SPEED
from tests.training.run_cases import BEST, EPOCHS, STEPS, arguments, train, write_histories

TRAIN = str(Path(__file__).parents[2] / "train.py")

pytestmark = pytest.mark.usefixtures("home")


def process(run: Path, epochs: int = EPOCHS) -> subprocess.Popen:
    """A process of its own, which shares the compiled programs."""
    cache = jax.config.jax_compilation_cache_dir
    return subprocess.Popen(
        [sys.executable, TRAIN, *arguments(run, epochs)],
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": cache},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refused(capsys, run: Path, epochs: int = EPOCHS, *more: str) -> str:
    """The one line on stderr of a command that fails and changes nothing."""
    before = tree(run)
    assert train_main(arguments(run, epochs, *more)) == 2
    message = capsys.readouterr().err
    assert message.startswith("train.py: error: ") and message.count("\n") == 1, message
    assert tree(run) == before
    return message


def tree(path: Path) -> dict[str, bytes]:
    """Names and contents of all files at or below a path."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def uninterrupted(home) -> Path:
    """The run as it should be; not to be changed."""
    train(home / "uninterrupted")
    return home / "uninterrupted"


@pytest.fixture
def run(uninterrupted, tmp_path) -> Path:
    """A copy of it to do harm to."""
    return Path(shutil.copytree(uninterrupted, tmp_path / "run"))


def lines(run: Path) -> list[dict]:
    """`metrics.jsonl`, without how fast epochs were."""
    parsed = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in SPEED} for line in parsed]


def result(run: Path) -> dict:
    """`test_metrics.json`, without the command and the machine that it comes from."""
    values = json.loads((run / "test_metrics.json").read_text())
    return {name: value for name, value in values.items() if name != "provenance"}


def epochs_kept(run: Path) -> list[int]:
    return sorted(int(path.name) for path in (run / "checkpoints").iterdir())


def bits(run: Path, epoch: int) -> dict[str, tuple]:
    """Every array of a checkpoint's state (parameters, moments, step), down to the last bit."""
    path = run / "checkpoints" / str(epoch) / "state"
    with ocp.PyTreeCheckpointer() as checkpointer:
        stored = checkpointer.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored)
        state = checkpointer.restore(path, ocp.args.PyTreeRestore(restore_args=as_numpy))
    return {
        jax.tree_util.keystr(keys): (leaf.dtype, leaf.shape, leaf.tobytes())
        for keys, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def ranks(run: Path) -> dict[str, bytes]:
    with np.load(run / "ranks.npz", allow_pickle=False) as arrays:
        return {name: array.tobytes() for name, array in arrays.items()}


def assert_same(run: Path, expected: Path):
    """Whether a run ended as another one did: configuration, metrics, ranks and every array."""
    configs = [json.loads((path / "config.json").read_text()) for path in (run, expected)]
    assert configs[0] | {"run_dir": None} == configs[1] | {"run_dir": None}
    assert lines(run) == lines(expected)
    assert result(run) == result(expected)
    assert ranks(run) == ranks(expected)
    assert epochs_kept(run) == epochs_kept(expected)
    for epoch in epochs_kept(expected):
        assert bits(run, epoch) == bits(expected, epoch), epoch


def test_the_run_is_what_the_other_tests_take_it_for(uninterrupted):
    ndcg = [line["valid_NDCG@20"] for line in lines(uninterrupted)]
    assert len(ndcg) == EPOCHS and max(ndcg) == ndcg[BEST - 1]
    assert epochs_kept(uninterrupted) == [BEST, 3, 4]
    assert result(uninterrupted)["epoch"] == BEST
    last, before = bits(uninterrupted, 4), bits(uninterrupted, 3)
    changed = {name for name in last if last[name] != before[name]}
    for part in ("['params']['item_embedding']", "['opt_state']['mu']", "['opt_state']['nu']"):
        assert any(name.startswith(part) for name in changed), part
    assert "['step']" in changed


def test_stopped_after_2_epochs_and_continued_by_another_process(uninterrupted, tmp_path):
    train(tmp_path, 2)
    assert len(lines(tmp_path)) == 2
    with process(tmp_path) as other:
        out, err = other.communicate()
    assert other.returncode == 0
    assert err.startswith("train.py: warning: ") and err.count("\n") == 1, err
    assert [line.split()[1] for line in out.splitlines() if "loss" in line] == ["3/4", "4/4"]
    assert_same(tmp_path, uninterrupted)


def test_stopped_after_1_and_after_3_epochs(uninterrupted, tmp_path):
    for epochs in (1, 3, 4):
        train(tmp_path, epochs)
        assert len(lines(tmp_path)) == epochs
    assert_same(tmp_path, uninterrupted)


def test_killed_in_mid_training(uninterrupted, tmp_path):
    with process(tmp_path) as victim:
        for line in victim.stdout:
            if line.startswith("epoch 2/4"):
                victim.kill()
                break
    assert victim.returncode == -signal.SIGKILL
    assert not (tmp_path / "test_metrics.json").exists()
    train(tmp_path)
    assert_same(tmp_path, uninterrupted)


def test_killed_before_the_first_checkpoint(uninterrupted, tmp_path):
    shutil.copy(uninterrupted / "config.json", tmp_path)
    (tmp_path / "metrics.jsonl").touch()
    train(tmp_path)
    assert_same(tmp_path, uninterrupted)


@pytest.mark.filterwarnings("default:.*unfinished:UserWarning")
def test_killed_while_the_last_checkpoint_was_written(run, uninterrupted, capsys):
    for name in ("manifest.json", "commit_success.txt", "state/_METADATA"):
        (run / "checkpoints" / "4" / name).unlink(missing_ok=True)
    (run / "metrics.jsonl").write_text("{")
    (run / "config.json.tmp").write_text("{")
    (run / "test_metrics.json").unlink()
    (run / "ranks.npz").unlink()
    train(run)
    message = capsys.readouterr().err
    assert "checkpoints/4 is unfinished" in message and "goes on from epoch 3" in message
    (run / "config.json.tmp").unlink(missing_ok=True)
    assert_same(run, uninterrupted)


def test_stopped_for_want_of_patience_and_continued_with_more(uninterrupted, tmp_path):
    train(tmp_path, EPOCHS, "--patience", "1")
    assert len(lines(tmp_path)) == BEST + 1
    assert result(tmp_path)["epoch"] == BEST
    train(tmp_path)
    assert_same(tmp_path, uninterrupted)


def test_a_finished_run_is_only_evaluated_again(run, uninterrupted, capsys):
    before = tree(run)
    (run / "test_metrics.json").unlink()
    (run / "ranks.npz").unlink()
    train(run)
    assert "loss" not in capsys.readouterr().out
    assert_same(run, uninterrupted)
    after = tree(run)
    assert after.keys() == before.keys()
    changed = {Path(name).name for name in after if after[name] != before[name]}
    assert changed <= {"config.json", "test_metrics.json", "ranks.npz"}


def test_another_configuration_is_refused_by_its_keys(run, capsys):
    message = refused(capsys, run, 9, "--lr", "0.5", "--window", "2", "--patience", "7")
    assert "lr 0.002 there, 0.5 here" in message and "window 3 there, 2 here" in message
    assert not any(word in message for word in ("epochs", "patience", "dim"))
    assert str(run) in message and "--no-resume" in message


def test_other_data_under_the_same_path_are_refused(run, tmp_path, monkeypatch, capsys):
    write_histories(tmp_path / "histories.txt", seed=1)
    monkeypatch.chdir(tmp_path)
    assert "other data" in refused(capsys, run, 9)


def test_a_damaged_best_checkpoint_is_refused(run, capsys):
    (run / "checkpoints" / str(BEST) / "manifest.json").write_text("{}")
    message = refused(capsys, run)
    assert f"checkpoints/{BEST}/" in message and "start afresh" in message


def test_no_resume_starts_afresh(run, tmp_path, capsys):
    (run / "notes.txt").write_text("mine")
    (run / "valid_metrics.json").write_text("{}")
    train(run, 1, "--lr", "0.003", "--no-resume")
    train(tmp_path / "fresh", 1, "--lr", "0.003", "--no-resume")
    assert_same(run, tmp_path / "fresh")
    names = {path.name for path in run.iterdir()}
    assert names == {path.name for path in (tmp_path / "fresh").iterdir()} | {"notes.txt"}
    assert len(list((run / "tensorboard").iterdir())) == 1


@pytest.mark.parametrize("flag", ["--resume", "--no-resume"])
def test_a_folder_that_holds_no_run_is_refused(tmp_path, capsys, flag):
    (tmp_path / "thesis.tex").write_text("mine")
    message = refused(capsys, tmp_path, EPOCHS, flag)
    assert str(tmp_path) in message and "--run-dir" in message


@pytest.mark.parametrize("flag", ["--resume", "--no-resume"])
def test_a_file_in_place_of_the_folder_is_refused(tmp_path, capsys, flag):
    (tmp_path / "file").write_text("mine")
    assert str(tmp_path / "file") in refused(capsys, tmp_path / "file", EPOCHS, flag)
    assert str(tmp_path / "file") in refused(capsys, tmp_path / "file" / "run", EPOCHS, flag)


def with_nan(state):
    embedding = state.params["item_embedding"] * np.float32(np.nan)
    return state.replace(params={**state.params, "item_embedding": embedding})


@pytest.mark.parametrize("when", ["before the steps", "after the steps"])
def test_not_a_number_stops_training_and_leaves_the_last_checkpoint(
    uninterrupted, tmp_path, monkeypatch, capsys, when
):
    """In epoch 3: in its first loss, or only in the scores of its validation."""
    compile_epoch = loop.compile_epoch

    def compile_poisoned(*args):
        program = compile_epoch(*args)

        def poisoned(state, *rest):
            epoch = int(state.step) // STEPS + 1
            if epoch == 3 and when == "before the steps":
                state = with_nan(state)
            state, losses = program(state, *rest)
            return (with_nan(state) if epoch == 3 else state), losses

        return poisoned

    with monkeypatch.context() as patch:
        patch.setattr(loop, "compile_epoch", compile_poisoned)
        assert train_main(arguments(tmp_path, EPOCHS)) == 2
    message = capsys.readouterr().err
    assert message.startswith("train.py: error: ") and message.count("\n") == 1, message
    step = 2 * STEPS + 1 if when == "before the steps" else 3 * STEPS
    assert f"step {step}" in message
    assert epochs_kept(tmp_path) == [1, 2]
    assert len(lines(tmp_path)) == 2
    train(tmp_path)
    assert_same(tmp_path, uninterrupted)
