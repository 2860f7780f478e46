"""Runs, data and training that cannot go on end the command with one line."""

import json

import numpy as np
import pytest

from mqsa_jax.commands.evaluate import eval_main
from mqsa_jax.commands.train import train_main
from mqsa_jax.config import Config
from mqsa_jax.training.experiment import Experiment
from tests.commands.histories import write_histories

pytestmark = pytest.mark.usefixtures("home")


# Configurations


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "not readable as JSON"),
        ("{", "not readable as JSON"),
        ("[1, 2]", "not a configuration"),
        (json.dumps(Config().flat() | {"beam": 3}), "keys: beam"),
        (json.dumps(Config().flat() | {"model": "sasrec"}), "model sasrec fixes alpha at 1.0"),
        (json.dumps(Config().flat() | {"tau": -1.0}), "tau must be a finite number above 0"),
        (json.dumps(Config().flat() | {"dim": "64"}), "dim"),
        (json.dumps(Config().flat() | {"dim": None}), "dim"),
        (json.dumps(Config().flat() | {"parallel": "threads"}), "parallel"),
    ],
)
def test_a_broken_configuration_of_a_run_is_refused(home, refused, content, named):
    (home / "run").mkdir()
    (home / "run" / "config.json").write_text(content)
    write_histories(home / "data.txt")
    assert named in refused(eval_main, "--run-dir", "run")
    assert named in refused(train_main, "--run-dir", "run", "--dataset", "data.txt")


# Data


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "data.txt: no users in the file; give one user a line"),
        (b"\n \n", "data.txt: no users in the file"),
        (b"1 1 2 3\n2 4 x 5\n", "data.txt:2: 'x' is no integer; give ids as whole numbers"),
        (b"1 1 2 3\n\n2 4 1.5 5\n", "data.txt:3: '1.5' is no integer"),
        (b"1 1 2 3\n2 4 0 5\n", "data.txt:2: id '0' is below 1; number users and items from 1"),
        (b"-1 1 2 3\n", "data.txt:1: id '-1' is below 1"),
        (b"1 1 2\n2 3 4\n", "data.txt:1: no history is left, as all 2 have fewer than 3 items"),
        (b"1 1 2 3\n1 4 5 6\n", "data.txt:2: user 1 already stands on line 1"),
        (b"1 1 2 3\n\xff\xfe\n", "data.txt:2: not UTF-8 text"),
    ],
)
def test_bad_data_are_refused_by_file_and_line(home, refused, content, named):
    (home / "data.txt").write_bytes(content)
    assert named in refused(train_main, "--dataset", "data.txt")


@pytest.mark.parametrize(
    ("dataset", "named"),
    [
        ("none.txt", "no such file: 'none.txt'; check the path"),
        ("folder", "folder: no prepared data set, as it has no manifest.json"),
        ("beuty", "unknown data set 'beuty'; did you mean beauty?"),
        ("qq", "unknown data set 'qq'; use one of: synthetic, beauty, sports, toys, yelp"),
        ("", "unknown data set"),
    ],
)
def test_an_unknown_data_set_is_refused(home, refused, dataset, named):
    (home / "folder").mkdir()
    assert named in refused(train_main, f"--dataset={dataset}")


def test_a_wrong_checksum_is_refused(home, refused):
    (home / "Beauty.txt").write_text("1 1 2 3\n")
    message = refused(train_main, "--dataset", "beauty", "--data-dir", ".")
    assert "Beauty.txt: wrong checksum" in message and "delete it to download afresh" in message


def test_no_network_is_refused(refused, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    message = refused(train_main, "--dataset", "beauty")
    assert "cannot download https://" in message and "Beauty.txt" in message
    assert "--data-dir or $MQSA_DATA_DIR" in message
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


def test_a_pickle_is_not_data(home, refused):
    np.save(home / "data.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "data.npy:1: not UTF-8 text" in refused(train_main, "--dataset", "data.npy")


# Runs that cannot go on


SIZES = {"dim": 8, "max-len": 8, "batch-size": 15, "devices": 1, "epochs": 2, "patience": 20}
SMALL = ["--dataset=data.txt", *(f"--{name}={value}" for name, value in SIZES.items())]


def test_a_learning_rate_that_diverges_stops_at_the_step(home, refused, capsys):
    write_histories(home / "data.txt")
    assert train_main([*SMALL, "--lr", "1e30", "--run-dir", "run"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("train.py: error: ") and err.count("\n") == 1
    assert "step 2 " in err and "--lr" in err
    assert list((home / "run").glob("checkpoints/*")) == []
    assert (home / "run" / "metrics.jsonl").read_text() == ""
    assert "no whole checkpoint" in refused(eval_main, "--run-dir", "run")


@pytest.mark.parametrize(
    "flags", [["--lr=100"], ["--lr=100", "--model=sasrec"], ["--lr=1000", "--l2=0", "--tau=1"]]
)
def test_a_finite_divergence_stops_too(home, capsys, flags):
    write_histories(home / "data.txt")
    assert train_main([*SMALL, *flags, "--run-dir", "run"]) == 2
    err = capsys.readouterr().err
    assert "error: training has diverged by step " in err and err.count("\n") == 1
    assert not (home / "run" / "test_metrics.json").exists()


def test_a_run_of_another_shape_is_refused(home, refused, capsys):
    write_histories(home / "data.txt")
    assert train_main([*SMALL, "--run-dir", "run"]) == 0
    capsys.readouterr()
    wider = [*SMALL, "--run-dir", "run", "--dim", "16", "--epochs", "9"]
    message = refused(train_main, *wider, "--alpha", "0.1")
    assert "dim 8 there, 16 here" in message and "alpha 0.5 there, 0.1 here" in message
    assert "batch_size" not in message and "epochs" not in message and "--no-resume" in message
    # A checkpoint that does not fit the configuration beside it:
    config = json.loads((home / "run" / "config.json").read_text())
    (home / "run" / "config.json").write_text(json.dumps(config | {"dim": 16}))
    for main, arguments in ((train_main, wider), (eval_main, ["--run-dir", "run"])):
        message = refused(main, *arguments)
        assert "dim 16, trained with 8" in message
        assert str(home / "run") in message


def test_an_interrupted_command_says_so(own_file, capsys, monkeypatch):
    def interrupt(config, histories):
        raise KeyboardInterrupt

    monkeypatch.setattr(Experiment, "load", interrupt)
    assert train_main(["--dataset", own_file]) == 130
    assert capsys.readouterr().err == "train.py: interrupted; run it again to continue\n"
