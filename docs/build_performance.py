"""Writes docs/performance.md from the files that benchmarks wrote into docs/performance.

    make bench && make bench-peers
    cp benchmarks/results/*.json benchmarks/results/*.png docs/performance/
    python docs/build_performance.py

`epoch_toys_xla.json` is of `MQSA_CPU_KERNELS=0`, other `epoch_toys_NAME.json` are of other
machines. `figures/` holds test_metrics.json of `train.py --dataset toys`, with the kernels and with
`--precision bfloat16`; the runs without kernels are in `results/benchmarks`. `commits.json` lists
commits by machine, each with its change and predicted gain; `commits/FOLDER/COMMIT.jsonl` is the
metrics.jsonl of `train.py --dataset toys --epochs 3` at that commit, of three runs.
"""

import json
import shlex
import statistics
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
FOLDER = DOCS / "performance"
SEEDS = (1, 2, 3)
TITLES = json.loads((FOLDER / "titles.json").read_text())
"""Heads of columns, for the names in the benchmarks' files."""
LIBRARIES = {"recbole": "RecBole", "rectools": "RecTools"}


def load(name: str) -> Any:
    """Result of a benchmark."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table; columns in the order in which rows name them."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    body = [[_cell(row.get(key)) for key in keys] for row in rows]
    lines = [[TITLES.get(key, key) for key in keys], ["---"] * len(keys), *body]
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
    """Arguments without paths of one machine."""
    kept = list(arguments)
    for flag in ("--recbole-python", "--rectools-python", "--data-dir", "--run-dir"):
        if flag in kept:
            index = kept.index(flag)
            del kept[index : index + 2]
    return kept


def epoch() -> str:
    """An epoch beside the dense baseline and the floor, on each machine."""
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
        ratio = own["seconds"] / result["own_shapes_seconds"]
        own_shapes = (
            f"In the shapes of a chunk NumPy reaches {result['own_shapes_gflops']:.0f} GFLOP/s, at "
            f"which the products take {result['own_shapes_seconds']:.2f} s; an epoch takes "
            f"{ratio:.2f} times that. "
        )
    return "\n\n".join(
        [
            ("" if result["provenance"]["cpu_kernels"] else "With `MQSA_CPU_KERNELS=0`: ")
            + made_by(result),
            table(result["rows"]),
            f"Median of {result['epochs']} epochs; the baseline is timed on "
            f"{result['dense_steps']} steps. NumPy's rate for 2048³ before and after: {rates} "
            f"GFLOP/s. At their mean the matrix products take {result['floor_seconds']:.2f} s (the "
            f"floor) and an epoch {own['times_floor']:.2f} times that; at the higher rate "
            f"{at_best:.2f} times. {own_shapes}Packing an epoch on the host takes "
            f"{result['packing_seconds']:.3f} s, in parallel "
            f"({100 * result['packing_seconds'] / own['seconds']:.1f}% of the epoch), validation "
            f"{result['validation_seconds']:.2f} s.",
        ]
    )


def commits() -> str:
    """Gain of each change, by machine."""
    machines = load("commits")
    return "\n\n".join(
        [
            "## Gain of each change",
            "`python train.py --dataset toys --epochs 3` at each commit, three times in turn; "
            "medians of `seconds` in metrics.jsonl. Medians vary by up to a tenth between runs, "
            "so small gains are within the noise. Predictions come from timing the part alone, "
            "unless marked as a guess.",
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
    """A benchmark that is shown as its rows."""
    result = load(name)
    return "\n\n".join([f"## {title}", made_by(result), table(result["rows"])])


def preparing() -> str:
    """Seconds and memory of `prepare`, by DuckDB and by Spark."""
    result = load("prepare")
    return "\n\n".join(
        [
            "## Preparing a raw log",
            f"A generated CSV file of {result['log_mib']:.0f} MiB with string ids, read, brought "
            "to its core, ordered and written. Spark runs in local mode, its start included. "
            "Memory is that of all processes together.",
            made_by(result),
            table(result["rows"]),
        ]
    )


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
            f"One size varies at a time, the others stay at {base}. Ratio: temporary memory of a "
            "step, including the new state, divided by the memory of parameters and optimiser "
            "state.",
            "![Step time and temporary memory against every size](performance/scaling.png)",
            table(exponents),
            table(result["rows"]),
        ]
    )


def gpu_program() -> str:
    """Kernels of a step before and after they were reduced."""
    result = load("gpu_program_toys")
    return "\n\n".join(
        [
            "## Compiled for one H100",
            "The epoch's program of Toys, compiled without a GPU (`mqsa-jax preflight` does the "
            "same for any run). Kernels of inner loops are counted once. The host waits for loops "
            "whose number of turns only the device knows. No times: there was no card.",
            made_by(result),
            table(result["rows"]),
        ]
    )


def population() -> str:
    """Many runs in one program beside separate runs."""
    result = load("population_synthetic")
    return "\n\n".join(
        [
            "## Populations",
            made_by(result),
            "Seconds of an epoch and its validation for each trial, on the embedded data; the "
            "first call compiles. One run already fills the cores here, so that a population saves "
            "start-up and compilation only.",
            table(result["rows"]),
        ]
    )


def figures() -> str:
    """Test figures with kernels and with bfloat16 factors of matrix products."""
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
            "## Test figures by kernels and precision",
            f"Toys, {made['machine']}. Mean NDCG@20 over seeds: {before:.5f} by XLA alone, "
            f"{after:.5f} with the kernels.",
            table(rows),
        ]
    )


def peers() -> str:
    """RecBole's and RecTools' SASRec on the same machine."""
    result = load("peers_toys")
    rows = [{**row, "library": _library(row["library"])} for row in result["rows"]]
    return "\n\n".join(
        [
            "## Beside RecBole and RecTools",
            made_by(result),
            table(rows),
            "The notes say how each of them trains. The evaluation of RecBole and RecTools is "
            "their first call, that of mqsa_jax a later one.",
        ]
    )


def _library(text: str) -> str:
    """`recbole 1.2.1` with the name as its authors write it."""
    name, *version = text.split(" ")
    return " ".join([LIBRARIES.get(name, name), *version])


def build() -> str:
    """The whole page."""
    sections = [
        (FOLDER / "introduction.md").read_text().strip(),
        epoch(),
        commits(),
        simple("inference_toys", "Ranking and lists"),
        preparing(),
        simple("startup_toys", "Start-up"),
        scaling(),
        gpu_program(),
        population(),
        figures(),
        peers(),
    ]
    return "\n\n".join(sections) + "\n"


if __name__ == "__main__":
    (DOCS / "performance.md").write_text(build())
