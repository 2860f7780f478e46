"""Which charts the page shows, and their values; drawn by figures.py."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Literal

from mqsa_jax.models.registry import PLUS
from mqsa_jax.reporting.analysis import Analysis
from mqsa_jax.reporting.results import (
    ABLATION,
    FULL_MODEL,
    MODELS,
    NO_SETTING,
    Models,
    Run,
    place,
)
from mqsa_jax.reporting.sweeps import SweptTrial

SWEPT = {
    "window": "items",
    "alpha": "share of the short branch",
    "lambda_kd": "weight of the distillation",
    "tau": "temperature",
    "time_span": "items ahead",
    "multi_step": "powers of the counts",
    "symmetric": "share of each count also backwards",
    "popularity": "exponent of the correction",
    "dim": "width of the vectors",
    "patience": "epochs",
}
"""Flags whose influence is shown, with what they count."""

Sweeps = dict[str, dict[int | float, list[Run | SweptTrial]]]
"""For each flag that was varied: its values, ascending, each with its runs."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a panel."""

    label: str
    style: int
    """Number of its colour and dashes: 0 is the full model's."""
    x: list[float]
    y: list[float]
    error: list[float] | None = None
    """Standard deviations."""
    model: str = ""
    """Whose it is, if that is what tells lines apart."""


@dataclasses.dataclass(frozen=True)
class Panel:
    """Axes with lines."""

    xlabel: str
    lines: list[Line]
    ticks: list[str] | None = None
    """Names of x = 0, 1, 2, …; None: x is a number."""
    title: str = ""
    bottom: float | None = None
    """Least y that is shown; None: all."""


@dataclasses.dataclass(frozen=True)
class Chart:
    """A picture: panels side by side, with one legend."""

    name: str
    """Of the file, without ending."""
    alt: str
    """What it shows: its title, and what the page says in its place."""
    ylabel: str
    panels: list[Panel]
    same_y: bool | Literal["row"] = True
    """Whether the panels share one range of y; or those beside one another."""


def style_of(model: str) -> int:
    """The same number for a model in every chart."""
    return place(MODELS, model)[0]


def families(lines: list[Line]) -> dict[str, list[Line]]:
    """Lines of models by panels that are not too full, the full model in each."""
    own = [line for line in lines if line.model in (*ABLATION, PLUS)]
    full = [line for line in own if line.model == FULL_MODEL]
    others = [line for line in lines if line not in own]
    found = {
        "Parts of the full model, and the recipe": own,
        "Other models": others and full + others,
    }
    return {title: group for title, group in found.items() if group}


def learning_chart(dataset: str, models: Models) -> Chart | None:
    """Validation NDCG@20 over epochs: mean over seeds, as far as all of them went.

    From half of the best on, where models differ.
    """
    lines = []
    for model, runs in models.items():
        curves = [[line["valid_NDCG@20"] for line in run.epochs] for run in runs if run.epochs]
        if curves:
            y = [statistics.mean(values) for values in zip(*curves, strict=False)]
            x = [float(epoch) for epoch in range(1, len(y) + 1)]
            label = model if len(curves) == 1 else f"{model} ({len(curves)} seeds)"
            lines.append(Line(label, style_of(model), x, y, model=model))
    if not lines:
        return None
    bottom = max(max(line.y) for line in lines) / 2
    return Chart(
        f"learning_{dataset}",
        f"Validation NDCG@20 on {dataset} over epochs, a line a model",
        "Validation NDCG@20",
        [
            Panel("Epoch (passes over the users)", group, title=title, bottom=bottom)
            for title, group in families(lines).items()
        ],
    )


