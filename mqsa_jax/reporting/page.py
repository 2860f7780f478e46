"""docs/results.md as text."""

from collections.abc import Callable
from pathlib import Path

from mqsa_jax.models.registry import PLUS
from mqsa_jax.reporting import prose, tables
from mqsa_jax.reporting.analysis import DISTILLED
from mqsa_jax.reporting.charts import Chart
from mqsa_jax.reporting.components import parts_section
from mqsa_jax.reporting.results import ABLATION, FULL_MODEL
from mqsa_jax.reporting.run_list import runs_section, sweeps_section
from mqsa_jax.reporting.study import DatasetStudy, Study

Part = Callable[[DatasetStudy], list[str]]
"""Paragraphs on a data set; none where there is nothing to tell."""


def build_page(study: Study, parts: Path) -> str:
    """The whole page; `parts` is the folder of the runs on the embedded data."""
    sections = [
        prose.HEAD,
        _section(study, "Test figures", _main, prose.MAIN, ""),
        _section(study, "Beside the published figures", _beside, prose.BESIDE, prose.NO_BESIDE),
        _section(study, "Significance", _significance, prose.SIGNIFICANCE, prose.NO_RANKS),
        _left_out(study),
        _section(study, "Distillation", _distillation, prose.DISTILLATION, prose.NO_RANKS),
        _section(study, "Ablation", _ablation, prose.ABLATION, prose.NO_ABLATION),
        parts_section(parts),
        _section(
            study,
            "Ablation of the recipe",
            _recipe_ablation,
            prose.RECIPE_ABLATION,
            prose.NO_RECIPE_ABLATION,
        ),
        _section(study, "Sensitivity", _sensitivity, prose.SENSITIVITY, prose.NO_SENSITIVITY),
        _section(study, "Breakdown", _breakdown, prose.BREAKDOWN, prose.NO_BREAKDOWN),
        _section(study, "Recommended lists", _lists, prose.LISTS, prose.NO_LISTS),
        _section(study, "Learning curves", _learning, prose.LEARNING, prose.NO_LEARNING),
        f"## Runs\n\n{prose.RUNS}\n\n{runs_section(study.runs)}",
        sweeps_section(study.sweeps),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _section(study: Study, title: str, part: Part, introduction: str, absent: str) -> str:
    """A section with a part for each data set; the line `absent` where no data set has one."""
    paragraphs = []
    for dataset in study.datasets:
        found = part(dataset)
        if found:
            paragraphs += [f"### {title}: {dataset.name}", *found]
    return "\n\n".join([f"## {title}", *([introduction, *paragraphs] if paragraphs else [absent])])


def _main(dataset: DatasetStudy) -> list[str]:
    tests = [run.test for runs in dataset.models.values() for run in runs]
    excluded = ", ".join(sorted({str(test["exclude_seen"]) for test in tests}))
    users, items = tests[0]["users"], tests[0]["items"]
    return [
        f"{users:,} users, {items:,} items. Seen items excluded (`--exclude-seen`): {excluded}.",
        tables.main_table(dataset.name, dataset.models),
    ]


def _beside(dataset: DatasetStudy) -> list[str]:
    rows = tables.published_rows(dataset.name, dataset.models)
    return [tables.published_table(rows)] if rows else []


def _significance(dataset: DatasetStudy) -> list[str]:
    compared = dataset.analysis["significance"]
    others = dict.fromkeys(compared, FULL_MODEL)
    return [tables.comparison_table(dataset.models, compared, others)] if compared else []


def _distillation(dataset: DatasetStudy) -> list[str]:
    compared = dataset.analysis["distillation"]
    return [tables.comparison_table(dataset.models, compared, DISTILLED)] if compared else []


def _left_out(study: Study) -> str:
    """A sentence that names the runs without ranks, if there are any."""
    names = [name for dataset in study.datasets for name in dataset.without_ranks]
    return prose.LEFT_OUT.format(", ".join(names)) if names else ""


def _ablation(dataset: DatasetStudy) -> list[str]:
    if FULL_MODEL not in dataset.models or not dataset.models.keys() & set(ABLATION[1:]):
        return []
    return [tables.ablation_table(dataset.models)]


def _recipe_ablation(dataset: DatasetStudy) -> list[str]:
    runs = [run for run in dataset.models.get(PLUS, []) if run.ablation]
    if not runs:
        return []
    recipe = [tables.recipe_table(dataset.models)] if FULL_MODEL in dataset.models else []
    swept = dataset.recipe_swept
    anew = [prose.TRAINED_ANEW, tables.sweep_table(swept)] if swept else []
    return [*recipe, tables.ablation_rows_table(runs), *anew]


def _sensitivity(dataset: DatasetStudy) -> list[str]:
    if dataset.sensitivity is None:
        return []
    return [_image(dataset.sensitivity), tables.sweep_table(dataset.swept)]


def _breakdown(dataset: DatasetStudy) -> list[str]:
    if dataset.breakdown is None:
        return []
    paragraphs = [_image(dataset.breakdown)]
    titles = {"transition": "how often training saw the transition", "popularity": "popularity"}
    for kind, title in titles.items():
        paragraphs.append(f"By {title}:")
        paragraphs.append(tables.breakdown_table(kind, dataset.models, dataset.analysis))
    return paragraphs


def _lists(dataset: DatasetStudy) -> list[str]:
    if not dataset.analysis["lists"]:
        return []
    absent = ", ".join(dataset.without_lists)
    told = [prose.WITHOUT_LISTS.format(absent)] if absent else []
    return [tables.lists_table(dataset.models, dataset.analysis), *told]


def _learning(dataset: DatasetStudy) -> list[str]:
    return [] if dataset.learning is None else [_image(dataset.learning)]


def _image(chart: Chart) -> str:
    return f"![{chart.alt}](results/figures/{chart.name}.png)"
