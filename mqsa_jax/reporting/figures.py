"""Draws charts with matplotlib, which no other part of the package needs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mqsa_jax.errors import UserError
from mqsa_jax.reporting.charts import Chart, Line, Panel

# Okabe and Ito's colours, which colour-blind readers tell apart; black is the reference's alone.
_BLACK = "#000000"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
_DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1, 1.3)), (0, (5, 1.5, 1, 1.5)))
_MARKERS = "osD^vP"


def require_matplotlib() -> Any:
    """Returns matplotlib, set to draw into files. Raises UserError if it is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise UserError(
            "figures need matplotlib, which is not installed; "
            "pip install -r benchmarks/requirements.txt"
        ) from None
    matplotlib.use("Agg")
    return matplotlib


def draw_all(charts: Iterable[Chart], folder: Path) -> None:
    """Draws all charts, and deletes pictures of earlier ones."""
    require_matplotlib()
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / f"{chart.name}.png": chart for chart in charts}
    for old in set(folder.glob("*.png")) - files.keys():
        old.unlink()
    for path, chart in files.items():
        draw(chart, path)


def draw(chart: Chart, path: Path) -> None:
    """Draws a chart as PNG of 150 dots an inch."""
    from matplotlib import pyplot

    columns = min(len(chart.panels), chart.columns)
    rows = -(-len(chart.panels) // columns)
    width = {1: 7.5, 2: 10.5}.get(columns, 13.5)
    figure, axes = pyplot.subplots(
        rows,
        columns,
        figsize=(width, 3.8 * rows),
        layout="constrained",
        squeeze=False,
        sharey=chart.same_y,
    )
    for index, axis in enumerate(axes.ravel()):
        if index < len(chart.panels):
            _draw_panel(axis, chart.panels[index])
        else:
            axis.set_axis_off()
    # After all lines are drawn, as it ends automatic scaling of the range that panels share.
    for axis, panel in zip(axes.ravel(), chart.panels, strict=False):
        if panel.bottom is not None:
            axis.set_ylim(bottom=panel.bottom)
    for axis in axes[:, 0]:
        axis.set_ylabel(chart.ylabel)
    handle_of: dict[str, Any] = {}
    for axis in axes.ravel():
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handle_of.setdefault(label, handle)
    figure.legend(
        handle_of.values(),
        handle_of.keys(),
        loc="outside right upper",
        fontsize=9,
        frameon=False,
        handlelength=4,
    )
    figure.suptitle(chart.alt, fontsize=10, x=0.01, horizontalalignment="left")
    # No creation time in the file, so that equal values give equal bytes.
    figure.savefig(path, dpi=150, metadata={"Software": None})
    pyplot.close(figure)


def _draw_panel(axis: Any, panel: Panel) -> None:
    for line in panel.lines:
        _draw_line(axis, line, marked=panel.ticks is not None)
    if panel.ticks is not None:
        axis.set_xticks(range(len(panel.ticks)), panel.ticks)
        axis.margins(x=0.08)
    axis.set_xlabel(panel.xlabel)
    axis.set_title(panel.title, fontsize=9, loc="left")
    axis.grid(alpha=0.3, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelleft=True)


def _draw_line(axis: Any, line: Line, marked: bool) -> None:
    """Colours repeat after 7 lines, with other dashes and another marker."""
    turn, colour = divmod(line.style - 1, len(_COLOURS))
    reference = line.style == 0
    axis.errorbar(
        line.x,
        line.y,
        yerr=line.error,
        label=line.label,
        color=_BLACK if reference else _COLOURS[colour],
        linestyle=_DASHES[0 if reference else turn % len(_DASHES)],
        linewidth=2.2 if reference else 1.4,
        zorder=3 if reference else 2,
        marker=("o" if reference else _MARKERS[(line.style - 1) % len(_MARKERS)]) if marked else "",
        markersize=4.5,
        capsize=3,
    )
