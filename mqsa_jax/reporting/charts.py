"""Which charts the page shows, and their values; figures.py draws them."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Literal

from mqsa_jax.data.breakdown import BREAKDOWN_TITLES
from mqsa_jax.models.registry import MODELS, PLUS
from mqsa_jax.reporting.analysis import Analysis
from mqsa_jax.reporting.configurations import Group, reference_of
from mqsa_jax.reporting.results import ABLATION, Run, model_title, rank_in
from mqsa_jax.reporting.sweeps import Sensitivity

UNITS = {
    "window": "items",
    "alpha": "weight of the short branch",
    "lambda_kd": "weight of the distillation",
    "tau": "temperature",
    "time_span": "items ahead",
    "multi_step": "powers of the counts",
    "symmetric": "weight of backward counts",
    "popularity": "exponent of the correction",
    "dim": "width of the vectors",
    "batch_size": "users",
    "patience": "epochs",
    "epochs": "at most",
}
"""What some flags count, for their axes."""
MAX_LINES = 8
"""Lines of a panel, beside the reference."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a panel."""

    label: str
    style: int
    """Number of its colour and dashes: 0 is the reference's."""
    x: list[float]
    y: list[float]
    error: list[float] | None = None
    """Standard deviations."""


@dataclasses.dataclass(frozen=True)
class Panel:
    """Axes with lines."""

    xlabel: str
    lines: list[Line]
    ticks: list[str] | None = None
    """Names of x = 0, 1, 2, …; None: x is a number."""
    title: str = ""
    bottom: float | None = None
    """Smallest y that is shown; None: all."""


@dataclasses.dataclass(frozen=True)
class Chart:
    """A picture: panels side by side, with one legend."""

    name: str
    """Of the file, without ending."""
    alt: str
    """Title, and the text in place of the picture."""
    ylabel: str
    panels: list[Panel]
    same_y: bool | Literal["row"] = True
    """Whether the panels share one range of y; or those beside one another."""
    columns: int = 2
    """Panels side by side, at most."""


def _main_groups(groups: Sequence[Group]) -> list[Group]:
    """For each model the configuration nearest to its defaults."""
    main: dict[str, Group] = {}
    for group in groups:
        main.setdefault(group.model, group)
    return list(main.values())


def styles(groups: Sequence[Group]) -> dict[str, int]:
    """By key of the group: 0 for the reference, the same number for a model in every chart."""
    reference, main = reference_of(groups[0], groups), _main_groups(groups)
    numbers = {group.key: 1 + rank_in(tuple(MODELS), group.model)[0] for group in main}
    others = [group.key for group in groups if group.key not in numbers]
    numbers |= {key: 2 + len(MODELS) + index for index, key in enumerate(others)}
    return numbers | {reference.key: 0}


def families(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Configurations by panels that stay readable, the reference first in each."""
    if len(groups) <= MAX_LINES:
        return {"": list(groups)}
    reference, main = reference_of(groups[0], groups), _main_groups(groups)
    own = [g for g in main if g.model in (*ABLATION, PLUS)]
    panels = {
        "MQSA-TED, its parts and MQSA-TED+": own,
        "Other models": [g for g in main if g not in own and not g.counted],
        "Counted models": [g for g in main if g.counted],
        "Other settings": [g for g in groups if g not in main],
    }
    found = {}
    for title, members in panels.items():
        members = [group for group in members if group is not reference]
        for start in range(0, len(members), MAX_LINES):
            number = f" ({start // MAX_LINES + 1})" if len(members) > MAX_LINES else ""
            found[title + number] = [reference, *members[start : start + MAX_LINES]]
    return found


def learning_chart(slug: str, title: str, groups: Sequence[Group]) -> Chart | None:
    """Validation NDCG@20 over epochs, mean over the seeds up to the shortest of them.

    The axis starts at half of the best value, so that the models can be told apart.
    """
    # Further tests of a run share its validation.
    trained = [g for g in groups if any(run.epochs for run in g.runs) and not g.tested]
    if not trained:
        return None
    style, panels = styles(trained), []
    for name, members in families(trained).items():
        lines = []
        for group in members:
            curves = [[e["valid_NDCG@20"] for e in r.epochs] for r in group.runs if r.epochs]
            y = [statistics.mean(values) for values in zip(*curves, strict=False)]
            label = group.label if len(curves) == 1 else f"{group.label} ({len(curves)} seeds)"
            lines.append(Line(label, style[group.key], [float(x + 1) for x in range(len(y))], y))
        panels.append((name, lines))
    bottom = max(max(line.y) for _, lines in panels for line in lines) / 2
    return Chart(
        f"learning_{slug}",
        f"Validation NDCG@20 on {title} by epoch",
        "Validation NDCG@20",
        [Panel("Epoch", lines, title=name, bottom=bottom) for name, lines in panels],
    )


def sensitivity_chart(slug: str, title: str, found: Sensitivity) -> Chart:
    """Validation and test NDCG@20 over the values of each flag."""
    panels = []
    for flag, values in found.values.items():
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
        unit = f" ({UNITS[flag]})" if flag in UNITS else ""
        panels.append(Panel(f"--{flag.replace('_', '-')}{unit}", lines, [*map(str, values)]))
    return Chart(
        f"sensitivity_{slug}_{found.model}",
        f"NDCG@20 of {model_title(found.model)} on {title}, one flag varied at a time",
        "NDCG@20",
        panels,
    )


def breakdown_means(entry: dict, runs: Sequence[Run]) -> list[float | None] | None:
    """[G] mean over the runs that took part, None for a group without users; None without runs."""
    rows = [entry["ndcg"][run.name] for run in runs if run.name in entry["ndcg"]]
    if not rows:
        return None
    return [
        None if values[0] is None else statistics.mean(values) for values in zip(*rows, strict=True)
    ]


def breakdown_chart(
    slug: str, title: str, groups: Sequence[Group], analysis: Analysis
) -> Chart | None:
    """Test NDCG@20 by what training saw of the test case."""
    panels, columns = [], 1
    for kind, entry in sorted(analysis["breakdown"].items(), reverse=True):
        means = {group.key: breakdown_means(entry, group.runs) for group in groups}
        known = [group for group in groups if means[group.key]]
        style = styles(known)
        for name, members in families(known).items():
            lines = []
            for group in members:
                points = [(float(x), y) for x, y in enumerate(means[group.key]) if y is not None]
                x, y = (list(values) for values in zip(*points, strict=True))
                lines.append(Line(group.label, style[group.key], x, y))
            panels.append(Panel(BREAKDOWN_TITLES[kind], lines, entry["groups"], name))
        columns = len(families(known))
    if not panels:
        return None
    return Chart(
        f"breakdown_{slug}",
        f"Test NDCG@20 on {title} by frequency of the transition and of the target",
        "Test NDCG@20",
        panels,
        same_y="row" if columns > 1 else False,
        columns=columns if 1 < columns < 4 else 2,
    )
