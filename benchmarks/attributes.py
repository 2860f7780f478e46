"""Item attributes: where they enter, against none and against random ones.

    MQSA_DATA_DIR=DATA python -m benchmarks.attributes --work RUNS

Each run is a process of `train.py`; DATA holds the data sets and S3-Rec's lists of attributes
(`Toys_and_Games_item2attributes.json`, ...). Runs lie in RUNS and go on where they were stopped.
Figures are kept one by one in docs/performance/attributes.json, from which --page-only writes
docs/attributes_results.md; what `make report` reads is copied to docs/results/benchmarks.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import one_call
from mqsa_jax.data.sources import SOURCES, dataset_title
from mqsa_jax.reporting.results import rank_in

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "performance" / "attributes.json"
PAGE = ROOT / "docs" / "attributes_results.md"
KEPT = ROOT / "docs" / "results" / "benchmarks"
KEPT_FILES = ("config.json", "metrics.jsonl", "test_metrics.json", "ranks.npz")
MODELS = {"mqsa-ted": "MQSA-TED", "mqsa-ted-plus": "MQSA-TED+"}
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
    hidden = {f"{Path(given).parent}/": "", f"{folder.parent.absolute()}/": "runs/"}
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


def page(rows: list[dict[str, Any]]) -> str:
    """A row for each data set, model and variant: means over the seeds."""
    lines = [
        "# Item attributes: results",
        "",
        "[attributes.md](attributes.md) has the method. Attributes are S3-Rec's lists; `both,",
        "mean` is `--attribute-power 1`; `random` has the lists dealt out to other items. Means",
        "over the seeds, full ranking, test at the epoch of the best validation NDCG@20; choose a",
        "variant by validation. Written by `python -m benchmarks.attributes` from",
        "[attributes.json](performance/attributes.json), which holds commands, commits, machines.",
        "",
        "| Data | Model | Attributes | Seeds | Best epoch | Validation NDCG@20 | Test HR@20 "
        "| Test NDCG@20 | Test MRR | Seconds an epoch |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    names = ("data", "model", "variant")
    order = (*SOURCES, *MODELS, *VARIANTS)
    for row in sorted(rows, key=lambda row: [rank_in(order, row[name]) for name in names]):
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    for (data, model, variant), own in groups.items():
        cells = [dataset_title(data), MODELS[model], variant, len(own)]
        cells.append(f"{statistics.mean(row['epoch'] for row in own):.3g}")
        cells += [f"{statistics.mean(row[name] for row in own):.4f}" for name in COLUMNS]
        seconds = [row["seconds_an_epoch"] for row in own]
        cells.append("" if None in seconds else f"{statistics.mean(seconds):.1f}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


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
    wall: dict[str, list[float]] = {name: [] for name in calls}
    busy: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.process_time()
            wall[name].append(one_call(call))
            busy[name].append(time.process_time() - began)
    for what, times in (("wall", wall), ("processor", busy)):
        for name, seconds in times.items():
            shown = ", ".join(f"{second:.2f}" for second in seconds)
            print(f"{what}, {name} attributes: {shown} s")
        ratios = [b / a for a, b in zip(*times.values(), strict=True)]
        print(f"{what}, ratio of neighbours: median {statistics.median(ratios):.3f}")


def main() -> None:
    """Completes the results and writes the page, or measures the speed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--data", nargs="+", default=["toys", "beauty", "yelp", "sports"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--work", type=Path, help="folder of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page-only", action="store_true", help="run nothing")
    parser.add_argument("--speed", type=int, metavar="REPEATS", help="time steps in turn instead")
    parser.add_argument("--steps", type=int, default=512, help="steps of --speed, an epoch at most")
    choice, choice.flags = parser.parse_known_args()
    if choice.speed:
        speed(choice.data[0], choice.speed, choice.steps)
        return
    if not choice.page_only:
        if choice.work is None:
            parser.error("--work names the folder of the runs")
        complete(choice)
    text = page(json.loads(choice.results.read_text()))
    if choice.results == RESULTS:
        PAGE.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
