"""The page of results as text: its sections, and what each says of its numbers."""

from collections.abc import Callable
from typing import NamedTuple

from mqsa_jax.errors import UserError
from mqsa_jax.models.registry import PLUS
from mqsa_jax.reporting import overview, tables
from mqsa_jax.reporting.charts import Chart
from mqsa_jax.reporting.published import published_on
from mqsa_jax.reporting.reproduction import runs_table, sweep_paragraphs
from mqsa_jax.reporting.study import DatasetStudy, Study

Part = Callable[[DatasetStudy], list[str]]
"""Paragraphs on a data set; none if there is nothing to tell."""


class Section(NamedTuple):
    """A section with a part for each data set."""

    title: str
    introduction: str
    part: Part


def build_page(study: Study) -> str:
    """The whole page. Sections without content are left out.

    Raises:
      UserError: if a note is of no section.
    """
    titles = ["", *(section.title for section in SECTIONS), "Sweeps", "Runs", "Left out"]
    unknown = study.notes.keys() - set(titles)
    if unknown:
        raise UserError(
            f"{study.results / 'notes.md'}: no section {', '.join(sorted(unknown))} on the page; "
            f"one of {', '.join(titles[1:])}"
        )
    blocks = [_head(study)]
    for section in SECTIONS:
        paragraphs = []
        for dataset in study.datasets:
            found = section.part(dataset)
            if found:
                paragraphs += [f"### {section.title}: {dataset.title}", *found]
        blocks.append(_block(study, section.title, section.introduction, paragraphs))
    blocks.append(_block(study, "Sweeps", SWEEPS, sweep_paragraphs(study.sweeps)))
    runs = [runs_table(study.runs)] if study.runs else []
    blocks.append(_block(study, "Runs", RUNS, runs))
    left_out = [s for dataset in study.datasets for s in dataset.left_out()]
    bullets = "\n".join(f"- {sentence}." for sentence in [*study.left_out, *left_out])
    blocks.append(_block(study, "Left out", LEFT_OUT, [bullets] if bullets else []))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _block(study: Study, title: str, introduction: str, paragraphs: list[str]) -> str:
    if not paragraphs:
        return ""
    note = study.notes.get(title, "")
    return "\n\n".join(part for part in (f"## {title}", introduction, note, *paragraphs) if part)


def _head(study: Study) -> str:
    command = f"mqsa-jax report --results {study.results} --out {study.out}"
    paragraphs = ["# Results", HEAD.format(command=command, results=study.results)]
    if study.overview is not None:
        paragraphs.insert(1, f"![{study.overview.alt}](results/figures/{overview.NAME}.png)")
    return "\n\n".join([*paragraphs, *filter(None, [study.notes.get("")])])


HEAD = """Made by `{command}` from the result files in `{results}`. Metrics rank all items
(leave-one-out); the epoch with the best validation NDCG@20 is tested. A row is a configuration:
the model, then the flags that differ from the defaults of its data set and model."""

MAIN = """Mean over seeds ± standard deviation, from `test_metrics.json` of the runs."""


def _main(dataset: DatasetStudy) -> list[str]:
    if not dataset.groups:
        return []
    tests = [run.test for run in dataset.runs]
    excluded = ", ".join(sorted({str(test["exclude_seen"]) for test in tests}))
    caption = f"{tests[0]['users']:,} users, {tests[0]['items']:,} items. "
    caption += f"Items left out as seen (`--exclude-seen`): {excluded}."
    if dataset.common:
        caption += f" All trained models with `{dataset.common}`."
    counts = {
        "consumed_targets": "test targets were consumed before and count as misses",
        "untrained_targets": "test targets do not occur in training",
    }
    for name, what in counts.items():
        count = max(test.get(name, 0) for test in tests)
        caption += f" {count:,} {what}." if count else ""
    if published_on(dataset.name, "history") and "history" in excluded:
        caption += " Published figures in italics."
    return [caption, tables.main_table(dataset.name, dataset.groups)]


BESIDE = """The last column is the mean here divided by the published figure, minus 1."""


def _beside(dataset: DatasetStudy) -> list[str]:
    rows = tables.published_rows(dataset.name, dataset.groups)
    return [tables.published_table(rows)] if rows else []


SIGNIFICANCE = """Each configuration against a reference, paired by user. NDCG@20 and log2 of the
rank are averaged over the seeds that both have; a counted model has no seed and is compared with
each. The difference is the mean NDCG@20 of the first less that of the reference, with a 95%
interval and p (bootstrap) from 10,000 resamples of the users. The other p-values are of Wilcoxon's
signed-rank test. All tests are two-sided, with Holm's correction over the rows of a data set; rows
with equal results count once. Users ranked better: the fraction of users whose target the first
ranks higher, ties counted half. A target that can never be recommended ranks behind all items. The
tests tell of other users, not of other seeds. Made from `ranks.npz` of the runs."""


