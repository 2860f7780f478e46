"""Writes docs/performance.md from what benchmarks left in docs/performance.

    make bench && make bench-peers
    cp benchmarks/results/*.json benchmarks/results/*.png docs/performance/
    python docs/build_performance.py

`epoch_toys_xla.json` was made with `MQSA_CPU_KERNELS=0`, other `epoch_toys_NAME.json` on other
machines. `figures/` holds the test_metrics.json of `train.py --dataset toys`, with the kernels and
with `--precision bfloat16`; what XLA alone gave is among the runs of `results/benchmarks`.
`commits.json` names commits by machine, each with what changed and the gain that was predicted for
it; `commits/FOLDER/COMMIT.jsonl` is the metrics.jsonl that `train.py --dataset toys --epochs 3`
wrote at that commit, of three runs.
"""

import json
import shlex
import statistics
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
FOLDER = DOCS / "performance"
SEEDS = (1, 2, 3)


def load(name: str) -> Any:
    """What a benchmark wrote."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table; columns in the order in which rows name them."""
    head = list(dict.fromkeys(key for row in rows for key in row))
    body = [[_cell(row.get(key)) for key in head] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)


def made_by(result: dict[str, Any]) -> str:
    """Command, commit, machine and versions of a result."""
    made = result["provenance"]
    module, *arguments = made["command"]
    command = shlex.join(["python", "-m", f"benchmarks.{Path(module).stem}", *_public(arguments)])
    versions = ", ".join(f"{name} {result['versions'][name]}" for name in ("python", "jax"))
    return f"`{command}`, commit {made['commit']}, {made['machine']}, {versions}{_kernels(made)}."


def _kernels(made: dict[str, Any]) -> str:
    return ", C++ kernels" if made.get("cpu_kernels") else ""


def _public(arguments: list[str]) -> list[str]:
    """Without what are paths of one machine."""
    kept = list(arguments)
    for flag in ("--recbole-python", "--rectools-python", "--data-dir", "--run-dir"):
        if flag in kept:
            place = kept.index(flag)
            del kept[place : place + 2]
    return kept


def epoch() -> str:
    """An epoch beside the dense baseline and the floor, on each machine that was measured."""
    names = sorted(path.stem for path in FOLDER.glob("epoch_toys*.json"))
    return "\n\n".join(
        ["## An epoch of Toys", *(_epoch_on_a_machine(load(name)) for name in names)]
    )


def _epoch_on_a_machine(result: dict[str, Any]) -> str:
    own = result["rows"][0]
    rates = ", ".join(f"{rate:.0f}" for rate in result["matmul_gflops"])
    higher, mean = max(result["matmul_gflops"]), statistics.mean(result["matmul_gflops"])
    at_best = own["times_floor"] * higher / mean
    own_shapes = ""
    if "own_shapes_gflops" in result:
        share = own["seconds"] / result["own_shapes_seconds"]
        own_shapes = (
            f"For products in the shapes of a chunk NumPy reaches {result['own_shapes_gflops']:.0f}"
            f" GFLOP/s, at which they take {result['own_shapes_seconds']:.2f} s: an epoch takes "
            f"{share:.2f} times that. "
        )
    return "\n\n".join(
        [
            ("" if result["provenance"]["cpu_kernels"] else "With `MQSA_CPU_KERNELS=0`: ")
            + made_by(result),
            table(result["rows"]),
            f"Median of {result['epochs']} epochs, the baseline from {result['dense_steps']} "
            f"steps. NumPy's rate before and after: {rates} GFLOP/s; at their mean the floor of "
            f"the matrix products is {result['floor_seconds']:.2f} s, and an epoch "
            f"{own['times_floor']:.2f} times that; at the higher of the two {at_best:.2f} times. "
            f"{own_shapes}Packing an epoch on the host takes "
            f"{result['packing_seconds']:.3f} s "
            f"({100 * result['packing_seconds'] / own['seconds']:.1f}% of it, beside the compute), "
            f"validation {result['validation_seconds']:.2f} s.",
        ]
    )


def commits() -> str:
    """What each change gained, by machine."""
    machines = load("commits")
    return "\n\n".join(
        [
            "## What each change gained",
            "`python train.py --dataset toys --epochs 3` at each commit, three times in turn; "
            "medians of `seconds` in its metrics.jsonl. From run to run such medians differ by up "
            "to a tenth, so that small gains drown. Predictions come from timing the part alone, "
            "unless they are called a guess.",
            *(
                f"{machine['machine']}:\n\n{table(_gains(machine['folder'], machine['changes']))}"
                for machine in machines
            ),
        ]
    )


