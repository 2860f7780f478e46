"""`train --init-from`: what the command line makes of it."""

import json

import pytest

from mqsa_jax.commands.evaluate import eval_main
from mqsa_jax.commands.sweep import sweep_main
from mqsa_jax.commands.train import train_main
from tests.commands.conftest import tree
from tests.commands.histories import write_histories

FLAGS = ["--dim=8", "--max-len=8", "--batch-size=16", "--devices=1", "--epochs=1", "--seed=1"]
OLD = ["--dataset=old.txt", *FLAGS, "--run-dir=old"]
NEW = ["--dataset=new.txt", *FLAGS, "--run-dir=new"]


@pytest.fixture
def old(home, capsys):
    """A run on data of which one user and three items are missing."""
    write_histories(home / "old.txt")
    write_histories(home / "new.txt", "61 97 3 98 5 6 99 1 2")
    assert train_main(OLD) == 0
    capsys.readouterr()
    return home / "old"


def test_a_run_on_new_data_starts_from_it_and_is_evaluated(home, old, capsys):
    assert train_main([*NEW, "--init-from=old"]) == 0
    printed = capsys.readouterr().out
    assert f"Starting from {old}, epoch 1: " in printed
    assert "items carried over, 3 new from their neighbours, 0 new from nothing; 0 items" in printed
    # A full path, so that it is the same run from any working directory.
    assert json.loads((home / "new/config.json").read_text())["init_from"] == str(old)
    assert train_main([*NEW, "--init-from=./old", "--epochs=2"]) == 0
    assert "Starting from" not in capsys.readouterr().out
    assert eval_main(["--run-dir=new", "--devices=1"]) == 0


def test_a_run_is_not_continued_from_another_start(home, old, refused, capsys):
    assert train_main([*NEW, "--init-from=old"]) == 0
    capsys.readouterr()
    assert f"init_from {old} there, {home / 'other'} here" in refused(
        train_main, *NEW, "--init-from=other"
    )
    assert f"init_from {old} there, None here" in refused(train_main, *NEW)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--init-from=none"], "none/config.json: no such file; is this the folder of a run?"),
        (["--init-from=old.txt"], "old.txt is a file; name the folder of a run"),
        (["--init-from=old", "--dim=16"], "its parameters do not fit (dim 8 there, 16 here)"),
        (["--init-from=old", "--model=popular"], "--model popular is counted, not trained"),
        (["--init-from=new"], "new is the folder of the new run too"),
    ],
)
def test_what_does_not_fit_is_refused(old, refused, flags, named):
    assert named in refused(train_main, *NEW, *flags)


def test_a_run_is_not_deleted_for_a_start_that_does_not_fit(home, old, capsys):
    assert train_main(NEW) == 0
    before = tree(home)
    for source in ("none", "new"):
        assert train_main([*NEW, f"--init-from={source}", "--no-resume"]) == 2
    assert train_main([*NEW, "--init-from=old", "--dim=16", "--no-resume"]) == 2
    assert tree(home) == before
    assert train_main([*NEW, "--init-from=old", "--no-resume"]) == 0


def test_a_sweep_starts_from_nothing(old, capsys):
    assert sweep_main(["--dataset=new.txt", "--init-from=old"]) == 2
    assert "--init-from is a flag of train" in capsys.readouterr().err
