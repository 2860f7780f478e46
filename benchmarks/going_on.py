"""Epochs that training needs on data that have grown: from nothing, and from a run on the old data.

    MQSA_DATA_DIR=DATA python -m benchmarks.going_on

The old data are the first half of each history, by position; the new data are all of it. No
history's half reaches its validation or test target. Each run is a process of `train.py` with the
settings of the data set, or of the size of the generated one. Results are kept one by one in
docs/performance/going_on.json: the command goes on where it was stopped, with --work also within a
run. docs/going_on.md is written from that file; --page-only does nothing else.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.small_data import write
from mqsa_jax.data.histories import MIN_ITEMS, Histories, make_histories, read_histories
from mqsa_jax.data.sources import find_dataset
from mqsa_jax.data.synthetic import synthetic_histories

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "performance" / "going_on.json"
PAGE = ROOT / "docs" / "going_on.md"
DATA = {"generated": "Generated", "toys": "Toys"}
HELD_OUT = 2
"""Items at the end of a history that the old data must not have."""
SHARES = (0.95, 1.0)
"""Of the best validation NDCG@20 from nothing: when it is first reached."""
STARTS = {
    "half": "half of each history, from nothing",
    "nothing": "all, from nothing",
    "half's run": "all, from the run on the halves",
}
METRIC = "valid_NDCG@20"
_ORIGINS = re.compile(
    r"epoch (\d+): (\d+) items carried over, (\d+) new from their neighbours, "
    r"(\d+) new from nothing; (\d+) items of that run are gone"
)
_ORIGIN_NAMES = ("source_epoch", "carried_over", "from_neighbours", "from_nothing", "gone")


def first_halves(histories: Histories) -> Histories:
    """The first half of each history, at least `MIN_ITEMS`; users with too few items are left out.

    What is kept of a history is never among its last `HELD_OUT` items.
    """
    keep_U = np.maximum(histories.lengths // 2, MIN_ITEMS)
    kept = np.flatnonzero(keep_U <= histories.lengths - HELD_OUT)
    ids = histories.item_ids[histories.items]
    begin_U = histories.offsets[:-1]
    rows = [ids[begin_U[user] : begin_U[user] + keep_U[user]] for user in kept]
    return make_histories(histories.user_ids[kept], rows)


def run(
    data: str, start: str, seed: int, dataset: str, folder: Path, *flags: str
) -> dict[str, Any]:
    """One run: what it came to, and the validation of each epoch."""
    command = [sys.executable, str(ROOT / "train.py"), f"--dataset={dataset}", f"--seed={seed}"]
    log = folder.with_name(f"{folder.name}.log")
    with open(log, "a") as output:
        subprocess.run(
            [*command, f"--run-dir={folder}", *flags], check=True, stdout=output, cwd=ROOT
        )
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    test = json.loads((folder / "test_metrics.json").read_text())
    origins = _ORIGINS.search(log.read_text())
    more = " --init-from RUN" if start == "half's run" else ""
    return {
        "data": data,
        "start": start,
        "seed": seed,
        "users": test["users"],
        "items": test["items"],
        "best_epoch": test["epoch"],
        "epochs": len(history),
        "seconds": round(sum(line["seconds"] for line in history), 1),
        METRIC: [line[METRIC] for line in history],
        **{f"test_{name}": test[name] for name in ("HR@20", "NDCG@20", "MRR")},
        **(dict(zip(_ORIGIN_NAMES, map(int, origins.groups()), strict=True)) if origins else {}),
        "command": f"python train.py --dataset {Path(dataset).name} --seed {seed}{more}",
        "versions": test["versions"],
        # Without the command of the process, which names a temporary folder.
        "provenance": {k: v for k, v in test["provenance"].items() if k != "command"},
    }


def write_data(data: str, work: Path) -> tuple[str, str]:
    """Files of the halves and of all of a data set; the latter by its name if it has one."""
    whole = synthetic_histories() if data == "generated" else read_histories(find_dataset(data))
    halves = work / f"{data}-halves.txt"
    write(first_halves(whole), halves)
    if data != "generated":
        return str(halves), data
    write(whole, work / f"{data}.txt")
    return str(halves), str(work / f"{data}.txt")


def complete(data_sets: list[str], seeds: list[int], work: Path) -> None:
    """Runs what is missing in the file of results: three runs a data set and seed, in turn."""
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for data in data_sets:
        halves, whole = write_data(data, work)
        for seed in seeds:
            source = work / f"{data}-half-{seed}"
            for start in STARTS:
                key = (data, start, seed)
                if key in [(row["data"], row["start"], row["seed"]) for row in done]:
                    continue
                if start == "half's run":
                    run(data, "half", seed, halves, source)
                    folder, flags = work / f"{data}-on-{seed}", [f"--init-from={source}"]
                else:
                    folder, flags = work / f"{data}-{start}-{seed}", []
                dataset = halves if start == "half" else whole
                done.append(run(data, start, seed, dataset, folder, *flags))
                RESULTS.write_text(json.dumps(done, indent=1) + "\n")
                print(*key, done[-1]["best_epoch"], done[-1]["test_NDCG@20"], flush=True)


def first_epoch(validation: list[float], threshold: float) -> int | None:
    """The first epoch, from 1, whose validation reaches the threshold; None if none does.

    >>> first_epoch([0.1, 0.3, 0.2], 0.2), first_epoch([0.1], 0.2)
    (2, None)
    """
    return next((n for n, value in enumerate(validation, 1) if value >= threshold), None)


def page() -> str:
    """The page: a row for each run, by data set and seed."""
    rows = json.loads(RESULTS.read_text())
    lines = [
        "# Going on from another run",
        "",
        "`train.py --dataset NEW --init-from RUN` starts from the parameters of a run on an",
        "earlier state of the data ([usage.md](usage.md) has the rules). Below, MQSA-TED: a run on",
        "the first half of each history, by position, and on all of it, from nothing and from",
        "that run. No half reaches a validation or test target of all. The first epochs at which",
        "validation NDCG@20 reaches 95% and 100% of its best from nothing, by seed; test at the",
        "best epoch, full ranking. Written by `python -m benchmarks.going_on` from",
        "[going_on.json](performance/going_on.json), which holds commands, commits, machines and",
        "the validation of every epoch (`-dirty`: that file itself had new rows).",
    ]
    for data, title in DATA.items():
        own = [row for row in rows if row["data"] == data]
        if any(row["start"] == "half's run" for row in own):
            lines += _section(title, own)
    lines += [
        "",
        "A run on the halves is tested on its own held-out items, so its figures do not compare",
        "with the others. Seconds are those of all epochs, the patience included; other work ran",
        "beside on the machine, so compare epochs.",
    ]
    return "\n".join(lines) + "\n"


def _section(title: str, rows: list[dict[str, Any]]) -> list[str]:
    """A data set's heading, what became of its items, and its table."""
    first = next(row for row in rows if row["start"] == "half's run")
    lines = [
        "",
        f"## {title}",
        "",
        f"{first['users']} users and {first['items']} items: {first['carried_over']} carried over, "
        f"{first['from_neighbours']} new from their neighbours, {first['from_nothing']} new from "
        "nothing.",
        "",
        "| Seed | Data and start | Epoch of 95% | Epoch of 100% | Best epoch | Best validation "
        "NDCG@20 | Test HR@20 | Test NDCG@20 | Test MRR | Seconds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        best = [
            max(other[METRIC])
            for other in rows
            if (other["start"], other["seed"]) == ("nothing", row["seed"])
        ]
        reached = ["", ""]
        if best and row["start"] != "half":
            reached = [first_epoch(row[METRIC], share * best[0]) or "never" for share in SHARES]
        cells = [row["seed"], STARTS[row["start"]], *reached, row["best_epoch"]]
        cells += [f"{max(row[METRIC]):.4f}"]
        cells += [f"{row[f'test_{name}']:.4f}" for name in ("HR@20", "NDCG@20", "MRR")]
        lines.append(f"| {' | '.join(map(str, [*cells, round(row['seconds'])]))} |")
    return lines


def main() -> None:
    """Completes the results and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--work", type=Path, help="folder of the runs (default: a temporary one)")
    parser.add_argument("--page-only", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    if not arguments.page_only:
        with tempfile.TemporaryDirectory() as folder:
            work = arguments.work or Path(folder)
            work.mkdir(parents=True, exist_ok=True)
            complete(arguments.data, arguments.seeds, work)
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
