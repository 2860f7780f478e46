"""The picture at the head of the README: NDCG@20 beside published figures, speed beside peers."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mqsa_jax.data.sources import SOURCES, dataset_title
from mqsa_jax.models.registry import PLUS
from mqsa_jax.reporting.configurations import Group
from mqsa_jax.reporting.published import UNVERIFIED, best_published
from mqsa_jax.reporting.results import FULL_MODEL, model_title

NAME = "overview"
"""Of the file, without ending."""
METRIC = "NDCG@20"
# Okabe and Ito's colours, told apart by colour-blind readers; grey for others' work.
_OTHERS, _FULL, _PLUS, _INK = "#A6A6A6", "#56B4E9", "#0072B2", "#24292F"
_LIBRARIES = {
    "mqsa_jax": "mqsa_jax\n(MQSA-TED)",
    "recbole": "RecBole\n(SASRec)",
    "rectools": "RecTools\n(SASRec)",
}
"""Libraries of the benchmark, and the model that each trains."""


@dataclasses.dataclass(frozen=True)
class Overview:
    """Values of the picture."""

    datasets: list[str]
    """Titles."""
    published: list[tuple[str, float]]
    """Best published model of each data set, and its NDCG@20."""
    models: dict[str, list[float]]
    """By title of the model: mean NDCG@20 on each data set."""
    seconds: list[tuple[str, float]]
    """Library, and seconds of a training epoch; this one first."""
    machine: str
    """That the seconds were measured on."""

    @property
    def alt(self) -> str:
        """What the picture says, in words."""
        names = " and ".join(self.models)
        return (
            f"Left: test NDCG@20 of {names} beside the best published figure on "
            f"{', '.join(self.datasets)}. Right: seconds of a training epoch on Toys, "
            + ", ".join(f"{' '.join(n.split())} {seconds:.3g}" for n, seconds in self.seconds)
        )


def make_overview(
    groups_of: Mapping[str, Sequence[Group]], peers: Mapping[str, Any]
) -> Overview | None:
    """Values from the runs with default settings, and from the result of the peers' benchmark.

    None unless both models have runs on each of the four data sets.
    """
    main = {
        name: {g.model: g for g in reversed(groups) if g.protocol == "history"}
        for name, groups in groups_of.items()
    }
    rows = {name: best_published(name) for name in SOURCES}
    wanted = (FULL_MODEL, PLUS)
    if not all(rows[n] and main.get(n, {}).keys() >= set(wanted) for n in SOURCES):
        return None
    models = {
        model_title(model): [
            statistics.mean(run.test[METRIC] for run in main[name][model].runs) for name in SOURCES
        ]
        for model in wanted
    }
    seconds = [
        (_LIBRARIES[row["library"].split()[0]], float(row["epoch s"])) for row in peers["rows"]
    ]
    # "1 × cpu, 2 cores of …, 24 GiB"
    machine = peers["provenance"]["machine"].split(", ")[1]
    published = []
    for row in rows.values():
        doubt = f", {row.source}" if row.source == UNVERIFIED else ""
        published.append((row.model.partition(",")[0] + doubt, row.figures[METRIC]))
    return Overview([dataset_title(n) for n in SOURCES], published, models, seconds, machine)


def draw_overview(overview: Overview, path: Path) -> None:
    """Draws the picture as PNG, readable at a width of 800 pixels on dark and light pages."""
    from matplotlib import pyplot

    style = {"font.size": 11, "text.color": _INK, "axes.labelcolor": _INK}
    style |= {"xtick.color": _INK, "ytick.color": _INK, "axes.edgecolor": "#8C959F"}
    with pyplot.rc_context(style):
        figure, (left, right) = pyplot.subplots(
            1, 2, figsize=(10.6, 3.7), width_ratios=(2.1, 1), layout="constrained"
        )
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1, wspace=0.04)
        _draw_quality(left, overview)
        _draw_speed(right, overview)
        figure.savefig(path, dpi=160, facecolor="white", metadata={"Software": None})
        pyplot.close(figure)


def _draw_quality(axis: Any, overview: Overview) -> None:
    bars = {"best published": [value for _, value in overview.published], **overview.models}
    width = 0.29
    for offset, (colour, (label, values)) in enumerate(
        zip((_OTHERS, _FULL, _PLUS), bars.items(), strict=True), start=-1
    ):
        x = [index + offset * width for index in range(len(values))]
        drawn = axis.bar(x, values, width * 0.94, color=colour, label=label)
        weight = "bold" if colour == _PLUS else "normal"
        axis.bar_label(
            drawn, [f"{v:.4f}"[1:] for v in values], padding=2, fontsize=9.5, fontweight=weight
        )
    names = [f"{d}\n({m})" for d, (m, _) in zip(overview.datasets, overview.published, strict=True)]
    axis.set_xticks(range(len(names)), names, linespacing=1.4)
    axis.tick_params(length=0)
    axis.set_yticks([])
    axis.set_ylim(0, 1.24 * max(max(values) for values in bars.values()))
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.legend(loc="upper right", frameon=False, ncols=3, fontsize=10, handlelength=1.2)
    axis.set_title("Test NDCG@20 (source of the best published below)", loc="left", fontsize=12)


def _draw_speed(axis: Any, overview: Overview) -> None:
    names, seconds = zip(*overview.seconds, strict=True)
    colours = [_PLUS, *[_OTHERS] * (len(names) - 1)]
    drawn = axis.barh(range(len(names)), seconds, 0.6, color=colours)
    labels = [
        f"{s:.3g} s" + (f" (× {s / seconds[0]:.0f})" if i else "") for i, s in enumerate(seconds)
    ]
    for label, bar in zip(
        axis.bar_label(drawn, labels, padding=4, fontsize=10), range(9), strict=False
    ):
        label.set_fontweight("normal" if bar else "bold")
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.tick_params(length=0)
    axis.set_xticks([])
    axis.set_xlim(0, 1.45 * max(seconds))
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.set_xlabel(f"on {overview.machine}", fontsize=9.5, loc="left")
    axis.set_title("Training time of an epoch, Toys", loc="center", fontsize=12)