def sweeps(runs: Sequence[Run | SweptTrial], models: Models, model: str = FULL_MODEL) -> Sweeps:
    """For each flag of `SWEPT` that was varied: its values, each with its runs.

    The runs are those of the model, and for the full one those of models that are it with a flag
    fixed, that differ in this flag alone from the runs that stand for it; the latter, and trials
    of sweeps that do not differ from them, give one of the values.
    """
    if model not in models:
        return {}
    base = models[model]
    kin = ABLATION if model == FULL_MODEL else (model,)
    alike, found = list(base), {}
    for run in runs:
        if run.dataset != base[0].dataset or run.model not in kin or run in base:
            continue
        names = run.config.keys() - NO_SETTING
        changed = [name for name in names if run.config[name] != base[0].config.get(name)]
        if not changed:
            _add(alike, run)
        elif len(changed) == 1 and changed[0] in SWEPT:
            values = found.setdefault(changed[0], {base[0].config[changed[0]]: alike})
            _add(values.setdefault(run.config[changed[0]], []), run)
    return {flag: dict(sorted(found[flag].items())) for flag in SWEPT if flag in found}


def _add(runs: list[Run | SweptTrial], run: Run | SweptTrial) -> None:
    """Adds a run, unless its seed is there: a trial of a sweep is the run of its own."""
    if all(run.config["seed"] != other.config["seed"] for other in runs):
        runs.append(run)


def sensitivity_chart(dataset: str, swept: Sweeps) -> Chart | None:
    """NDCG@20 in validation and test over the values of each flag."""
    panels = []
    for flag, values in swept.items():
        by_split = {
            "validation": [[run.valid for run in runs] for runs in values.values()],
            "test": [[run.test["NDCG@20"] for run in runs] for runs in values.values()],
        }
        lines = []
        for style, (split, results) in enumerate(by_split.items(), start=1):
            known = [
                (float(x), [y for y in ys if y is not None])
                for x, ys in enumerate(results)
                if any(y is not None for y in ys)
            ]
            means = [statistics.mean(ys) for _, ys in known]
            errors = [statistics.stdev(ys) if len(ys) > 1 else 0.0 for _, ys in known]
            lines.append(Line(split, style, [x for x, _ in known], means, errors))
        xlabel = f"--{flag.replace('_', '-')} ({SWEPT[flag]})"
        panels.append(Panel(xlabel, lines, [f"{value:g}" for value in values]))
    if not panels:
        return None
    return Chart(
        f"sensitivity_{dataset}",
        f"NDCG@20 of {FULL_MODEL} on {dataset} over one flag at a time",
        "NDCG@20",
        panels,
    )


BREAKDOWN_AXES = {
    "transition": "Times training saw the test's transition",
    "popularity": "Occurrences of the target in training",
}


def breakdown_means(entry: dict, runs: Sequence[Run]) -> list[float | None] | None:
    """[G] mean over the runs that took part; None where nobody is, or if no run took part."""
    rows = [entry["ndcg"][run.name] for run in runs if run.name in entry["ndcg"]]
    if not rows:
        return None
    return [
        None if values[0] is None else statistics.mean(values) for values in zip(*rows, strict=True)
    ]


def breakdown_chart(dataset: str, models: Models, analysis: Analysis) -> Chart | None:
    """Test NDCG@20 by what training saw of the test case."""
    panels = []
    for kind, entry in sorted(analysis["breakdown"].items(), reverse=True):
        lines = []
        for model, runs in models.items():
            means = breakdown_means(entry, runs)
            if means:
                known = [(float(x), y) for x, y in enumerate(means) if y is not None]
                x, y = (list(values) for values in zip(*known, strict=True))
                lines.append(Line(model, style_of(model), x, y, model=model))
        groups = families(lines).items()
        panels += [
            Panel(BREAKDOWN_AXES[kind], own, entry["groups"], title) for title, own in groups
        ]
    if not panels:
        return None
    return Chart(
        f"breakdown_{dataset}",
        f"Test NDCG@20 on {dataset} by frequency of the transition and of the target",
        "Test NDCG@20",
        panels,
        same_y="row" if len(groups) > 1 else False,
    )