def _significance(dataset: DatasetStudy) -> list[str]:
    compared = dataset.analysis["significance"]
    return [tables.comparison_table(dataset.groups, compared)] if compared else []


DISTILLATION = """Models with distillation against the same models without it, by the tests of
[Significance](#significance), corrected over the rows of a data set."""


def _distillation(dataset: DatasetStudy) -> list[str]:
    compared = dataset.analysis["distillation"]
    return [tables.comparison_table(dataset.groups, compared)] if compared else []


SEEDS = """Differences of trained models to a reference, paired by seed: mean ± standard error over
the seeds that both have."""


def _seeds(dataset: DatasetStudy) -> list[str]:
    found = tables.seed_table(dataset.groups) if dataset.groups else None
    return [found] if found else []


RECIPE = """First the flags in which MQSA-TED+ differs from MQSA-TED. Then validation metrics of its
best epoch, unchanged and with one part left out or changed after training. The last column is the
difference of NDCG@20 to the unchanged model, paired by seed, ± its standard error. Made by
`python eval.py --run-dir RUN --ablation`."""


def _recipe(dataset: DatasetStudy) -> list[str]:
    paragraphs = []
    for group in dataset.groups:
        if group.model == PLUS and any(run.ablation for run in group.runs):
            first = not paragraphs and tables.recipe_table(dataset.groups)
            name = f"{group.cell}:" if group.flags else ""
            paragraphs += [part for part in (first, name, tables.ablation_table(group)) if part]
    return paragraphs


SENSITIVITY = """What one flag changes, all other settings equal. A model that is another one with a
flag fixed counts as a value of the flag, as MQSA does for `--lambda-kd 0`. ± and bars are standard
deviations over seeds."""


def _sensitivity(dataset: DatasetStudy) -> list[str]:
    paragraphs = []
    for found, chart in dataset.sensitivities:
        paragraphs += [_image(chart), tables.sensitivity_table(found)]
    return paragraphs


BREAKDOWN = """Test NDCG@20 of groups of users, mean over seeds: by how often the transition from
the item before the test target to the target occurs in training as direct successors, and by how
often the target occurs in training. Made from `ranks.npz` of the runs and the data set."""


def _breakdown(dataset: DatasetStudy) -> list[str]:
    if dataset.breakdown is None:
        return []
    paragraphs = [_image(dataset.breakdown)]
    titles = {"transition": "occurrences of the transition", "popularity": "popularity"}
    for kind, title in titles.items():
        if kind in dataset.analysis["breakdown"]:
            paragraphs.append(f"By {title}:")
            paragraphs.append(tables.breakdown_table(kind, dataset.groups, dataset.analysis))
    return paragraphs


LISTS = """Lists of the 20 best items of each user. Coverage: fraction of all items that at least
one user is recommended. Novelty: mean of -log2 of a recommended item's fraction of the training
occurrences, each count plus one. Popularity: mean occurrences of a recommended item in training.
Gini: 0 if all items are recommended equally often, near 1 if few items fill all lists. Slots
filled: a counted model lists only items with a score above 0. Made from `recommendations.npz`,
which earlier versions of `eval.py` wrote, and the data set."""


def _lists(dataset: DatasetStudy) -> list[str]:
    if not dataset.analysis["lists"]:
        return []
    return [tables.lists_table(dataset.groups, dataset.analysis)]


LEARNING = """Validation NDCG@20, mean over seeds up to the epoch that all of them reached. Made
from `metrics.jsonl` of the runs, which holds losses and other metrics too."""


def _learning(dataset: DatasetStudy) -> list[str]:
    return [] if dataset.learning is None else [_image(dataset.learning)]


SWEEPS = """All trials, a row a configuration."""

RUNS = """Commands without folders of data and results, with all settings that differ from today's
defaults. The commit is that of the evaluation; seconds are the median of an epoch's training."""

LEFT_OUT = """What is missing from tables or parts of the page."""

SECTIONS = (
    Section("Test figures", MAIN, _main),
    Section("Beside the published figures", BESIDE, _beside),
    Section("Significance", SIGNIFICANCE, _significance),
    Section("Distillation", DISTILLATION, _distillation),
    Section("Differences by seed", SEEDS, _seeds),
    Section("Ablation of MQSA-TED+", RECIPE, _recipe),
    Section("Sensitivity", SENSITIVITY, _sensitivity),
    Section("Breakdown", BREAKDOWN, _breakdown),
    Section("Recommended lists", LISTS, _lists),
    Section("Learning curves", LEARNING, _learning),
)


def _image(chart: Chart) -> str:
    return f"![{chart.alt}](results/figures/{chart.name}.png)"
