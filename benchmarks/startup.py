"""Seconds until `--help` is shown, and until the first step of a run begins, cold and cached.

python -m benchmarks.startup [--dataset toys] [--data-dir DIR]

Whole processes are timed. The first step begins when the first epoch is through less the seconds
that it took: too late by the first validation and checkpoint, a second or more.
"""

import dataclasses
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro

from benchmarks.measure import report

TRAIN = Path(__file__).parents[1] / "train.py"


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
    subprocess.run([sys.executable, TRAIN, "--help"], check=True, capture_output=True)
    return time.perf_counter() - began


def first_step_seconds(options: Options, cache: str) -> float:
    """Seconds from the start of the process to the first step, with a folder of programs."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, TRAIN, "--dataset", options.dataset, "--epochs", "1"]
        command += ["--run-dir", folder]
        command += [] if options.data_dir is None else ["--data-dir", options.data_dir]
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
        began = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            for line in process.stdout:
                if found := re.match(r"epoch 1/1 .* ([\d.]+) s  at most", line):
                    through = time.perf_counter() - began
                    process.wait()
                    return through - float(found[1])
    raise RuntimeError(f"no epoch in the output of {command}")


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
