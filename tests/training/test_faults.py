"""Training that is asked to end, or whose disk is full or read-only: told in one line, gone on with
exactly."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from mqsa_jax.commands.train import train_main
from mqsa_jax.runs.manifest import problem
from mqsa_jax.training import loop
from tests.training.run_cases import EPOCHS, arguments, train
from tests.training.test_resume import assert_same, epochs_kept, lines

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def uninterrupted(home) -> Path:
    """The run as it should be; not to be changed."""
    train(home / "uninterrupted")
    return home / "uninterrupted"


def ask_to_end(*_: object):
    os.kill(os.getpid(), signal.SIGTERM)


def after_epoch(epoch: int, action):
    """`Progress.show` that acts after an epoch was handed to the disk."""
    show = loop.Progress.show

    def show_and_act(progress, line, best):
        show(progress, line, best)
        if line["epoch"] == epoch:
            action()

    return show_and_act


def message_of(capsys, code: int, run: Path, *more: str) -> str:
    """The one line of a run that ends with this code."""
    capsys.readouterr()
    assert train_main(arguments(run, EPOCHS, *more)) == code
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("train.py: ")
    return line


def test_asked_to_end_after_an_epoch(uninterrupted, tmp_path, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Progress, "show", after_epoch(2, ask_to_end))
        line = message_of(capsys, 75, tmp_path)
    assert "asked to end: saved after step 8; run it again" in line
    assert signal.getsignal(signal.SIGTERM) == before
    assert len(lines(tmp_path)) == 2 and not (tmp_path / "test_metrics.json").exists()
    train(tmp_path)
    assert_same(tmp_path, uninterrupted)


@pytest.fixture(scope="module")
def uninterrupted_by_step(home) -> Path:
    """As it should be if each step is a program of its own, which changes rounding."""
    train(home / "by_step", EPOCHS, "--save-every=1")
    return home / "by_step"


@pytest.mark.parametrize("program", [1, 2, 6, 7])
def test_asked_to_end_within_an_epoch(
    uninterrupted_by_step, tmp_path, monkeypatch, capsys, program
):
    """With a step a program: 4 of them are an epoch. The step that is done is not done again."""
    compile_epoch, calls = loop.compile_epoch, []

    def compile_counted(*args):
        compiled = compile_epoch(*args)

        def counted(*inputs):
            calls.append(None)
            if len(calls) == program:
                ask_to_end()
            return compiled(*inputs)

        return counted

    monkeypatch.setattr(loop, "compile_epoch", compile_counted)
    line = message_of(capsys, 75, tmp_path, "--save-every=1")
    assert f"saved after step {program}" in line
    assert (tmp_path / "step_checkpoints" / str(program)).is_dir()
    assert len(lines(tmp_path)) == (program - 1) // 4
    train(tmp_path, EPOCHS, "--save-every=1")
    assert len(calls) == 4 * EPOCHS
    assert list((tmp_path / "step_checkpoints").iterdir()) == []
    assert_same(tmp_path, uninterrupted_by_step)


@pytest.fixture
def disk(tmp_path) -> Path:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path):
    """Leaves a few kilobytes, less than a checkpoint takes."""
    with open(disk / "filler", "wb") as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
            file.flush()
    os.truncate(disk / "filler", (disk / "filler").stat().st_size - 8192)


def make_read_only(folder: Path):
    """By a mount of its own, since files of the disk are open."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)


def make_writable(folder: Path):
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_disk_that_fails_in_mid_training_leaves_the_last_checkpoint(
    uninterrupted, disk, monkeypatch, capsys, fault
):
    def fail():
        # What epoch 2 saves is there by then.
        saver.epochs.wait()
        fill(disk) if fault == "full" else make_read_only(disk / "run" / "checkpoints")

    saver, make = None, loop.RunSaver

    def make_known(*arguments):
        nonlocal saver
        saver = make(*arguments)
        return saver

    with monkeypatch.context() as patch:
        patch.setattr(loop, "RunSaver", make_known)
        patch.setattr(loop.Progress, "show", after_epoch(2, fail))
        line = message_of(capsys, 2, disk / "run")
    words = {"full": "No space left on device", "read-only": "Read-only file system"}
    assert words[fault] in line and str(disk / "run") in line
    assert problem(disk / "run" / "checkpoints" / "2") == ""
    if fault == "full":
        (disk / "filler").unlink()
    else:
        make_writable(disk / "run" / "checkpoints")
    assert [epoch for epoch in epochs_kept(disk / "run") if epoch > 2] == []
    train(disk / "run")
    assert_same(disk / "run", uninterrupted)


def test_a_disk_that_is_read_only_from_the_start_is_told(disk, capsys):
    train(disk / "run", 1)
    make_read_only(disk / "run")
    assert "Read-only file system" in message_of(capsys, 2, disk / "run")
    make_writable(disk / "run")
