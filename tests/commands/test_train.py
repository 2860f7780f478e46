"""The command lines: flags, defaults, help, and one line for every mistake a user can mend."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mqsa_jax import presets
from mqsa_jax.commands.evaluate import eval_main
from mqsa_jax.commands.train import train_main
from mqsa_jax.config import Config
from mqsa_jax.data import sources
from mqsa_jax.training.experiment import Experiment


def write_histories(path: Path, *more: str):
    """60 users, each with 2 to 9 of the items 1 to 25 and then two of the items 26 to 30."""
    rng = np.random.default_rng(0)
    lines = []
    for user in range(1, 61):
        trained, held_out = rng.integers(1, 26, rng.integers(2, 10)), rng.integers(26, 31, 2)
        lines.append(" ".join(map(str, [user, *trained, *held_out])))
    path.write_text("".join(f"{line}\n" for line in (*lines, *more)))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MQSA_DATA_DIR", raising=False)
    return folder


def tree(folder: Path) -> dict[Path, bytes | None]:
    """Everything below a folder."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def refused(home, capsys) -> Callable[..., str]:
    """Runs a command that must fail; returns its one line on stderr."""

    def run(main, *arguments: str) -> str:
        before = tree(home)
        assert main(arguments) == 2
        printed = capsys.readouterr()
        program = {train_main: "train.py", eval_main: "eval.py"}[main]
        assert printed.err.startswith(f"{program}: error: ") and printed.err.endswith("\n")
        assert len(printed.err.splitlines()) == 1 and printed.out == ""
        assert "---" not in printed.err  # no frame
        assert tree(home) == before
        return printed.err

    return run


# Flags


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--alpha 1.5", "--alpha must be between 0 and 1, got 1.5"),
        ("--alpha=-0.1", "--alpha must be between 0 and 1, got -0.1"),
        ("--alpha nan", "--alpha must be between 0 and 1, got nan"),
        ("--tau 0", "--tau must be a finite number above 0, got 0.0"),
        ("--lr inf", "--lr must be a finite number above 0, got inf"),
        ("--lambda-kd nan", "--lambda-kd must be a finite number, 0 or above, got nan"),
        ("--window 0", "--window must be at least 1, got 0"),
        ("--batch_size 0", "--batch-size must be at least 1, got 0"),
        ("--devices 0", "--devices must be at least 1, got 0"),
        ("--dropout 1", "--dropout must be at least 0 and below 1, got 1.0"),
        ("--seed -1", "--seed must be between 0 and 4294967295, got -1"),
        ("--dim 64 --num-heads 3", "--num-heads 3 does not divide --dim 64; choose a divisor"),
        ("--dim wide", "--dim: invalid literal for int() with base 10: 'wide'"),
        ("--dim 3.5", "'3.5'"),
        ("--dim None", "'None'"),
        ("--lr fast", "could not convert string to float: 'fast'"),
        ("--dim", "'--dim'"),
        ("--lamda-kd 3", "Unrecognized options: --lamda-kd, 3 Perhaps you meant: --lambda-kd"),
        ("--model.dim 3", "Unrecognized options: --model.dim"),
        ("--model bert", "'bert' for argument '--model'. Expected one of ('mqsa-ted'"),
        ("--model sasrec --alpha 0.5", "--model sasrec fixes --alpha at 1.0, got 0.5; leave it"),
        ("--alpha 0 --model mqsa --lambda_kd=1", "--model mqsa fixes --lambda-kd at 0.0, got 1.0"),
        ("--term-items -1", "--term-items must be 0 or above, got -1"),
        ("--term-decay 2", "--term-decay must be above 0 and at most 1, got 2.0"),
        ("extra", "Unrecognized options: extra"),
        ("--parallel threads", "'threads' for argument '--parallel'. Expected one of ('jit', 'pm"),
        ("--resume yes", "Unrecognized options: yes"),
        ("--devices 9 --dataset data.txt", "--devices 9 is more than the 8 local"),
    ],
)
def test_train_refuses_a_bad_flag(home, refused, arguments, named):
    write_histories(home / "data.txt")
    # Were the flag accepted, the missing file would end the command at once.
    assert named in refused(train_main, "--dataset=none.txt", *arguments.split())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("", "--run-dir"),
        ("--run-dir", "'--run-dir'"),
        ("--run-dir run --split train", "'train' for argument '--split'. Expected one of ('test'"),
        ("--run-dir run --exclude-seen all", "'all' for argument '--exclude-seen'. Expected one"),
        ("--run-dir run --devices 0", "--devices must be at least 1, got 0"),
        ("--run-dir run --top -1", "--top must be 0 or above, got -1"),
        ("--run-dir run --top 999", "--top 999 is more than"),
        ("--run-dir run --tau 3", "Unrecognized options: --tau, 3"),
        ("--run-dir none", "none/config.json: no such file; is this the folder of a run?"),
        ("--run-dir data.txt", "data.txt"),
    ],
)
def test_eval_refuses_a_bad_flag(home, refused, arguments, named):
    write_histories(home / "data.txt")
    make_run(home / "run")
    assert named in refused(eval_main, *arguments.split())


