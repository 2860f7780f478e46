"""Writes docs/results.md from the runs kept in docs/results: `python docs/build_results.py`.

A kept run is a folder with the run directory's config.json, metrics.jsonl, test_metrics.json, and
note.txt where there is something to say of it:
`benchmarks/NAME` on the public data sets, `parts/VARIANT-SEED` on the synthetic one.
"""

import json
import shlex
import statistics
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
CUTOFFS = (5, 10, 20)
HEAD = """# Results

Made by `python docs/build_results.py` from the runs in `docs/results/`, whose files are as
`train.py` wrote them. Full ranking of all items, leave-one-out, items consumed before excluded (see
[method.md](method.md)). The epoch of the best validation NDCG@20 gives the test figures.
"""


def load(folder: Path) -> dict[str, Any]:
    """A kept run's configuration, epochs and test result."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return {
        "name": folder.name,
        "config": json.loads((folder / "config.json").read_text()),
        "epochs": [json.loads(line) for line in lines],
        "test": json.loads((folder / "test_metrics.json").read_text()),
        "note": (folder / "note.txt").read_text().strip() if (folder / "note.txt").exists() else "",
    }


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def summary(runs: list[dict[str, Any]]) -> str:
    """Test figures, a line a run."""
    names = [f"{metric}@{k}" for k in CUTOFFS for metric in ("HR", "NDCG")] + ["MRR"]
    rows = []
    for run in runs:
        figures = [f"{run['test'][name]:.4f}" for name in names]
        rows.append([run["config"]["dataset"], str(run["config"]["seed"]), *figures])
    return table(["data set", "seed", *names], rows)


def section(run: dict[str, Any]) -> str:
    """Command, machine, time and every epoch of a run."""
    test, epochs = run["test"], run["epochs"]
    made_by = test["provenance"]
    seconds = statistics.median(line["seconds"] for line in epochs)
    versions = ", ".join(f"{name} {version}" for name, version in test["versions"].items())
    shown = ("epoch", "step", "loss", "loss_rec", "loss_kd", "seconds")
    valid = [name for name in epochs[0] if name.startswith("valid_")]
    rows = [
        [*(_cell(line[name]) for name in shown), *(f"{line[name]:.4f}" for name in valid)]
        for line in epochs
    ]
    return "\n\n".join(
        [
            f"## {run['name']}",
            f"`{shlex.join(['python', *made_by['command']])}`",
            f"Commit {made_by['commit']}, seed {run['config']['seed']}, on {made_by['machine']}. "
            f"{len(epochs)} epochs, the best {test['epoch']}; median {seconds:.1f} s of training "
            f"an epoch. {versions}. {run['note']}".strip(),
            table([*shown, *valid], rows),
        ]
    )


def _cell(value: float) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def parts(runs: list[dict[str, Any]]) -> str:
    """The full model against its parts on the synthetic data: means, and paired differences."""
    variants: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        variant, seed = run["name"].rsplit("-", 1)
        variants.setdefault(variant, {})[seed] = run["test"]
    rows = []
    for variant, by_seed in sorted(variants.items()):
        command = by_seed[min(by_seed)]["provenance"]["command"]
        cells = [
            variant.replace("-", " "),
            f"`{shlex.join(['python', *_without_folder(command)])}`",
        ]
        cells.append(", ".join(sorted(by_seed)))
        for name in ("HR@20", "NDCG@20"):
            values = [test[name] for test in by_seed.values()]
            lead = [variants["full"][seed][name] - test[name] for seed, test in by_seed.items()]
            error = statistics.stdev(lead) / len(lead) ** 0.5
            cells += [f"{statistics.mean(values):.4f}"]
            cells += ["" if variant == "full" else f"{statistics.mean(lead):+.4f} ± {error:.4f}"]
        rows.append(cells)
    head = [
        "model",
        "command of the first seed",
        "seeds",
        "HR@20",
        "full leads by",
        "NDCG@20",
        "full leads by",
    ]
    commit = runs[0]["test"]["provenance"]["commit"]
    return "\n\n".join(
        [
            "## The full model and its parts, on the embedded data",
            "Means over seeds; the leads are paired by seed, ± their standard error. "
            f"Commit {commit}, on {runs[0]['test']['provenance']['machine']}.",
            table(head, rows),
        ]
    )


def _without_folder(command: list[str]) -> list[str]:
    place = command.index("--run-dir")
    return command[:place] + command[place + 2 :]


def build(results: Path) -> str:
    """The whole page."""
    runs, variants = (
        [load(folder) for folder in sorted((results / kind).iterdir())]
        for kind in ("benchmarks", "parts")
    )
    return "\n\n".join([HEAD.strip(), summary(runs), parts(variants), *map(section, runs)]) + "\n"


if __name__ == "__main__":
    (DOCS / "results.md").write_text(build(DOCS / "results"))
