"""Items that no history holds, ranked by their attributes alone.

    MQSA_DATA_DIR=DATA python -m benchmarks.cold_items --work FOLDER

Of the items of a data set that have attributes, every twentieth, drawn at random, is taken out of
all histories. A run is trained on the rest with `--cold-items`. Then each interaction with an item
that was taken out is looked for after the items before it that are left: its rank among the items
that were taken out, and among all items. Chance is what a random order comes to. Written to
docs/performance/cold_items.json; flags that the script does not know are those of `train.py`.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attributes import attribute_file
from benchmarks.small_data import write
from mqsa_jax.data.histories import MIN_ITEMS, Histories, make_histories, read_histories
from mqsa_jax.data.sources import resolve_dataset
from mqsa_jax.inference.loaded_run import TrainedRun, load_run

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "performance" / "cold_items.json"
SHARE = 20
"""One of so many items is taken out."""
BATCH = 512
"""Histories that are scored at a time."""


def taken_out(histories: Histories, described: set[int], seed: int) -> set[int]:
    """Ids of the items to take out."""
    candidates = np.array([item for item in histories.item_ids.tolist() if item in described])
    rng = np.random.default_rng(seed)
    return set(rng.choice(candidates, len(candidates) // SHARE, replace=False).tolist())


def split(histories: Histories, cold: set[int]) -> tuple[Histories, list[tuple[list[int], int]]]:
    """The histories without some items; and each of those with the items left before it."""
    rows = np.split(histories.item_ids[histories.items], histories.offsets[1:-1])
    kept, users, queries = [], [], []
    for user, row in zip(histories.user_ids.tolist(), rows, strict=True):
        before: list[int] = []
        for item in row.tolist():
            if item not in cold:
                before.append(item)
            elif before:
                queries.append((list(before), item))
        if len(before) >= MIN_ITEMS:
            users.append(user)
            kept.append(before)
    left = make_histories(users, kept)
    known = set(left.item_ids.tolist())
    queries = [([item for item in before if item in known], item) for before, item in queries]
    return left, [(before, item) for before, item in queries if before]


def figures(rank_Q: np.ndarray, num_items: int) -> dict[str, float]:
    """HR@20, NDCG@20 and MRR of ranks, and what a random order of so many items comes to."""

    def means(rank: np.ndarray) -> dict[str, float]:
        found = rank <= 20
        return {
            "HR@20": float(found.mean()),
            "NDCG@20": float(np.where(found, 1 / np.log2(rank + 1), 0).mean()),
            "MRR": float((1 / rank).mean()),
            "mean_percentile": float(((rank - 1) / max(num_items - 1, 1)).mean()),
        }

    chance = means(np.arange(1, num_items + 1))
    return {**means(rank_Q), **{f"chance_{name}": value for name, value in chance.items()}}


def ranks(run: TrainedRun, queries: list[tuple[list[int], int]], cold: np.ndarray) -> np.ndarray:
    """[Q, 2] rank of each item that was taken out, among those and among all; ties count half."""
    found = []
    is_cold_V = np.isin(run.item_ids, cold)
    for begin in range(0, len(queries), BATCH):
        some = queries[begin : begin + BATCH]
        score_BV = run.score([before for before, _ in some]).copy()
        for score_V, (before, item) in zip(score_BV, some, strict=True):
            target = run.lookup.indices(np.array([item]))[0]
            score_V[run.indices(before)] = -np.inf
            above_V = (score_V > score_V[target]) + 0.5 * (score_V == score_V[target])
            # The item ties with itself.
            found.append([above_V[is_cold_V].sum() + 0.5, above_V.sum() + 0.5])
    return np.array(found)


def measure(data: str, seed: int, work: Path, flags: list[str]) -> dict[str, Any]:
    """Trains, or goes on, and ranks."""
    lists = json.loads(attribute_file(data).read_text())
    histories = read_histories(resolve_dataset(data))
    cold = taken_out(histories, {int(item) for item, each in lists.items() if each}, seed)
    left, queries = split(histories, cold)
    work.mkdir(parents=True, exist_ok=True)
    name = f"{Path(data).stem}-{seed}"
    path, folder = work / f"{name}.txt", work / name
    write(left, path)
    command = [sys.executable, str(ROOT / "train.py"), f"--dataset={path}", f"--seed={seed}"]
    command += [f"--item-attributes={attribute_file(data)}", "--cold-items", f"--run-dir={folder}"]
    subprocess.run([*command, *flags], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    run = load_run(folder)
    present = np.array([item for item in sorted(cold) if item in set(run.item_ids.tolist())])
    queries = [(before, item) for before, item in queries if item in set(present.tolist())]
    rank_Q2 = ranks(run, queries, present)
    test = json.loads((folder / "test_metrics.json").read_text())
    return {
        "data": data,
        "seed": seed,
        "cold_items": len(present),
        "items": run.num_items,
        "interactions": len(queries),
        "epoch": run.epoch,
        "among_cold_items": figures(rank_Q2[:, 0], len(present)),
        "among_all_items": figures(rank_Q2[:, 1], run.num_items),
        "command": f"python -m benchmarks.cold_items --data {data} --seed {seed} {' '.join(flags)}",
        "provenance": {k: v for k, v in test["provenance"].items() if k != "command"},
    }


def main() -> None:
    """Measures one data set and prints and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="toys", help="a name, or a file of histories")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, required=True, help="folder of the run")
    parser.add_argument("--results", type=Path, default=RESULTS)
    choice, flags = parser.parse_known_args()
    row = measure(choice.data, choice.seed, choice.work, flags)
    done = json.loads(choice.results.read_text()) if choice.results.exists() else []
    done = [other for other in done if other["command"] != row["command"]]
    choice.results.write_text(json.dumps([*done, row], indent=1) + "\n")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
