"""Writes docs/scaling.md, and draws its figure, from what a benchmark wrote.

python -m benchmarks.programs
python docs/build_scaling.py
"""

from typing import Any

from page_parts import DOCS, FILES, load, table, text

PAGE = DOCS / "scaling.md"
FIGURE = FILES / "figures" / "programs.png"
MIB = 2**20


def programs_compiled() -> list[dict[str, Any]]:
    """All that were compiled."""
    return list(load("programs")["programs"].values())


def row(one: dict[str, Any]) -> list[str]:
    """Of one program."""
    head = [one["topology"], f"{one['items']:,}", str(one["dim"])]
    head.append(f"{one['batch_size']:,}")
    if one.get("total_bytes_per_chip") is None:
        return [*head, "does not fit" if "hbm_bytes_per_chip" in one else one["error"], *[""] * 7]
    sizes = (
        *(one[f"{kind}_bytes_per_chip"] for kind in ("total", "argument", "temporary")),
        one["evaluation"]["total_bytes_per_chip"] or float("nan"),
        one["collective_bytes_per_step"],
        max(each["bytes"] for each in one["collectives"]),
        one["parameters"],
    )
    step = one["seconds_per_step"] * 1000
    return [*head, *(f"{size / MIB:,.0f}" for size in sizes), f"{step:.3g}"]


HEADS = [
    *("Topology", "Items", "D", "Users a step", "Training, MiB", "its arguments", "temporaries"),
    *("Evaluation, MiB", "Exchanged a step, MiB", "largest exchange", "Parameters, MiB"),
    "Step, ms",
]


def tables(programs: list[dict[str, Any]]) -> str:
    """The tables of all series, and what made them."""
    titles = {
        "sizes": "## Compiled for real TPUs",
        "strong": "### The same work on more chips",
        "weak": "### As much more work as there are more chips",
        "gpus": "### Eight GPUs",
    }
    parts = []
    for series, title in titles.items():
        own = [one for one in programs if one["series"] == series]
        if own:
            own.sort(key=lambda one: (one["topology"], one["items"], one["dim"]))
            own.sort(key=lambda one: one.get("chips", 0) if series != "sizes" else 0)
            facts = [FACTS] if series == "sizes" else []
            parts += [title, *facts, table(HEADS, list(map(row, own)))]
    commits = sorted({one["commit"] for one in programs})
    compilers = sorted({one["compiler"] for one in programs})
    made = (
        f"`python -m benchmarks.programs`, commit {', '.join(commits)}, {', '.join(compilers)}; "
        "all figures are in `docs/performance/programs.json`."
    )
    return "\n\n".join([*parts, step_model(programs), made])


def step_model(programs: list[dict[str, Any]]) -> str:
    """The parts of a step's time on 256 TPUs and on eight GPUs, and what the model assumes."""
    own = [
        one
        for one in programs
        if (one["series"] == "gpus" or (one["series"] == "sizes" and one["chips"] == 256))
        and one["topology"] in ("v5e:16x16", "8xh100")
        and "seconds_by_kind" in one
    ]
    own.sort(key=lambda one: (one["topology"], one["items"], one["dim"]))
    kinds = ("arithmetic", "memory", "exchanges", "launches")
    rows = [
        [
            *(one["topology"], f"{one['items']:,}", str(one["dim"])),
            *(f"{1000 * one['seconds_by_kind'][kind]:.3g}" for kind in kinds),
            f"{1000 * one['seconds_per_step']:.3g}",
            f"{one['batch_size'] / one['seconds_per_step']:,.0f}",
        ]
        for one in own
    ]
    heads = ["Topology", "Items", "D", *(f"{kind}, ms" for kind in kinds), "Step, ms", "Users/s"]
    assumed = "\n".join(f"- {line};" for line in own[0]["assumptions"])
    text = (
        "A step takes the longer of arithmetic and memory, then exchanges and launches. These are "
        "lower bounds, whose assumptions are:"
    )
    return f"### A model of a step's time\n\n{text}\n\n{assumed}\n\n{table(heads, rows)}"


FACTS = """Exact softmax over all items, `--shard-items all`, one million users of 8 training
positions. Sizes are what the compiler for TPUs lays out on each chip: arguments hold parameters,
Adam's moments and the batches; training is arguments, results, temporaries and code together.
Exchanges are what a chip takes part in; parameters are its own part of the tables and all else, for
comparison with the largest exchange. The step time is a lower bound by published peaks
([preflight](preflight.md) names what it assumes), not a measurement: no TPU was at hand."""


def draw(programs: list[dict[str, Any]]) -> None:
    """Bytes exchanged and held by a chip, against the number of chips."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    kinds = {"strong": "same work", "weak": "work in proportion"}
    values = {
        "exchanged a step, MiB a chip": "collective_bytes_per_step",
        "training, MiB a chip": "total_bytes_per_chip",
    }
    for axis, (label, name) in zip(axes, values.items(), strict=True):
        for series, title in kinds.items():
            own = [one for one in programs if one["series"] == series and one.get(name)]
            own.sort(key=lambda one: one["chips"])
            chips = [one["chips"] for one in own]
            axis.plot(chips, [one[name] / MIB for one in own], marker="o", label=title)
        axis.set(xlabel="chips (TPU v5e)", ylabel=label, xscale="log")
        axis.set_yscale("log", base=4)
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.set_xticks([4, 16, 64, 256], ["4", "16", "64", "256"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(FIGURE, dpi=120)


def build() -> str:
    """The page."""
    programs = programs_compiled()
    parts = [text("scaling"), tables(programs)]
    if FIGURE.exists():
        parts.append(f"![Weak and strong scaling](performance/figures/{FIGURE.name})")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    compiled = programs_compiled()
    if any(one["series"] != "sizes" for one in compiled):
        draw(compiled)
    PAGE.write_text(build())
