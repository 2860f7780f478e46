"""The tables of the page, as Markdown."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from mqsa_jax.models.registry import PLUS
from mqsa_jax.reporting.analysis import Analysis, seed_pairs
from mqsa_jax.reporting.charts import breakdown_means
from mqsa_jax.reporting.configurations import Group, reference_of
from mqsa_jax.reporting.published import best_published, published_on
from mqsa_jax.reporting.results import (
    FULL_MODEL,
    METRICS,
    NO_SETTING,
    Run,
    as_flags,
    model_title,
    spread,
)
from mqsa_jax.reporting.significance import holm
from mqsa_jax.reporting.sweeps import Sensitivity, Sweep, SweptTrial


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
"""Statistics of recommended lists, and their formats."""


def main_table(dataset: str, groups: Sequence[Group]) -> str:
    """All configurations, then published figures."""
    rows = [
        [g.cell, g.seeds, *(spread([run.test[name] for run in g.runs]) for name in METRICS)]
        for g in groups
    ]
    for row in published_on(dataset, reference_of(groups[0], groups).protocol):
        figures = [row.figures.get(name) for name in METRICS]
        cells = ["" if value is None else f"{value:.4f}" for value in figures]
        rows.append([f"*{row.model}*", row.source, *cells])
    return table(["model", "from", *METRICS], rows)


def published_rows(dataset: str, groups: Sequence[Group]) -> list[list[str]]:
    """MQSA-TED beside the paper's figures, and MQSA-TED+ beside the best published NDCG@20."""
    main: dict[str, Group] = {}
    for group in groups:
        if group.protocol == "history":
            main.setdefault(group.model, group)
    beside = [
        (FULL_MODEL, name, row)
        for row in published_on(dataset, "history")
        for name in row.figures
        if row.model.startswith("MQSA-TED")
    ]
    best = best_published(dataset)
    beside += [(PLUS, METRICS[-1], best)] if best else []
    rows = []
    for model, name, row in beside:
        if model in main:
            ours, value = [run.test[name] for run in main[model].runs], row.figures[name]
            cells = [main[model].cell, main[model].seeds, name, spread(ours), f"{value:.4f}"]
            rows.append([*cells, row.model, f"{statistics.mean(ours) / value - 1:+.1%}"])
    return rows


def published_table(rows: list[list[str]]) -> str:
    """The rows of `published_rows`."""
    head = ["model", "from", "metric", "here", "published", "by", "difference"]
    return table(head, rows)


def seed_table(groups: Sequence[Group]) -> str | None:
    """Differences of trained configurations to their reference, paired by seed."""
    names, rows = ("HR@20", "NDCG@20"), []
    for group in groups:
        reference = reference_of(group, groups)
        pairs = seed_pairs(group, reference, (run.name for g in groups for run in g.runs))
        if group.counted or reference.counted or group is reference or not pairs:
            continue
        cells = [f"{group.cell} against {reference.cell}"]
        cells.append(", ".join(str(run.seed) for run, _ in pairs))
        for name in names:
            cells.append(f"{statistics.mean(run.test[name] for run, _ in pairs):.4f}")
            cells.append(difference([run.test[name] - base.test[name] for run, base in pairs]))
        rows.append(cells)
    head = ["model", "seeds"]
    for name in names:
        head += [name, "difference"]
    return table(head, rows) if rows else None


def difference(values: list[float]) -> str:
    """Mean ± standard error; a single value has none.

    >>> difference([0.1, 0.3])
    '+0.2000 ± 0.1000'
    """
    mean = f"{statistics.mean(values):+.4f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {statistics.stdev(values) / len(values) ** 0.5:.4f}"


def recipe_table(groups: Sequence[Group]) -> str | None:
    """The flags in which MQSA-TED+ differs from MQSA-TED, if both have runs."""
    first: dict[str, Run] = {}
    for group in groups:
        first.setdefault(group.model, group.runs[0])
    if not {FULL_MODEL, PLUS} <= first.keys():
        return None
    full, plus = first[FULL_MODEL].config, first[PLUS].config
    rows = [
        [f"`--{name.replace('_', '-')}`", str(full.get(name)), str(value)]
        for name, value in plus.items()
        if name not in NO_SETTING and value != full.get(name)
    ]
    return table(["flag", model_title(FULL_MODEL), model_title(PLUS)], rows)


