"""The tables of the page, as Markdown."""

import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from mqsa_jax.models.registry import PLUS
from mqsa_jax.reporting.analysis import Analysis
from mqsa_jax.reporting.charts import Sweeps, breakdown_means
from mqsa_jax.reporting.published import PUBLISHED
from mqsa_jax.reporting.results import (
    ABLATION,
    FULL_MODEL,
    METRICS,
    NO_SETTING,
    Models,
    Run,
    spread,
)
from mqsa_jax.reporting.significance import holm


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


LISTS = {"coverage": ".3f", "novelty": ".2f", "arp": ".1f", "gini": ".3f", "filled": ".1%"}
"""What is told of recommended lists, and in which form."""


def seeds(runs: list[Run]) -> str:
    """Number of seeds, or that the model is counted and has none; settings not the default."""
    count = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}" if runs[0].epochs else "counted"
    return f"{count}, `{runs[0].settings}`" if runs[0].differs else count


def main_table(dataset: str, models: Models) -> str:
    """All models, then published figures."""
    rows = [
        [model, seeds(runs), *(spread([run.test[name] for run in runs]) for name in METRICS)]
        for model, runs in models.items()
    ]
    for row in PUBLISHED:
        if row.dataset == dataset:
            figures = [row.figures.get(name) for name in METRICS]
            cells = ["" if value is None else f"{value:.4f}" for value in figures]
            rows.append([f"*{row.model}*", row.source, *cells])
    return table(["model", "from", *METRICS], rows)


def published_rows(dataset: str, models: Models) -> list[list[str]]:
    """Our models beside published figures of the same kind, and of the best of others."""
    known = [row for row in PUBLISHED if row.dataset == dataset]
    beside = [
        (FULL_MODEL, name, value, row)
        for row in known
        if row.model.startswith("MQSA-TED")
        for name, value in row.figures.items()
    ]
    name = METRICS[-1]
    whole = [row for row in known if name in row.figures]
    for row in sorted(whole, key=lambda row: row.figures[name])[-1:]:
        beside.append((PLUS, name, row.figures[name], row))
    rows = []
    for model, name, value, row in beside:
        if model in models:
            ours = [run.test[name] for run in models[model]]
            cells = [model, seeds(models[model]), name, spread(ours), f"{value:.4f}", row.model]
            rows.append([*cells, f"{statistics.mean(ours) / value - 1:+.1%}"])
    return rows


def published_table(rows: list[list[str]]) -> str:
    """The rows of `published_rows`."""
    head = ["model", "from", "figure", "ours", "published", "of", "ours to that"]
    return table(head, rows)


def ablation_table(models: Models) -> str:
    """The full model's parts: figures, and differences to the full model, paired by seed."""
    names = ("HR@20", "NDCG@20")
    full = {run.seed: run for run in models[FULL_MODEL]}
    rows = []
    for model in ABLATION:
        if model not in models:
            continue
        cells = [model, seeds(models[model])]
        for name in names:
            cells.append(spread([run.test[name] for run in models[model]]))
            pairs = [(run, full[run.seed]) for run in models[model] if run.seed in full]
            differences = [run.test[name] - other.test[name] for run, other in pairs]
            cells.append("" if model == FULL_MODEL else difference(differences))
        rows.append(cells)
    head = ["model", "from"]
    for name in names:
        head += [name, "to the full model"]
    return table(head, rows)


def difference(values: list[float]) -> str:
    """Mean ± standard error; of one value, which has none, the value.

    >>> difference([0.1, 0.3])
    '+0.2000 ± 0.1000'
    """
    if not values:
        return "no seed in common"
    mean = f"{statistics.mean(values):+.4f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {statistics.stdev(values) / len(values) ** 0.5:.4f}"


def recipe_table(models: Models) -> str:
    """The flags in which the recipe of our own differs from the full model."""
    full, plus = models[FULL_MODEL][0].config, models[PLUS][0].config
    rows = [
        [f"`--{name.replace('_', '-')}`", str(full[name]), str(value)]
        for name, value in plus.items()
        if name not in NO_SETTING and value != full[name]
    ]
    return table(["flag", FULL_MODEL, PLUS], rows)


