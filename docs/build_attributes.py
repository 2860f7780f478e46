"""Writes docs/attributes.md from its text and the files that two benchmarks wrote.

export MQSA_DATA_DIR=DATA
python -m benchmarks.attributes --work RUNS
python -m benchmarks.cold_items --work ONE --model=mqsa-ted --epochs=30
python -m benchmarks.cold_items --work TWO --model=mqsa-ted --epochs=30 --id-dropout=0.1
python -m benchmarks.attributes --data toys --speed 5
cp benchmarks/results/attributes_speed_toys.json docs/performance/attributes_speed.json
python docs/build_attributes.py
"""

import statistics
from typing import Any

from page_parts import DOCS, load, made_by, table, text

PAGE = DOCS / "attributes.md"
MODELS = {"mqsa-ted": "MQSA-TED", "mqsa-ted-plus": "MQSA-TED+"}
FIGURES = {
    "valid_NDCG@20": "Validation NDCG@20",
    "test_HR@20": "Test HR@20",
    "test_NDCG@20": "Test NDCG@20",
    "test_MRR": "Test MRR",
}
KEY = ("data", "model", "variant")
COLD = {"HR@20": ".4f", "MRR": ".4f", "mean_percentile": ".1%"}
"""Figures of cold items, and how they are written."""


def results(rows: list[dict[str, Any]]) -> str:
    """A row for each data set, model and variant: means over the seeds."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in KEY), []).append(row)
    cells = []
    for (data, model, variant), own in sorted(groups.items(), key=lambda each: each[0][:2]):
        epoch = statistics.mean(row["epoch"] for row in own)
        means = [f"{statistics.mean(row[name] for row in own):.4f}" for name in FIGURES]
        cells.append(
            [data.capitalize(), MODELS[model], variant, str(len(own)), f"{epoch:.3g}", *means]
        )
    heads = ["Data", "Model", "Attributes", "Seeds", "Best epoch", *FIGURES.values()]
    facts = (
        "Attributes are S3-Rec's lists. `none`: without; `both, mean`: `--attribute-power 1`; "
        "`random`: the lists dealt out to other items. Means over the seeds, full ranking, test at "
        "the epoch of the best validation NDCG@20, by which a variant is to be chosen. Commands, "
        "commits and machines are in [attributes.json](performance/attributes.json), and in "
        "[results.md](results.md) with all other models."
    )
    return "\n\n".join(["## Results", facts, table(heads, cells)])


def cold_items(runs: list[dict[str, Any]]) -> str:
    """Two rows a run: ranks among the items taken out, and among all."""
    cells = []
    for run in runs:
        flags = " ".join(run["command"].split(" --seed ")[1].split(" ")[1:])
        for ranked, among in (("those taken out", "cold"), ("all", "all")):
            found = run[f"among_{among}_items"]
            number = run["cold_items" if among == "cold" else "items"]
            shown = [
                f"{found[kind + name]:{form}}"
                for name, form in COLD.items()
                for kind in ("", "chance_")
            ]
            cells.append(
                [f"`{flags}`", f"{ranked}: {number:,}", *shown, run["provenance"]["commit"]]
            )
    heads = ["Flags", "Ranked among"]
    heads += [head for name in COLD for head in (name.replace("_", " "), "by chance")]
    facts = (
        "Of the items of Toys one in twenty, drawn at random, is taken out of all histories; a run "
        "is trained on the rest with `--cold-items`; each interaction with an item taken out is "
        f"ranked after the items before it ({runs[0]['interactions']:,} interactions). Percentiles "
        "are mean ranks, 0% being the best. `python -m benchmarks.cold_items` with these flags, "
        f"{runs[0]['provenance']['machine']}."
    )
    return "\n\n".join(["## Cold items: results", facts, table([*heads, "Commit"], cells)])


def speed(result: dict[str, Any]) -> str:
    """What attributes cost."""
    cells = [
        [row["attributes"], f"{row['wall_s']:.2f}", f"{row['processor_s']:.2f}"]
        for row in result["rows"]
    ]
    facts = (
        f"{result['steps']} steps of training on {result['dataset'].capitalize()}, medians of "
        f"{result['repeats']} in turn; median ratio of neighbours: {result['wall_ratio']:.2f} by "
        f"the clock, {result['processor_ratio']:.2f} by processor time. "
    )
    command = " ".join(["python -m benchmarks.attributes", *result["provenance"]["command"][1:]])
    heads = ["Attributes", "s", "s of processors"]
    return "\n\n".join(["## Speed", facts + made_by(result, command), table(heads, cells)])


def build() -> str:
    """The page."""
    measured = [
        results(load("attributes")),
        cold_items(load("cold_items")),
        speed(load("attributes_speed")),
    ]
    return "\n\n".join([text("attributes"), *measured]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(build())
