"""An epoch of this project beside one of RecBole's and of RecTools' SASRec, on CPU.

    python -m benchmarks.peers --dataset toys --epochs 1

All three train on the same items, the last `max_len` of each history without its last two, at the
same settings (width, heads, blocks, dropout, batch size, learning rate) with a softmax over all
items, and rank the validation items. An epoch is the time to make its batches and to take its
steps; reading data, building the model and, for JAX, compiling come before. Beyond that each
library trains in its own way, which the notes tell: the work of an epoch is not the same.

Run it on an idle machine: PyTorch's threads wait for each other at every operation, and where other
work holds a core the peers slow down many times over. `--threads 1` gives them one thread each.

Each peer lives in a virtual environment of its own under `benchmarks/.venvs`, made on first use
from `requirements-NAME.txt` (Python 3.11); `--NAME-python` names an interpreter to use instead.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.measure import load_experiment, matmul_gflops, report, seconds
from mqsa_jax.data import splits
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.training.epoch import compile_epoch
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import STEPS_PER_PROGRAM
from mqsa_jax.training.state import run_key

FOLDER = Path(__file__).parent
ENVIRONMENTS = FOLDER / ".venvs"
OWN_EPOCHS = 2
NOTES = {
    "recbole": "SASRec, CE; one example a prefix, the loss at its last position only",
    "rectools": "SASRec, softmax; one example a user, padded, the loss at all positions",
    "own": "two branches and distillation, more work than a SASRec; packed, all positions",
}


def own_result(experiment: Experiment) -> dict[str, Any]:
    """Seconds and sizes of this project; the same keys as the peers print."""
    relations = experiment.relations()
    source = experiment.batch_source()
    capacity = source.capacity()
    program = compile_epoch(experiment.recommender, experiment.layout)
    key = experiment.layout.replicate(run_key(source.seed))
    state = experiment.initial_state()
    epoch_seconds = []
    for epoch in range(1 + OWN_EPOCHS):
        began = time.perf_counter()
        for batches in source.batches(epoch, STEPS_PER_PROGRAM, capacity):
            state, _ = program(state, batches, key, relations)
        jax.block_until_ready(state)
        epoch_seconds.append(time.perf_counter() - began)
    # Neither peer leaves seen items out of the ranking here.
    evaluator = experiment.evaluator(Protocol("valid", "none"))
    evaluation = seconds(lambda: evaluator.ranks(state.params, state.hparams), 2)
    return {
        "epoch_seconds": epoch_seconds[1:],  # the first compiles
        "evaluation_seconds": statistics.median(evaluation),
        "sequences": int((training_lengths(experiment) > 0).sum()),
        "steps": source.num_steps,
        "items": experiment.histories.num_items,
    }


def training_lengths(experiment: Experiment) -> np.ndarray:
    """[U] positions that training predicts at."""
    max_len = experiment.config.model.max_len
    return splits.training_inputs(experiment.histories, max_len).lengths


def peer_histories(experiment: Experiment) -> list[list[int]]:
    """Each user's items that this project trains on, then the validation and the test item."""
    histories = experiment.histories
    begin = splits.recent(histories, "train", experiment.config.model.max_len).begin
    bounds = zip(begin, histories.offsets[1:], strict=True)
    return [histories.items[first:end].tolist() for first, end in bounds]


def peer_settings(experiment: Experiment, epochs: int, threads: int | None) -> dict[str, Any]:
    """What the peers are told, by the names of `mqsa_jax.config`; `threads` None is PyTorch's."""
    model, training = experiment.config.model, experiment.config.training
    shared = ("dim", "num_blocks", "num_heads", "dropout", "max_len")
    settings = {name: getattr(model, name) for name in shared}
    settings |= {name: getattr(training, name) for name in ("lr", "batch_size", "seed")}
    return {**settings, "epochs": epochs, "threads": threads}


def peer_result(
    name: str, python: Path, histories: list[list[int]], settings: dict[str, Any]
) -> dict[str, Any]:
    """What `peer_NAME.py` prints, run in a temporary folder that takes whatever it writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "histories.json")
        path.write_text(json.dumps(histories))
        # Without the script's folder in the path its neighbours cannot hide the peer's modules.
        variables = {**os.environ, "PYTHONSAFEPATH": "1"}
        command = [python, FOLDER / f"peer_{name}.py", path, json.dumps(settings)]
        run = subprocess.run(
            command, cwd=folder, env=variables, stdout=subprocess.PIPE, text=True, check=True
        )
    return json.loads(run.stdout.splitlines()[-1])


def environment(name: str) -> Path:
    """The interpreter of a peer's virtual environment, made if it is not there or has old pins."""
    folder = ENVIRONMENTS / name
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    requirements = FOLDER / f"requirements-{name}.txt"
    # Written last, so that an environment whose making was cut short is made again.
    installed = folder / "installed.txt"
    if installed.is_file() and installed.read_text() == requirements.read_text():
        return python
    print(f"Making {folder} (once; several minutes)")
    venv.create(folder, clear=True, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements], check=True)
    installed.write_text(requirements.read_text())
    return python


def row(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """One line of the table."""
    return {
        "library": "mqsa_jax" if name == "own" else f"{name} {result['versions'][name]}",
        "epoch s": statistics.median(result["epoch_seconds"]),
        "evaluation s": result["evaluation_seconds"],
        "sequences": result["sequences"],
        "steps": result["steps"],
        "items": result["items"],
        "threads": result.get("threads"),
        "note": NOTES[name],
    }


def main() -> None:
    """Measures all three and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="toys")
    parser.add_argument("--data-dir")
    parser.add_argument("--recbole-python", type=Path)
    parser.add_argument("--rectools-python", type=Path)
    parser.add_argument("--epochs", type=int, default=1, help="of the peers; the median is told")
    parser.add_argument("--threads", type=int, help="of the peers (default: PyTorch's choice)")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")  # as the peers, whatever devices there are
    pythons = {
        "recbole": args.recbole_python or environment("recbole"),
        "rectools": args.rectools_python or environment("rectools"),
    }
    experiment = load_experiment(args.dataset, args.data_dir)
    histories = peer_histories(experiment)
    settings = peer_settings(experiment, args.epochs, args.threads)
    load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    results = {"own": own_result(experiment)}
    for name, python in pythons.items():
        results[name] = peer_result(name, python.absolute(), histories, settings)
    report(
        "peers",
        [row(name, result) for name, result in results.items()],
        dataset=args.dataset,
        config=dataclasses.asdict(experiment.config),
        settings=settings,
        results=results,
        matmul_gflops=matmul_gflops(),
        load_average_before=load_average,
    )


if __name__ == "__main__":
    main()