def ablation_rows_table(runs: list[Run]) -> str:
    """Validation figures of the recipe and of its variants, over the seeds that have them."""
    by_name: dict[str, list[tuple[dict, dict]]] = {}
    for run in runs:
        for row in run.ablation:
            by_name.setdefault(row["name"], []).append((row, run.ablation[0]))
    rows = []
    for name, pairs in by_name.items():
        flags = pairs[0][0]["flags"]
        words = " ".join(f"--{flag.replace('_', '-')} {value:g}" for flag, value in flags.items())
        cells = [name, f"`{words}`" if words else "", str(len(pairs))]
        cells += [spread([row[metric] for row, _ in pairs]) for metric in ("HR@20", "NDCG@20")]
        differences = [row["NDCG@20"] - recipe["NDCG@20"] for row, recipe in pairs]
        rows.append([*cells, difference(differences) if words else ""])
    head = ["what", "flags", "seeds", "HR@20", "NDCG@20", "to the recipe"]
    return table(head, rows)


def comparison_table(models: Models, compared: dict[str, Any], other_of: Mapping[str, str]) -> str:
    """Each model against its other; p-values are corrected over the rows."""
    entries = {model: compared[model] for model in models if model in compared}
    tests = ("p_mean", "p_ndcg", "p_rank")
    corrected = {name: _corrected(list(entries.values()), name) for name in tests}
    rows = []
    for place, (model, entry) in enumerate(entries.items()):
        low, high = entry["interval"]
        rows.append(
            [
                f"{model} against {other_of[model]}",
                ", ".join(map(str, entry["seeds"])),
                f"{entry['users']:,}",
                f"{entry['difference']:+.4f}",
                f"{low:+.4f} to {high:+.4f}",
                _p(corrected["p_mean"][place]),
                _p(corrected["p_ndcg"][place]),
                f"{100 * entry['better']:.1f}%",
                _p(corrected["p_rank"][place]),
            ]
        )
    head = ["model", "seeds", "users", "difference of NDCG@20", "95% interval", "p (bootstrap)"]
    return table([*head, "p (NDCG@20)", "users ranked better", "p (rank)"], rows)


def _corrected(entries: list[dict[str, Any]], name: str) -> list[float]:
    """Holm's p-values; models that rank alike are one comparison, not two."""
    keys = [(e["difference"], e["p_ndcg"], e["p_rank"]) for e in entries]
    p_of = {key: entry[name] for key, entry in zip(keys, entries, strict=True)}
    corrected = dict(zip(p_of, holm(np.array(list(p_of.values()))), strict=True))
    return [corrected[key] for key in keys]


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def breakdown_table(kind: str, models: Models, analysis: Analysis) -> str:
    """Mean NDCG@20 of each group of users; means over the seeds that took part."""
    entry = analysis["breakdown"][kind]
    rows = []
    for model, runs in models.items():
        means = breakdown_means(entry, runs)
        if means:
            rows.append([model, *("" if mean is None else f"{mean:.4f}" for mean in means)])
    head = [
        f"{name} ({users:,} users)"
        for name, users in zip(entry["groups"], entry["users"], strict=True)
    ]
    return table(["model", *head], rows)


def lists_table(models: Models, analysis: Analysis) -> str:
    """What the recommended lists are like; means over the seeds that took part."""
    rows = []
    for model, runs in models.items():
        entries = [analysis["lists"][run.name] for run in runs if run.name in analysis["lists"]]
        if entries:
            cells = [spread([e[name] for e in entries], form) for name, form in LISTS.items()]
            count = str(len(entries)) if runs[0].epochs else "counted"
            rows.append([model, count, *cells])
    head = ["model", "seeds", "item coverage@20", "novelty (bits)"]
    return table([*head, "popularity of items (occurrences)", "Gini", "places filled"], rows)


def sweep_table(swept: Sweeps) -> str:
    """NDCG for each value of each varied flag."""
    rows = []
    for flag, values in swept.items():
        for value, runs in values.items():
            valid = [run.valid for run in runs if run.valid is not None]
            tests = [spread([run.test[name] for run in runs]) for name in ("NDCG@5", "NDCG@20")]
            name = f"`--{flag.replace('_', '-')} {value:g}`"
            seeds = ", ".join(str(seed) for seed in sorted(run.config["seed"] for run in runs))
            rows.append([name, seeds, spread(valid) if valid else "", *tests])
    return table(["flag", "seeds", "validation NDCG@20", "test NDCG@5", "test NDCG@20"], rows)
