"""All that the page and the figures show, read from files alone."""

import dataclasses
import re
from pathlib import Path
from typing import Any

from mqsa_jax.data.sources import dataset_names, dataset_title
from mqsa_jax.errors import UserError
from mqsa_jax.reporting import charts
from mqsa_jax.reporting.analysis import (
    Analysis,
    read_analysis,
    reference_pairs,
    without_stale,
)
from mqsa_jax.reporting.charts import Chart
from mqsa_jax.reporting.configurations import Group, common_settings, group_runs
from mqsa_jax.reporting.overview import Overview, make_overview
from mqsa_jax.reporting.results import Run, as_flags, by_data, load_runs
from mqsa_jax.reporting.sweeps import Sensitivity, Sweep, load_sweeps, sensitivities
from mqsa_jax.runs.files import read_json


@dataclasses.dataclass(frozen=True, eq=False)
class DatasetStudy:
    """A data set's part of the study."""

    name: str
    """Built-in name; of a file, its name with the ending."""
    title: str
    slug: str
    """Name in files."""
    groups: list[Group]
    """Rows of the tables; empty if only sweeps used the data set."""
    common: str
    """Flags other than the defaults that all trained models share."""
    analysis: Analysis
    sensitivities: list[tuple[Sensitivity, Chart]]
    learning: Chart | None
    breakdown: Chart | None

    @property
    def runs(self) -> list[Run]:
        """All of its results."""
        return [run for group in self.groups for run in group.runs]

    def left_out(self) -> list[str]:
        """A sentence for each part that some runs are missing from."""
        ranked = {
            name for entry in self.analysis["significance"].values() for name in entry["runs"]
        }
        for entry in self.analysis["breakdown"].values():
            ranked |= entry["ndcg"].keys()
        lists = self.analysis["lists"]
        compared = self.analysis["significance"]
        apart = [
            group.key
            for key, (group, other) in reference_pairs(self.groups).items()
            if key not in compared and {*_names(group), *_names(other)} & ranked
        ]
        missing = {
            "no significance test and breakdown, as `ranks.npz` or the data set is missing": [
                run.name for run in self.runs if run.name not in ranked
            ],
            "no significance test, as no seed with ranks is in common": [
                name for name in apart if name in ranked
            ],
            "no list statistics, as `recommendations.npz` of an earlier version is missing": [
                run.name for run in self.runs if lists and run.name not in lists
            ],
        }
        whole = [run.name for run in self.runs]
        return [
            f"{self.title}, {what}: "
            + ("all runs" if names == whole else ", ".join(f"`{name}`" for name in names))
            for what, names in missing.items()
            if names
        ]


def _names(group: Group) -> list[str]:
    return [run.name for run in group.runs]


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """What the page tells of."""

    results: Path
    """Folder of the runs, as given."""
    out: Path
    """Folder of the page, as given."""
    runs: list[Run]
    left_out: list[str]
    """A sentence for each run that is not in the tables."""
    sweeps: list[Sweep]
    datasets: list[DatasetStudy]
    notes: dict[str, str]
    """Paragraphs by title of the section; "" for the head of the page."""
    overview: Overview | None

    @property
    def charts(self) -> list[Chart]:
        """All charts of data sets."""
        found = []
        for dataset in self.datasets:
            found += [dataset.learning, *(chart for _, chart in dataset.sensitivities)]
            found.append(dataset.breakdown)
        return [chart for chart in found if chart is not None]


def analysis_file(out: Path, slug: str) -> Path:
    """The file that keeps what ranks and data told of a data set."""
    return out / "results" / "analysis" / f"{slug}.json"


def slugs(runs: list[Run], sweeps: list[Sweep]) -> dict[Any, str]:
    """A file name, without ending, for each data set; different ones for different data."""
    trials = [trial for sweep in sweeps for trial in sweep.trials]
    found: dict[Any, str] = {}
    for data in [*by_data(runs), *by_data(trials)]:
        known = data.name in dataset_names()
        slug = data.name if known else re.sub(r"[^\w-]+", "-", Path(data.name).stem).lower()
        others = [value for key, value in found.items() if key != data]
        found[data] = f"{slug}-{data.fingerprint[:8]}" if slug in others else slug
    return found


def read_study(results: Path, out: Path) -> Study:
    """The study from files that are kept, without ranks and data.

    Sweeps lie in the folder `sweeps` beside that of the runs. `notes.md` in the folder of the runs
    adds paragraphs to the page, `performance/peers_toys.json` in `out` the overview.

    Raises:
      UserError: if there is neither a run nor a sweep, a file is broken, or a kept analysis is of
        other runs than these.
    """
    runs, left_out = load_runs(results)
    sweeps = load_sweeps(results.parent / "sweeps")
    if not runs and not sweeps:
        raise UserError(f"{results}: no finished run in it; train one, or name another folder")
    datasets = _dataset_studies(runs, sweeps, out)
    peers = out / "performance" / "peers_toys.json"
    overview = None
    if peers.exists():
        groups_of = {d.name: d.groups for d in datasets if d.groups}
        overview = make_overview(groups_of, read_json(peers))
    notes = read_notes(results / "notes.md")
    return Study(results, out, runs, left_out, sweeps, datasets, notes, overview)


def _dataset_studies(runs: list[Run], sweeps: list[Sweep], out: Path) -> list[DatasetStudy]:
    trials = by_data(trial for sweep in sweeps for trial in sweep.trials)
    runs_of, studies, titles = by_data(runs), [], []
    for data, slug in slugs(runs, sweeps).items():
        own = runs_of.get(data, [])
        groups = group_runs(own)
        path = analysis_file(out, slug)
        analysis = read_analysis(path)
        if without_stale(analysis, groups) != analysis:
            raise UserError(f"{path}: of other runs than these; run mqsa-jax report again")
        title = dataset_title(data.name)
        title = f"{title}, data {data.fingerprint[:8]}" if title in titles else title
        titles.append(title)
        found = sensitivities(groups, trials.get(data, []))
        studies.append(
            DatasetStudy(
                name=data.name,
                title=title,
                slug=slug,
                groups=groups,
                common=as_flags(common_settings(own)),
                analysis=analysis,
                sensitivities=[(s, charts.sensitivity_chart(slug, title, s)) for s in found],
                learning=charts.learning_chart(slug, title, groups),
                breakdown=charts.breakdown_chart(slug, title, groups, analysis),
            )
        )
    return studies


def read_notes(path: Path) -> dict[str, str]:
    """Paragraphs by the title of the section `## TITLE` that they belong to; "" before the first.

    A folder without the file has no notes.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    notes = {"": head.strip()} if head.strip() else {}
    for section in sections:
        title, _, body = section.partition("\n")
        notes[title.strip()] = body.strip()
    return notes
