"""The scripts as processes: what `--help` and mistakes print, and what they do not import."""

import ast
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mqsa_jax.commands.evaluate import EvalConfig
from mqsa_jax.commands.explore import ExploreConfig
from mqsa_jax.commands.recommend import RecommendConfig
from mqsa_jax.commands.serve import ServeConfig
from mqsa_jax.config import Config, ModelConfig, ObjectiveConfig, RunConfig, TrainingConfig

ROOT = Path(__file__).parents[2]


def descriptions(*classes: type) -> dict[str, str]:
    """The text below each field in the source of the given dataclasses."""
    texts = {}
    for cls in classes:
        module = ast.parse(Path(sys.modules[cls.__module__].__file__).read_text())
        (node,) = [n for n in module.body if getattr(n, "name", None) == cls.__name__]
        for field, text in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                texts[field.target.id] = " ".join(ast.literal_eval(text.value).split())
    return texts


def run_script(script: str, *flags: str) -> tuple[str, str]:
    """Runs a script in a process of its own; returns its output, and how it ended."""
    program = (
        "import runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    print('\\nexit', stop.code, {'jax', 'flax', 'orbax', 'optax'} & sys.modules.keys())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / script), *flags],
        env={**os.environ, "COLUMNS": "300", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    printed, ending = done.stdout.rsplit("\nexit ", 1)
    return printed + done.stderr, ending.strip()


def test_a_reader_who_leaves_is_no_error():
    """As in `train.py --help | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, str(ROOT / "train.py"), "--help"]
    done = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("script", "classes"),
    [
        ("train.py", [Config, ModelConfig, ObjectiveConfig, TrainingConfig, RunConfig]),
        ("eval.py", [EvalConfig]),
        ("mqsa_jax/__main__.py recommend", [RecommendConfig]),
        ("mqsa_jax/__main__.py serve", [ServeConfig]),
        ("mqsa_jax/__main__.py explore", [ExploreConfig]),
    ],
)
def test_help_explains_each_flag_without_importing_jax(script, classes):
    printed, ending = run_script(*script.split(), "--help")
    assert ending == "0 set()"
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", printed).split())
    flags = descriptions(*classes)
    of_some = ({"dataset", "dim", "resume"}, {"run_dir", "dataset"}, {"model", "port"})
    assert any(names <= flags.keys() for names in of_some)
    for cls in classes:
        for field in dataclasses.fields(cls):
            if not dataclasses.is_dataclass(field.type):
                assert f"--{field.name.replace('_', '-')}" in text
                assert flags[field.name] in text


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("train.py", ["--alpha", "2"]),
        ("train.py", ["--aplha", "1"]),
        ("train.py", ["--dataset", "qq"]),
        ("mqsa_jax/__main__.py", ["sweep", "--dataset", "no/such"]),
        ("eval.py", []),
        ("mqsa_jax/__main__.py", ["recommend", "--run-dir", "."]),
        ("mqsa_jax/__main__.py", ["serve", "--model", "no/such"]),
        ("mqsa_jax/__main__.py", ["explore", "--run-dir", "."]),
        ("mqsa_jax/__main__.py", ["recommend", "--run-dir=.", "--all", "--output=a.txt"]),
    ],
)
def test_a_bad_flag_is_refused_without_importing_jax(script, flags):
    printed, ending = run_script(script, *flags)
    assert ending == "2 set()"
    assert ": error: " in printed and printed.count("\n") == 1
