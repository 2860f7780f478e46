"""Defaults by the size of the data against general ones, on small data sets.

    MQSA_DATA_DIR=DATA python -m benchmarks.small_data

Each run is a process of `train.py`. Generated data (`mqsa_jax/data/synthetic.py`) of three sizes,
and users of Beauty, whose items are limited to the 2,000 most frequent so that a sample keeps some
of its density. Results are kept one by one in docs/performance/small_data.json: the command goes on
where it was stopped. docs/small_data.md is written from that file; --page-only does nothing else.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from mqsa_jax.data.histories import Histories, make_histories, read_histories
from mqsa_jax.data.sources import find_dataset
from mqsa_jax.data.synthetic import Recipe, synthetic_histories

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "performance" / "small_data.json"
PAGE = ROOT / "docs" / "small_data.md"
MODELS = {"mqsa-ted": "MQSA-TED", "mqsa-ted-plus": "MQSA-TED+"}
GENERAL = {
    "mqsa-ted": ["--batch-size=256", "--patience=20", "--epochs=200"],
    "mqsa-ted-plus": [
        *("--batch-size=256", "--patience=10", "--epochs=200", "--ema-decay=0.995"),
        "--no-choose-term-weight",
    ],
}
"""Flags that put the general defaults back."""
GENERATED = {150: 100, 600: 300, 2500: 1000}
"""Users and items of the generated data."""
SAMPLED = (1000, 4000)
"""Users of Beauty."""


def generated(num_users: int) -> Histories:
    """Generated histories of one size."""
    num_items = GENERATED[num_users]
    recipe = Recipe(num_users=num_users, num_items=num_items, num_clusters=max(num_items // 40, 4))
    return synthetic_histories(0, recipe)


def sampled(num_users: int, num_items: int = 2000, min_items: int = 5) -> Histories:
    """Random users of Beauty with five or more of its most frequent items."""
    beauty = read_histories(find_dataset("beauty"))
    common = {item for item, _ in Counter(beauty.items.tolist()).most_common(num_items)}
    rows = [
        [item for item in row.tolist() if item in common]
        for row in np.split(beauty.items, beauty.offsets[1:-1])
    ]
    users = np.array([user for user, row in enumerate(rows) if len(row) >= min_items])
    users = np.sort(np.random.default_rng(0).choice(users, num_users, replace=False))
    return make_histories(users + 1, [np.array(rows[user]) + 1 for user in users])


def write(histories: Histories, path: Path) -> None:
    """Writes a file `user item item ...`."""
    rows = np.split(histories.item_ids[histories.items], histories.offsets[1:-1])
    lines = (
        " ".join(map(str, [user, *row]))
        for user, row in zip(histories.user_ids.tolist(), rows, strict=True)
    )
    path.write_text("\n".join(lines) + "\n")


def run(name: str, path: Path, model: str, defaults: str, seed: int, folder: Path) -> dict:
    """One run: what it came to."""
    flags = GENERAL[model] if defaults == "general" else []
    command = [sys.executable, str(ROOT / "train.py"), f"--dataset={path}", f"--model={model}"]
    command += [f"--seed={seed}", f"--run-dir={folder}", *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    test = json.loads((folder / "test_metrics.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    best = json.loads((folder / "best.json").read_text())
    return {
        "data": name,
        "users": test["users"],
        "items": test["items"],
        "model": model,
        "defaults": defaults,
        "seed": seed,
        "batch_size": config["batch_size"],
        "term_weight": config["term_weight"] * best.get("term_factor", 1.0),
        "epoch": test["epoch"],
        "step": history[test["epoch"] - 1]["step"],
        "valid_NDCG@20": max(line["valid_NDCG@20"] for line in history),
        "test_NDCG@20": test["NDCG@20"],
        "seconds": round(sum(line["seconds"] for line in history), 1),
        "command": f"python train.py --dataset FILE --model {model} --seed {seed} "
        + " ".join(flags),
        # Without the command of the process, which names a temporary folder.
        "provenance": {k: v for k, v in test["provenance"].items() if k != "command"},
    }


def complete(seeds: list[int]) -> None:
    """Runs what is missing in the file of results, the smallest data first."""
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    keys = {(row["data"], row["model"], row["defaults"], row["seed"]) for row in done}
    sets = {f"generated, {users} users": (generated, users) for users in GENERATED}
    sets |= {f"Beauty, {users} users": (sampled, users) for users in SAMPLED}
    for seed in seeds:
        for name, (make, users) in sets.items():
            for model in MODELS:
                for defaults in ("general", "by size"):
                    if (name, model, defaults, seed) in keys:
                        continue
                    with tempfile.TemporaryDirectory() as folder:
                        path = Path(folder) / "data.txt"
                        write(make(users), path)
                        done.append(run(name, path, model, defaults, seed, Path(folder) / "run"))
                    RESULTS.write_text(json.dumps(done, indent=1) + "\n")
                    print(name, model, defaults, seed, done[-1]["test_NDCG@20"], flush=True)


def page() -> str:
    """The page: a row for each data set and model, means over seeds."""
    rows = json.loads(RESULTS.read_text())
    lines = [
        "# Defaults by the size of the data",
        "",
        "Data sets without a configuration of their own start from defaults that depend on the",
        "number of users (`mqsa_jax/presets.py`, `sized_defaults`): batch size, patience, epochs",
        "and moving average by the number of steps, and for MQSA-TED+ the weight of the transition",
        "term, which validation chooses after training. Below, the general defaults (batch size",
        "256, patience of 20 epochs, or 10 for MQSA-TED+, term weight 12) beside them: test",
        "NDCG@20, full ranking, means over the seeds. Written by `python -m benchmarks.small_data`",
        "from [small_data.json](performance/small_data.json), which holds commands, commits and",
        "machines (`-dirty`: that file itself had new rows).",
        "",
        "| Data | Model | Seeds | General | By size | Change | Batch size | Term weights |",
        "|---|---|---|---|---|---|---|---|",
    ]
    compared = _compared(rows)
    for (data, model), (old, new) in compared.items():
        before, after = (np.mean([row["test_NDCG@20"] for row in group]) for group in (old, new))
        weights = sorted({row["term_weight"] for row in new}) if "plus" in model else []
        lines.append(
            f"| {data} | {MODELS[model]} | {min(len(old), len(new))} | {before:.4f} | "
            f"{after:.4f} | "
            f"{100 * (after / before - 1):+.1f}% | {new[0]['batch_size']} | "
            f"{', '.join(f'{weight:g}' for weight in weights)} |"
        )
    worse = [line for line in lines if "| -" in line]
    lines += ["", f"Worse by size: {len(worse)} of {len(compared)} rows."]
    lines += [
        "With so few users a difference of a few percent is within what seeds differ by: a test",
        "of 150 users moves by .0067 of HR with one user.",
    ]
    return "\n".join(lines) + "\n"


def _compared(rows: list[dict]) -> dict[tuple[str, str], tuple[list[dict], list[dict]]]:
    """By data set and model, the runs by general defaults and by size, where both are there."""
    groups = {}
    for key in dict.fromkeys((row["data"], row["model"]) for row in rows):
        own = [row for row in rows if (row["data"], row["model"]) == key]
        old, new = (
            [row for row in own if row["defaults"] == name] for name in ("general", "by size")
        )
        if old and new:
            groups[key] = old, new
    return groups


def main() -> None:
    """Completes the results and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--page-only", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    if not arguments.page_only:
        complete(arguments.seeds)
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
