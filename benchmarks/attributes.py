"""Item attributes: where they enter, against none and against random ones.

    MQSA_DATA_DIR=DATA python -m benchmarks.attributes --work RUNS

Each run is a process of `train.py`; DATA holds the data sets and S3-Rec's lists of attributes
(`Toys_and_Games_item2attributes.json`, ...). Runs lie in RUNS and go on where they were stopped.
Figures are kept one by one in docs/performance/attributes.json, which docs/build_attributes.py
reads; what `make report` reads is copied to docs/results/benchmarks.
`--speed` times an epoch, or some steps, with attributes and without in turn instead.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import one_call, report
from mqsa_jax.data.sources import SOURCES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "performance" / "attributes.json"
KEPT = ROOT / "docs" / "results" / "benchmarks"
KEPT_FILES = ("config.json", "metrics.jsonl", "test_metrics.json", "ranks.npz")
VARIANTS: dict[str, list[str] | None] = {
    "none": None,
    "both": [],
    "both, mean": ["--attribute-power=1"],
    "input": ["--attribute-side=input"],
    "score": ["--attribute-side=score"],
    "ID dropout 0.1": ["--id-dropout=0.1"],
    "ID dropout 0.3": ["--id-dropout=0.3"],
    "random": [],
}
"""Flags beside `--item-attributes`; None: without it, as kept in docs/results."""
KEPT_NAMES = {"mqsa-ted": "{data}-{seed}", "mqsa-ted-plus": "{data}-mqsa-ted-plus-{seed}"}
"""Runs without attributes there."""
Times = dict[str, list[float]]
COLUMNS = ("valid_NDCG@20", "test_HR@20", "test_NDCG@20", "test_MRR")


def attribute_file(data: str) -> Path:
    """Lists of attributes of a data set; beside its histories, and named like them."""
    path = Path(data)
    if data in SOURCES:
        path = Path(os.environ["MQSA_DATA_DIR"], SOURCES[data].file_name)
    return path.with_name(f"{path.stem}_item2attributes.json").absolute()


def shuffled(path: Path, out: Path, seed: int = 0) -> Path:
    """The same lists, each given to another item: they tell nothing, and are as long."""
    lists = json.loads(path.read_text())
    items = list(lists)
    others = np.random.default_rng(seed).permutation(len(items))
    moved = {item: lists[items[other]] for item, other in zip(items, others, strict=True)}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(moved))
    return out


def flags_of(data: str, variant: str, work: Path) -> list[str]:
    """What the variant adds to the command."""
    flags = VARIANTS[variant]
    if flags is None:
        return []
    path = attribute_file(data)
    if variant == "random":
        path = shuffled(path, work / "random" / f"random_{path.name}")
    return [f"--item-attributes={path}", *flags]


def run(data: str, model: str, variant: str, seed: int, work: Path, more: list[str]) -> dict:
    """One run, gone on with where it was stopped: what it came to."""
    key = {"data": data, "model": model, "variant": variant, "seed": seed}
    kept = KEPT / KEPT_NAMES[model].format(**key)
    if variant == "none" and not more and kept.is_dir():
        return outcome(kept, key, [])
    name = f"{Path(data).stem}-{model}-attributes-{variant.replace(', ', '-').replace(' ', '-')}"
    folder, flags = work / f"{name}-{seed}", flags_of(data, variant, work)
    command = [sys.executable, str(ROOT / "train.py"), f"--dataset={data}", f"--model={model}"]
    command += [f"--seed={seed}", f"--run-dir={folder}", *flags, *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    if not more:
        keep(folder, KEPT / folder.name)
    shown = [flag.split("=")[0] + "=" + Path(flag.split("=")[1]).name for flag in flags]
    return outcome(folder, key, [*shown, *more])


def keep(folder: Path, kept: Path) -> None:
    """Copies what the report reads, without the folders of this machine in it."""
    kept.mkdir(parents=True, exist_ok=True)
    for file in KEPT_FILES:
        shutil.copy(folder / file, kept / file)
    given = json.loads((folder / "config.json").read_text())["item_attributes"]
    hidden = {f"{folder.parent.absolute()}/": "runs/"}
    if given is not None:
        hidden[f"{Path(given).parent}/"] = ""
    for file in kept.glob("*.json"):
        text = file.read_text()
        for path, shown in hidden.items():
            text = text.replace(path, shown)
        file.write_text(text)


def outcome(folder: Path, key: dict[str, Any], flags: list[str]) -> dict[str, Any]:
    """What a run came to, and the command and machine that made it."""
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    test = json.loads((folder / "test_metrics.json").read_text())
    command = [f"python train.py --dataset {key['data']} --model {key['model']}"]
    # Older runs have kept no times.
    seconds = [line["seconds"] for line in history if line["seconds"] is not None]
    return key | {
        "epoch": test["epoch"],
        "epochs": len(history),
        "valid_NDCG@20": max(line["valid_NDCG@20"] for line in history),
        "test_HR@20": test["HR@20"],
        "test_NDCG@20": test["NDCG@20"],
        "test_MRR": test["MRR"],
        "seconds_an_epoch": round(statistics.median(seconds), 2) if seconds else None,
        "command": " ".join([*command, f"--seed {key['seed']}", *flags]),
        # Without the command of the process, which names a folder of the machine.
        "provenance": {k: v for k, v in test["provenance"].items() if k != "command"},
    }


def complete(choice: argparse.Namespace) -> None:
    """Runs what is missing in the file of results."""
    results = choice.results
    done = json.loads(results.read_text()) if results.exists() else []
    keys = {(row["data"], row["model"], row["variant"], row["seed"]) for row in done}
    for seed in choice.seeds:
        for data in choice.data:
            for model in choice.models:
                for variant in choice.variants:
                    key = data, model, variant, seed
                    if key in keys:
                        continue
                    done.append(run(*key, choice.work, choice.flags))
                    results.write_text(json.dumps(done, indent=1) + "\n")
                    print(*key, *(f"{done[-1][name]:.4f}" for name in COLUMNS), flush=True)


def in_turn(calls: dict[str, Callable], repeats: int) -> tuple[Times, Times]:
    """Seconds of each call by name: of the wall, and of the processor."""
    wall: Times = {name: [] for name in calls}
    busy: Times = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.process_time()
            wall[name].append(one_call(call))
            busy[name].append(time.process_time() - began)
    return wall, busy


def speed(data: str, repeats: int, steps: int) -> None:
    """Seconds of training steps without and with attributes, measured in turn.

    Of the wall, and of the processor: the latter count on a machine that does other work too.
    """
    from mqsa_jax.attribute_settings import AttributesConfig
    from mqsa_jax.config import Config
    from mqsa_jax.training.epoch import compile_epoch
    from mqsa_jax.training.experiment import Experiment
    from mqsa_jax.training.state import run_key

    calls = {}
    for name, path in (("without", None), ("with", str(attribute_file(data)))):
        config = Config(dataset=data, attributes=AttributesConfig(item_attributes=path))
        experiment = Experiment.load(config)
        source = experiment.batch_source()
        batches = next(source.batches(0, steps, source.capacity()))
        program = compile_epoch(experiment.recommender, experiment.layout)
        arguments = (experiment.initial_state(), batches, run_key(1), experiment.relations())
        calls[name] = partial(program, *arguments)
        one_call(calls[name])
    wall, busy = in_turn(calls, repeats)
    ratios = {
        f"{what}_ratio": statistics.median(b / a for a, b in zip(*times.values(), strict=True))
        for what, times in (("wall", wall), ("processor", busy))
    }
    rows = [
        {
            "attributes": name,
            "wall_s": statistics.median(wall[name]),
            "processor_s": statistics.median(busy[name]),
        }
        for name in calls
    ]
    report(
        "attributes_speed", rows, data, steps=len(batches.num_positions), repeats=repeats, **ratios
    )


def main() -> None:
    """Completes the results, or measures the speed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--data", nargs="+", default=["toys", "beauty", "yelp", "sports"])
    parser.add_argument("--models", nargs="+", choices=KEPT_NAMES, default=list(KEPT_NAMES))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--work", type=Path, help="folder of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--speed", type=int, metavar="REPEATS", help="time steps in turn instead")
    parser.add_argument("--steps", type=int, default=512, help="steps of --speed, an epoch at most")
    choice, choice.flags = parser.parse_known_args()
    if choice.speed:
        speed(choice.data[0], choice.speed, choice.steps)
        return
    if choice.work is None:
        parser.error("--work names the folder of the runs")
    complete(choice)


if __name__ == "__main__":
    main()
