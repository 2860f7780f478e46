"""All that the page and the figures are made of, read from files alone."""

import dataclasses
from itertools import chain
from pathlib import Path

from mqsa_jax.errors import UserError
from mqsa_jax.models.registry import PLUS
from mqsa_jax.reporting import charts
from mqsa_jax.reporting.analysis import Analysis, read_analysis, without_stale
from mqsa_jax.reporting.charts import Chart, Sweeps
from mqsa_jax.reporting.results import Models, Run, by_dataset
from mqsa_jax.reporting.sweeps import Sweep


@dataclasses.dataclass(frozen=True, eq=False)
class DatasetStudy:
    """A data set's part of the study."""

    name: str
    models: Models
    swept: Sweeps
    """Of the full model."""
    recipe_swept: Sweeps
    """Of the recipe of our own."""
    analysis: Analysis
    learning: Chart | None
    sensitivity: Chart | None
    breakdown: Chart | None

    @property
    def without_ranks(self) -> list[str]:
        """Names of the runs that took no part in tests and breakdowns."""
        entries = [*self.analysis["significance"].values(), *self.analysis["distillation"].values()]
        ranked = {name for entry in entries for name in entry["runs"]}
        for entry in self.analysis["breakdown"].values():
            ranked |= entry["ndcg"].keys()
        return [name for name in self._names if name not in ranked]

    @property
    def without_lists(self) -> list[str]:
        """Names of the runs whose recommended lists are not told of."""
        return [name for name in self._names if name not in self.analysis["lists"]]

    @property
    def _names(self) -> list[str]:
        return [run.name for runs in self.models.values() for run in runs]


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """What docs/results.md tells of."""

    runs: list[Run]
    sweeps: list[Sweep]
    datasets: list[DatasetStudy]

    @property
    def charts(self) -> list[Chart]:
        """All pictures."""
        found = [chart for d in self.datasets for chart in (d.learning, d.sensitivity, d.breakdown)]
        return [chart for chart in found if chart is not None]


def analysis_file(folder: Path, dataset: str) -> Path:
    """Where what ranks and data told of a data set is kept."""
    return folder / f"{dataset}.json"


def make_study(runs: list[Run], sweeps: list[Sweep], analysis_folder: Path) -> Study:
    """Puts runs, sweeps and kept analyses together.

    Raises:
      UserError: if a kept analysis is of other runs than these.
    """
    datasets = []
    for name, models in by_dataset(runs).items():
        path = analysis_file(analysis_folder, name)
        analysis = read_analysis(path)
        if without_stale(analysis, models) != analysis:
            raise UserError(f"{path}: of other runs than are kept; run mqsa-jax report again")
        every = [*runs, *chain.from_iterable(sweeps)]
        swept = charts.sweeps(every, models)
        datasets.append(
            DatasetStudy(
                name=name,
                models=models,
                swept=swept,
                recipe_swept=charts.sweeps(every, models, PLUS),
                analysis=analysis,
                learning=charts.learning_chart(name, models),
                sensitivity=charts.sensitivity_chart(name, swept),
                breakdown=charts.breakdown_chart(name, models, analysis),
            )
        )
    return Study(runs, sweeps, datasets)