def _gains(folder: str, changes: list[dict[str, str]]) -> list[dict[str, Any]]:
    rows, before = [], None
    for change in changes:
        path = FOLDER / "commits" / folder / f"{change['commit']}.jsonl"
        epochs = [json.loads(line) for line in path.read_text().splitlines()]
        seconds = statistics.median(epoch["seconds"] for epoch in epochs)
        rows.append(
            {
                "commit": change["commit"],
                "change": change["change"],
                "seconds an epoch": seconds,
                "gained": None if before is None else f"{before - seconds:+.2f} s",
                "predicted": change["predicted"],
            }
        )
        before = seconds
    return rows


def simple(name: str, title: str) -> str:
    """A benchmark whose rows say all."""
    result = load(name)
    return "\n\n".join([f"## {title}", made_by(result), table(result["rows"])])


def scaling() -> str:
    """Step time and memory against every size."""
    result = load("scaling")
    exponents = [
        {
            "axis": axis,
            "exponent of step time": exponent,
            "exponent of temporary memory": result["temp_exponent"][axis],
        }
        for axis, exponent in result["step_exponent"].items()
    ]
    base = ", ".join(f"{name} {value:,}" for name, value in result["base"].items())
    return "\n\n".join(
        [
            "## Scaling",
            made_by(result),
            f"One size varies at a time, the others stay at {base}. `ratio` is the temporary "
            "memory of a step, the new state among it, over parameters and optimiser state.",
            "![Step time and temporary memory against every size](performance/scaling.png)",
            table(exponents),
            table(result["rows"]),
        ]
    )


def population() -> str:
    """What many runs in one program gain over separate ones."""
    result = load("population_synthetic")
    return "\n\n".join(
        [
            "## Populations",
            made_by(result),
            "Seconds of an epoch and its validation a trial, on the embedded data; the first call "
            "compiles. Where one run fills the cores, many in one program share its start-up, and "
            "take as long otherwise, or longer.",
            table(result["rows"]),
        ]
    )


def figures() -> str:
    """What kernels and coarser factors of matrix products do to the test figures."""
    runs, own = DOCS / "results" / "benchmarks", FOLDER / "figures"
    by_xla = [runs / f"toys-{seed}" / "test_metrics.json" for seed in SEEDS]
    by_kernels = [own / f"kernels-{seed}.json" for seed in SEEDS]
    before, after = (
        statistics.mean(json.loads(path.read_text())["NDCG@20"] for path in paths)
        for paths in (by_xla, by_kernels)
    )
    rows = []
    for path in [*by_xla, *by_kernels, own / "bfloat16.json"]:
        result = json.loads(path.read_text())
        made = result["provenance"]
        command = shlex.join(["python", *_public(made["command"])])
        rows.append(
            {
                "command": f"`{command}`{_kernels(made)}",
                "commit": made["commit"],
                "epoch": result["epoch"],
                "HR@20": f"{result['HR@20']:.4f}",
                "NDCG@20": f"{result['NDCG@20']:.4f}",
            }
        )
    return "\n\n".join(
        [
            "## Test figures, by kernels and by precision",
            f"Of Toys, {made['machine']}. Mean NDCG@20 of the seeds: {before:.5f} by XLA alone, "
            f"{after:.5f} with the kernels.",
            table(rows),
        ]
    )


def peers() -> str:
    """RecBole's and RecTools' SASRec on the same machine."""
    result = load("peers_toys")
    return "\n\n".join(
        [
            "## Beside RecBole and RecTools",
            made_by(result),
            table(result["rows"]),
            "Each trains in its own way, as the notes say. The peers' evaluation is one cold call, "
            "ours a warm one.",
        ]
    )


def build() -> str:
    """The whole page."""
    sections = [
        (FOLDER / "introduction.md").read_text().strip(),
        epoch(),
        commits(),
        simple("inference_toys", "Ranking"),
        simple("startup_toys", "Start-up"),
        scaling(),
        population(),
        figures(),
        peers(),
    ]
    return "\n\n".join(sections) + "\n"


if __name__ == "__main__":
    (DOCS / "performance.md").write_text(build())