def ablation_table(group: Group) -> str:
    """Validation figures of a configuration and of its variants, over the seeds that have them."""
    by_name: dict[str, list[tuple[dict, dict]]] = {}
    for run in group.runs:
        for row in run.ablation:
            by_name.setdefault(row["name"], []).append((row, run.ablation[0]))
    rows = []
    for name, pairs in by_name.items():
        words = as_flags({k: f"{v:g}" for k, v in pairs[0][0]["flags"].items()})
        cells = [name, f"`{words}`" if words else "", str(len(pairs))]
        cells += [spread([row[metric] for row, _ in pairs]) for metric in ("HR@20", "NDCG@20")]
        differences = [row["NDCG@20"] - whole["NDCG@20"] for row, whole in pairs]
        rows.append([*cells, difference(differences) if words else ""])
    return table(["variant", "flags", "seeds", "HR@20", "NDCG@20", "difference"], rows)


def comparison_table(groups: Sequence[Group], compared: dict[str, Any]) -> str:
    """Each configuration against another; p-values are corrected over the rows."""
    cell_of = {group.key: group.cell for group in groups}
    entries = {key: compared[key] for key in cell_of if key in compared}
    tests = ("p_mean", "p_ndcg", "p_rank")
    corrected = {name: _corrected(list(entries.values()), name) for name in tests}
    rows = []
    for index, (key, entry) in enumerate(entries.items()):
        low, high = entry["interval"]
        rows.append(
            [
                f"{cell_of[key]} against {cell_of[entry['other']]}",
                ", ".join(map(str, entry["seeds"])),
                f"{entry['users']:,}",
                f"{entry['difference']:+.4f}",
                f"{low:+.4f} to {high:+.4f}",
                _p(corrected["p_mean"][index]),
                _p(corrected["p_ndcg"][index]),
                f"{100 * entry['better']:.1f}%",
                _p(corrected["p_rank"][index]),
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


def breakdown_table(kind: str, groups: Sequence[Group], analysis: Analysis) -> str:
    """Mean NDCG@20 of each group of users; means over the seeds that took part."""
    entry = analysis["breakdown"][kind]
    rows = []
    for group in groups:
        means = breakdown_means(entry, group.runs)
        if means:
            rows.append([group.cell, *("" if mean is None else f"{mean:.4f}" for mean in means)])
    head = [
        f"{name} ({users:,} users)"
        for name, users in zip(entry["groups"], entry["users"], strict=True)
    ]
    return table(["model", *head], rows)


def lists_table(groups: Sequence[Group], analysis: Analysis) -> str:
    """Statistics of the recommended lists; means over the seeds that took part."""
    rows = []
    for group in groups:
        entries = [analysis["lists"][r.name] for r in group.runs if r.name in analysis["lists"]]
        if entries:
            cells = [spread([e[name] for e in entries], form) for name, form in LISTS.items()]
            count = "counted" if group.counted else str(len(entries))
            rows.append([group.cell, count, *cells])
    head = ["model", "seeds", "item coverage@20", "novelty (bits)"]
    return table([*head, "popularity of items (occurrences)", "Gini", "slots filled"], rows)


def sensitivity_table(found: Sensitivity) -> str:
    """NDCG for each value of each varied flag."""
    rows = []
    for flag, values in found.values.items():
        for value, runs in values.items():
            rows.append([f"`{as_flags({flag: value})}`", *_figures(runs, ("NDCG@5", "NDCG@20"))])
    return table(["flag", "seeds", "validation NDCG@20", "test NDCG@5", "test NDCG@20"], rows)


def sweep_table(sweep: Sweep) -> str:
    """All trials of a sweep, a row a configuration; those that diverged by themselves."""
    by_flags: dict[tuple[str, str], list[SweptTrial]] = {}
    for trial in sweep.trials:
        flags = as_flags({name: trial.config[name] for name in sweep.varied})
        by_flags.setdefault((flags, trial.problem), []).append(trial)
    rows = []
    for (flags, problem), trials in by_flags.items():
        seeds = ", ".join(str(seed) for seed in sorted(t.seed for t in trials))
        figures = [seeds, f"diverged: {problem}", *[""] * len(METRICS)]
        figures = figures if problem else _figures(trials, METRICS)
        rows.append([f"`{flags}`" if flags else "", *figures])
    return table(["flags", "seeds", "validation NDCG@20", *(f"test {m}" for m in METRICS)], rows)


def _figures(runs: Sequence[Run | SweptTrial], metrics: Sequence[str]) -> list[str]:
    """Seeds, validation NDCG@20 and test metrics."""
    valid = [run.valid for run in runs if run.valid is not None]
    seeds = ", ".join(str(seed) for seed in sorted(run.seed for run in runs))
    tests = [spread([run.test[name] for run in runs]) for name in metrics]
    return [seeds, spread(valid) if valid else "", *tests]