def make_run(folder: Path, **changes):
    """A folder with the configuration of a run on `data.txt`, and nothing else."""
    folder.mkdir()
    values = {**Config(dataset="data.txt").flat(), **changes}
    (folder / "config.json").write_text(json.dumps(values))


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
        ("folder", "data set 'folder' is a directory; name a file in it"),
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


# What the flags come to


@pytest.fixture
def toys(home, monkeypatch) -> Path:
    """The data set `toys`, much smaller, and a configs/toys.py of its own."""
    file = home / "Toys_and_Games.txt"
    write_histories(file, "61 1 2", "", "62 5 5")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(sources.SOURCES, "toys", sources.Source(file.name, sha256))
    monkeypatch.setenv("MQSA_DATA_DIR", str(home))
    folder = home / "configs"
    folder.mkdir()
    (folder / "toys.py").write_text(
        "from mqsa_jax.config import Config, ModelConfig, TrainingConfig\n"
        "config = Config(\n"
        "    dataset='toys',\n"
        "    model=ModelConfig(dim=16, num_blocks=2, max_len=8, alpha=0.25),\n"
        "    training=TrainingConfig(batch_size=16, epochs=2, lr=0.5),\n"
        ")\n"
        "plus = {}\n"
    )
    monkeypatch.setattr(presets, "_configs_folder", lambda: folder)
    return file


@pytest.mark.filterwarnings("default:.*fewer than 3 items:UserWarning")
def test_flags_override_the_file_of_the_data_set(toys, home, capsys):
    flags = "--dataset toys --dim 8 --lr=0.002 --run_dir run --num-blocks 1 --lambda_kd 0.3"
    assert train_main([*flags.split(), "--devices", "1", "--no-resume"]) == 0
    config = json.loads((home / "run" / "config.json").read_text())
    by_flag = dict(dim=8, lr=0.002, run_dir="run", num_blocks=1, lambda_kd=0.3, devices=1)
    by_file = dict(max_len=8, alpha=0.25, batch_size=16, epochs=2)
    given = by_file | by_flag | dict(dataset="toys", resume=False)
    assert Config.from_stored(config) == Config.from_flat(Config().flat() | given)
    err = capsys.readouterr().err
    assert err.startswith("train.py: warning: ") and err.count("\n") == 1
    assert "Toys_and_Games.txt:61: skipped 2 of 62 histories" in err
    result = json.loads((home / "run" / "test_metrics.json").read_text())
    assert (result["users"], result["items"]) == (60, 30)


def parsed(monkeypatch, *arguments: str) -> Config:
    """The configuration that train.py would go on with."""
    seen = []

    class Done(Exception):
        pass

    def load(config, histories):
        seen.append(config)
        raise Done

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "load", load)
        with pytest.raises(Done):
            train_main(arguments)
    return seen[0]


@pytest.fixture
def own_file(home) -> str:
    """A file of the user's own."""
    write_histories(home / "data.txt")
    return "data.txt"


def test_hyphens_and_underscores_are_the_same(monkeypatch, own_file):
    for name, default in Config().flat().items():
        if "_" in name and not name.endswith("_dir"):
            values = {int: [4], bool: [], str: ["none"]}.get(type(default), [0.75])
            for flag in (f"--{name}", f"--{name.replace('_', '-')}"):
                given = [flag, *map(str, values)]
                config = parsed(monkeypatch, "--dataset", own_file, *given)
                assert config.flat()[name] == (values or [True])[0], flag


@pytest.mark.parametrize("name", sources.dataset_names())
def test_every_named_data_set_has_defaults(monkeypatch, name):
    config = parsed(monkeypatch, "--dataset", name)
    assert config.dataset == name
    assert parsed(monkeypatch, f"--dataset={name}", "--tau", "0.7").flat() == config.flat() | {
        "tau": 0.7
    }
    assert parsed(monkeypatch, "--dataset", name.upper()).model == config.model


def test_a_recipe_is_the_models_and_the_data_sets(monkeypatch, own_file):
    recipe = parsed(monkeypatch, "--dataset", own_file, "--model", "mqsa-ted-plus")
    assert recipe.term.term_items > 0 and recipe.training.ema_decay > 0
    of_beauty = parsed(monkeypatch, "--dataset", "beauty", "--model", "mqsa-ted-plus")
    general = presets.default_config(os.path.abspath(own_file), "mqsa-ted-plus")
    assert recipe == presets.sized_defaults(general, 60)
    assert of_beauty.flat() == general.flat() | {"dataset": "beauty", "dim": 128}


def test_a_file_takes_the_defaults_of_its_size(monkeypatch, own_file):
    general = Config(dataset=os.path.abspath(own_file))
    assert parsed(monkeypatch, "--dataset", own_file) == presets.sized_defaults(general, 60)
    given = parsed(monkeypatch, "--dataset", own_file, "--batch-size=256", "--patience=20")
    assert given.training == dataclasses.replace(general.training, epochs=400)


def test_without_a_data_set_the_synthetic_one_is_used(monkeypatch):
    assert parsed(monkeypatch) == parsed(monkeypatch, "--dataset", "synthetic")


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
