"""Two real processes, one device each: trained, ended in several ways, gone on with, evaluated.

They equal one process on one device to the tolerances of `tests/training/test_devices.py`.
"""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.distributed.run_processes import (
    LINE,
    ended,
    kill,
    run,
    run_two,
    start_two,
    wait_for_line,
)
from tests.training.run_cases import write_histories
from tests.training.test_resume import bits, lines, ranks

EPOCHS = 6
LONG = 2000
"""Epochs of a run that is ended before."""
FLAGS = ["--dataset=histories.txt", "--dim=8", "--max-len=8", "--batch-size=16", "--lr=0.002"]
FLAGS += ["--patience=2000", "--save-every=2"]
LIMIT_SECONDS = 60


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """The working directory: a folder with the data."""
    folder = tmp_path_factory.mktemp("home")
    write_histories(folder / "histories.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def arguments(run_dir: Path, epochs: int = EPOCHS) -> list[str]:
    return [*FLAGS, f"--epochs={epochs}", f"--run-dir={run_dir}"]


@pytest.fixture(scope="module")
def one_process(home) -> Path:
    """A run of one process on one device; not to be changed."""
    run("train.py", *arguments(home / "one"))
    return home / "one"


@pytest.fixture(scope="module")
def two_processes(home) -> Path:
    """The same run of two processes; not to be changed."""
    out = run_two(*arguments(home / "two"))
    assert out.count("epoch ") >= EPOCHS and "Results in" in out
    return home / "two"


def assert_close(run_dir: Path, expected: Path):
    """Whether losses, parameters and ranks are those of another layout of devices."""
    for line, other in zip(lines(run_dir), lines(expected), strict=True):
        for name in line:
            np.testing.assert_allclose(line[name], other[name], rtol=1e-5, err_msg=name)
    here, there = bits(run_dir, EPOCHS), bits(expected, EPOCHS)
    assert here.keys() == there.keys()
    for name, (dtype, shape, content) in here.items():
        if name.startswith("['params']"):
            one, other = (np.frombuffer(each, dtype) for each in (content, there[name][2]))
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=3e-4, err_msg=name)
        assert (dtype, shape) == there[name][:2]
    assert ranks(run_dir) == ranks(expected)


def assert_same(run_dir: Path, expected: Path):
    """Whether a run ended as another one did, to the last bit."""
    assert lines(run_dir) == lines(expected)
    assert bits(run_dir, EPOCHS) == bits(expected, EPOCHS)
    assert ranks(run_dir) == ranks(expected)


def test_two_processes_come_to_what_one_does(one_process, two_processes):
    assert_close(two_processes, one_process)
    files = [{path.name for path in folder.iterdir()} for folder in (two_processes, one_process)]
    assert files[0] == files[1]
    assert len(list((two_processes / "tensorboard").iterdir())) == 1


def test_one_process_evaluates_the_run_of_two(two_processes, tmp_path):
    copy = Path(shutil.copytree(two_processes, tmp_path / "run"))
    (copy / "test_metrics.json").unlink()
    run("eval.py", f"--run-dir={copy}")
    results = [
        json.loads((path / "test_metrics.json").read_text()) for path in (copy, two_processes)
    ]
    assert all(results[0][name] == results[1][name] for name in ("NDCG@20", "MRR", "epoch"))
    assert ranks(copy) == ranks(two_processes)


@pytest.mark.parametrize("axes", ["model", "all"])
def test_two_processes_share_the_items_and_one_goes_on(one_process, tmp_path, axes):
    flags = ["--mesh=data=1,model=2", f"--shard-items={axes}"]
    run_two(*arguments(tmp_path / "run", EPOCHS // 2), *flags)
    # Each process has saved its rows of the tables and moments.
    run("train.py", *arguments(tmp_path / "run"))
    assert_close(tmp_path / "run", one_process)


def test_two_processes_start_from_another_run(one_process, tmp_path):
    flags = [f"--init-from={one_process}", "--seed=5"]
    run("train.py", *arguments(tmp_path / "one"), *flags)
    run_two(*arguments(tmp_path / "two"), *flags, "--mesh=data=1,model=2")
    assert_close(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize("victim", [0, 1])
def test_one_process_goes_on_after_a_kill_and_the_other_ends_within_a_minute(
    one_process, tmp_path, victim
):
    processes = start_two(*arguments(tmp_path / "run", LONG))
    wait_for_line(processes[0], LINE.format(3))
    killed = kill(processes[victim])
    code, _, err = ended(processes[1 - victim], LIMIT_SECONDS)
    assert time.monotonic() - killed < LIMIT_SECONDS
    if victim == 1:
        assert code == 69, err
        line = err.splitlines()[-1]
        assert line.startswith("train.py: error: another process of this run has ended")
    else:
        # The first process holds the coordination service, whose end JAX itself answers.
        assert code in (69, -signal.SIGABRT)
        assert "another process of this run has ended" in err or "another task died" in err
    trained = len(lines(tmp_path / "run"))
    if trained > EPOCHS:
        pytest.skip(f"{trained} epochs were faster than the kill")
    run("train.py", *arguments(tmp_path / "run"))
    assert_close(tmp_path / "run", one_process)


@pytest.mark.parametrize("told", [0, 1])
def test_two_processes_are_asked_to_end_and_go_on(two_processes, tmp_path, told):
    processes = start_two(*arguments(tmp_path / "run", LONG))
    wait_for_line(processes[0], LINE.format(1))
    os.kill(processes[told].pid, signal.SIGTERM)
    first, second = (ended(process, LIMIT_SECONDS) for process in processes)
    assert (first[0], second[0]) == (75, 75), first[2] + second[2]
    assert first[2].splitlines()[-1].startswith("train.py: asked to end: saved after step ")
    assert "train.py" not in second[2]
    trained = len(lines(tmp_path / "run"))
    if trained > EPOCHS:
        pytest.skip(f"{trained} epochs were faster than the request")
    run_two(*arguments(tmp_path / "run"))
    assert_same(tmp_path / "run", two_processes)


def test_processes_with_other_data_or_settings_are_refused(home, tmp_path):
    write_histories(home / "other.txt", seed=1)
    own = arguments(tmp_path / "run")
    for changed, named in (("--dataset=other.txt", "data set"), ("--lr=0.5", "configuration")):
        processes = start_two(*own, second=[*own, changed])
        _, (code, _, err) = (ended(process, LIMIT_SECONDS) for process in processes)
        assert code == 2 and f"process 1 has another {named} than the first one" in err
        assert not (tmp_path / "run" / "config.json").exists()
