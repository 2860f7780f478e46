"""Flags of the command lines: the wrong ones are refused, the others make the configuration."""

import dataclasses
import hashlib
import json
import os
import typing
from pathlib import Path

import pytest

from mqsa_jax import presets
from mqsa_jax.commands.command_line import parse
from mqsa_jax.commands.evaluate import eval_main
from mqsa_jax.commands.train import train_main
from mqsa_jax.config import Config
from mqsa_jax.data import sources
from mqsa_jax.fields import leaves
from mqsa_jax.training.experiment import Experiment
from tests.commands.histories import write_histories

pytestmark = pytest.mark.usefixtures("home")


# Wrong flags


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


def make_run(folder: Path, **changes):
    """A folder with the configuration of a run on `data.txt`, and nothing else."""
    folder.mkdir()
    values = {**Config(dataset="data.txt").flat(), **changes}
    (folder / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("", "--run-dir"),
        ("--run-dir", "'--run-dir'"),
        ("--run-dir run --split train", "'train' for argument '--split'. Expected one of ('test'"),
        ("--run-dir run --exclude-seen all", "'all' for argument '--exclude-seen'. Expected one"),
        ("--run-dir run --devices 0", "--devices must be at least 1, got 0"),
        ("--run-dir run --tau 3", "Unrecognized options: --tau, 3"),
        ("--run-dir none", "none/config.json: no such file; is this the folder of a run?"),
        ("--run-dir data.txt", "data.txt"),
    ],
)
def test_eval_refuses_a_bad_flag(home, refused, arguments, named):
    write_histories(home / "data.txt")
    make_run(home / "run")
    assert named in refused(eval_main, *arguments.split())


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


def an_other_value(hint, value) -> list:
    """Text of a value that a flag may have, none for a switch, and the value."""
    if typing.get_origin(hint) is typing.Literal:
        return [typing.get_args(hint)[-1]] * 2
    if isinstance(value, bool):
        return [None, True]
    kind = type(value) if value is not None else str
    if "int" in str(hint):
        return ["4", 4]
    return ["0.75", 0.75] if kind is float else ["none", "none"]


def test_hyphens_and_underscores_are_the_same():
    for name, hint, value in leaves(Config()):
        if "_" in name:
            text, expected = an_other_value(hint, value)
            for flag in (f"--{name}", f"--{name.replace('_', '-')}"):
                given = [flag] if text is None else [flag, text]
                config = parse("train.py", Config, given, None, Config())
                assert config.flat()[name] == expected, flag


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
