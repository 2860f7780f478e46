"""Seconds until `--help` is shown, and until the first step of a run begins, cold and cached.

python -m benchmarks.startup [--dataset toys] [--data-dir DIR]

Whole processes are timed from outside. The first step begins when the compiled program of an epoch
has been handed to the devices, which a wrapper around it tells; the process is ended there.
"""

import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro

from benchmarks.measure import report

ROOT = Path(__file__).parents[1]
MARK = "first step"
TOLD = f"""
import sys
from mqsa_jax.commands.train import train_main
from mqsa_jax.training import loop

compile_epoch = loop.compile_epoch

def compile_told(*args):
    program = compile_epoch(*args)
    return lambda *inputs: (program(*inputs), print("{MARK}", flush=True))[0]

loop.compile_epoch = compile_told
sys.exit(train_main())
"""
"""train.py, but that it says when the first epoch has been handed to the devices."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured."""

    dataset: str = "toys"
    """A data set's name, or the path of a file `user item item ...`."""
    data_dir: str | None = None
    """Folder of the data files (default: as in training)."""
    repeats: int = 3
    """Starts of each kind, the cold one aside."""


def help_seconds() -> float:
    """Seconds of `train.py --help`."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "train.py", "--help"], check=True, capture_output=True, cwd=ROOT
    )
    return time.perf_counter() - began


def first_step_seconds(options: Options, cache: str) -> float:
    """Seconds from the start of the process to the first step, with a folder of programs."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", TOLD, "--dataset", options.dataset, "--run-dir", folder]
        command += [] if options.data_dir is None else ["--data-dir", options.data_dir]
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
        began = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        ) as process:
            told = MARK in (line.strip() for line in process.stdout)
            passed = time.perf_counter() - began
            process.kill()
    if not told:
        raise SystemExit("no first step: see the message above")
    return passed


def main(options: Options) -> None:
    """Measures and reports."""
    helps = [help_seconds() for _ in range(options.repeats + 1)][1:]
    with tempfile.TemporaryDirectory() as cache:
        cold = first_step_seconds(options, cache)
        cached = [first_step_seconds(options, cache) for _ in range(options.repeats)]
    rows = [
        {"start": "--help", "seconds": statistics.median(helps)},
        {"start": f"first step of {options.dataset}, nothing compiled", "seconds": cold},
        {"start": f"first step of {options.dataset}", "seconds": statistics.median(cached)},
    ]
    report("startup", rows, options.dataset)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
