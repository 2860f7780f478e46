"""Finished runs, read from their folders, and which of them stand for a model."""

import dataclasses
import json
import statistics
import typing
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mqsa_jax.config import Config, ModelName
from mqsa_jax.data.sources import dataset_names
from mqsa_jax.errors import UserError
from mqsa_jax.presets import default_config
from mqsa_jax.runs.files import read_json
from mqsa_jax.runs.run_directory import RECIPE_ABLATION

METRICS = ("HR@5", "NDCG@5", "HR@10", "NDCG@10", "HR@20", "NDCG@20")
"""What a run is judged by, in the order of the tables; the last one is what tests compare."""
FULL_MODEL = "mqsa-ted"
"""The model that others are compared with, and that of configurations which name none."""
ABLATION = (FULL_MODEL, "mqsa", "sasrec-ted", "sasrec", "l-query")
"""The full model and what is left when parts are taken away: it, with some flags fixed."""
MODELS: tuple[str, ...] = typing.get_args(ModelName)
"""Models in the order of tables and legends."""
NO_SETTING = {"dataset", "model", "seed", "data_dir", "run_dir", "resume", "devices", "parallel"}
"""Flags that do not make a configuration another one."""


class Configured:
    """What has the configuration of a run."""

    config: dict[str, Any]
    """Every flag."""

    @property
    def dataset(self) -> str:
        """Name of the data set; of a file, its name without ending."""
        return Path(self.config["dataset"]).stem.lower()

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.config["model"]


@dataclasses.dataclass(frozen=True, eq=False)
class Run(Configured):
    """A finished run."""

    folder: Path
    config: dict[str, Any]
    """Every flag; those that the file lacks, being older than they, where they change nothing."""
    differs: dict[str, Any]
    """Settings that are not the default of the data set and model."""
    epochs: list[dict[str, Any]]
    """Lines of metrics.jsonl; none if the model is not trained. `seconds` is None if not known."""
    test: dict[str, Any]
    note: str
    ablation: list[dict[str, Any]]
    """Rows of ablation.json, the whole recipe first; none if there is no such file."""

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def seed(self) -> int:
        """The seed that the run started from."""
        return self.config["seed"]

    @property
    def valid(self) -> float | None:
        """Validation NDCG@20 of the epoch that was tested, if the run has epochs."""
        best = [line for line in self.epochs if line["epoch"] == self.test["epoch"]]
        return best[0]["valid_NDCG@20"] if best else None

    @property
    def settings(self) -> str:
        """The flags of `differs` as on a command line."""
        return " ".join(f"--{k.replace('_', '-')} {v}" for k, v in self.differs.items())

    def has(self, file: str) -> bool:
        """Whether the folder holds a file."""
        return (self.folder / file).is_file()


Models = dict[str, list[Run]]
"""Of one data set: for each model the runs that stand for it, one a seed."""


def load_runs(folder: Path, *, distinct: bool = True) -> list[Run]:
    """All finished runs in the folders of `folder`, by data set, model, settings and seed.

    Args:
      folder: where they lie side by side.
      distinct: refuse two of one configuration and seed.

    Raises:
      UserError: if there is none, a file of one is broken, or two are alike though they must not.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one that holds runs with --results")
    runs = []
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        if (path / "config.json").is_file() and (path / "test_metrics.json").is_file():
            runs.append(load_run(path))
        else:
            warnings.warn(f"{path}: holds no finished run; left out", UserWarning, stacklevel=2)
    if not runs:
        raise UserError(
            f"{folder}: no finished run in it; train one with train.py, or name another"
        )
    if distinct:
        _refuse_twins(runs)
    return sorted(
        runs,
        key=lambda run: (
            place(dataset_names(), run.dataset),
            place(MODELS, run.model),
            run.settings,
            run.seed,
        ),
    )


def load_run(folder: Path) -> Run:
    """The run in a folder. Raises UserError naming the file that is broken."""
    config, test = (read_json(folder / name) for name in ("config.json", "test_metrics.json"))
    _require(folder / "config.json", config, ("dataset", "seed"))
    _require(folder / "test_metrics.json", test, (*METRICS, "epoch", "provenance", "versions"))
    config = Config.from_stored(config).flat()
    note = folder / "note.txt"
    return Run(
        folder=folder,
        config=config,
        differs=differences(config),
        epochs=_read_lines(folder / "metrics.jsonl"),
        test=test,
        note=note.read_text().strip() if note.exists() else "",
        ablation=_read_ablation(folder / RECIPE_ABLATION),
    )


def differences(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a configuration that are not the default of its data set and model."""
    default = default_config(config["dataset"], config["model"]).flat()
    return {
        name: value
        for name, value in config.items()
        if name not in NO_SETTING and value != default.get(name)
    }


def _read_ablation(path: Path) -> list[dict[str, Any]]:
    rows = read_json(path) if path.exists() else []
    for row in rows:
        _require(path, row, ("name", "flags", "HR@20", "NDCG@20"))
    return rows


def _require(path: Path, value: Any, names: Sequence[str]) -> None:
    if not isinstance(value, dict) or not value.keys() >= set(names):
        raise UserError(f"{path}: lacks one of {', '.join(names)}; restore it, or delete the run")


def _read_lines(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines() if path.exists() else []
    try:
        epochs = [json.loads(line) for line in lines]
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON lines ({error}); restore it") from None
    for epoch in epochs:
        _require(path, epoch, ("epoch", "seconds", "valid_NDCG@20"))
    return epochs


def _refuse_twins(runs: list[Run]) -> None:
    seen: dict[tuple, Run] = {}
    for run in runs:
        other = seen.setdefault((run.dataset, run.model, run.settings, run.seed), run)
        if other is not run:
            raise UserError(
                f"{other.folder} and {run.folder} are of one configuration and seed; keep one"
            )


def place(names: Sequence[str], name: str) -> tuple[int, str]:
    """Sorts names: those in `names` in that order, then others by the alphabet."""
    return (names.index(name) if name in names else len(names), name)


def by_dataset(runs: list[Run]) -> dict[str, Models]:
    """For each data set and model the runs that stand for it.

    Of a model's configurations it is the one nearest to its default, counted in flags; of those,
    the one with most seeds.
    """
    groups: dict[str, dict[str, dict[str, list[Run]]]] = {}
    for run in runs:
        models = groups.setdefault(run.dataset, {})
        models.setdefault(run.model, {}).setdefault(run.settings, []).append(run)

    def nearness(group: list[Run]):
        return len(group[0].differs), -len(group), group[0].settings

    return {
        dataset: {model: min(found.values(), key=nearness) for model, found in models.items()}
        for dataset, models in groups.items()
    }


def spread(values: Sequence[float], form: str = ".4f") -> str:
    """Mean ± standard deviation; one value alone has none.

    >>> spread([0.1, 0.3]), spread([0.5])
    ('0.2000 ± 0.1414', '0.5000')
    """
    mean = f"{statistics.mean(values):{form}}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):{form}}"
