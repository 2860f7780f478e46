"""Test results of runs, read from their folders."""

import dataclasses
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mqsa_jax.attribute_settings import FILES
from mqsa_jax.config import RUN_FLAGS
from mqsa_jax.data.sources import SOURCES, SYNTHETIC, dataset_names
from mqsa_jax.errors import UserError
from mqsa_jax.models.registry import MODELS
from mqsa_jax.presets import default_config
from mqsa_jax.runs.files import read_json
from mqsa_jax.runs.run_directory import RECIPE_ABLATION, RunDirectory

METRICS = ("HR@5", "NDCG@5", "HR@10", "NDCG@10", "HR@20", "NDCG@20")
"""Metrics of the tables, in their order."""
FULL_MODEL = "mqsa-ted"
"""The reference of a data set's comparisons, if it has runs."""
ABLATION = (FULL_MODEL, "mqsa", "sasrec-ted", "sasrec", "l-query")
"""The full model and those that are the full model with some flags fixed."""
NO_SETTING = RUN_FLAGS | {"dataset", "model", "seed"}
"""Flags that do not make a configuration another one."""
_ORDER = (*SOURCES, SYNTHETIC)


class Data(NamedTuple):
    """What identifies a data set."""

    name: str
    """A built-in name, or the path of a file without its folders."""
    fingerprint: str


class Configured:
    """What a run and a trial of a sweep have in common."""

    config: dict[str, Any]
    """Every flag."""
    differs: dict[str, Any]
    """Settings that are not the default of the data set and model."""
    fingerprint: str
    """Of the data."""

    @property
    def protocol(self) -> str:
        """Which items the test left out as seen."""
        return self.config["exclude_seen"]

    @property
    def data(self) -> Data:
        """The data set."""
        dataset = self.config["dataset"]
        known = dataset.lower() in dataset_names()
        return Data(dataset.lower() if known else Path(dataset).name, self.fingerprint)

    @property
    def model(self) -> str:
        """Key of `MODELS`."""
        return self.config["model"]

    @property
    def seed(self) -> int:
        """The seed of training."""
        return self.config["seed"]

    @property
    def settings(self) -> str:
        """The flags of `differs` as on a command line."""
        return as_flags(self.differs)

    def changes(self, other: "Configured") -> list[str]:
        """Settings in which two configurations differ."""
        names = (self.config.keys() | other.config.keys()) - NO_SETTING
        return sorted(n for n in names if self.config.get(n) != other.config.get(n))


@dataclasses.dataclass(frozen=True, eq=False)
class Run(Configured):
    """A test result of a run; a run that was tested under two protocols has two."""

    folder: Path
    result: str
    """`test`, or for example `test_none`: prefix of its files."""
    config: dict[str, Any]
    differs: dict[str, Any]
    fingerprint: str
    epochs: list[dict[str, Any]]
    """Lines of metrics.jsonl; none if the model is counted. `seconds` is None if unknown."""
    test: dict[str, Any]
    """Contents of the result file."""
    note: str
    """Contents of note.txt."""
    ablation: list[dict[str, Any]]
    """Rows of ablation.json, the unchanged model first; none if there is no such file."""

    @property
    def name(self) -> str:
        """Name of the folder, and the protocol if it is not that of the run."""
        own = self.protocol == self.config["exclude_seen"]
        return self.folder.absolute().name + ("" if own else f" ({self.protocol})")

    @property
    def protocol(self) -> str:
        """Which items the test left out as seen; eval.py may choose another than training did."""
        return self.test["exclude_seen"]

    @property
    def valid(self) -> float | None:
        """Validation NDCG@20 of the tested epoch, if the run has epochs."""
        best = [line for line in self.epochs if line["epoch"] == self.test["epoch"]]
        return best[0]["valid_NDCG@20"] if best else None


def model_title(model: str) -> str:
    """A model's name in tables and figures."""
    return MODELS[model].title if model in MODELS else model


def as_flags(values: dict[str, Any], *, with_files: bool = True) -> str:
    """Flags and values as on a command line; of flags that name files, perhaps the flag alone."""
    words = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if value is None:
            words.append(f"no --{flag}")
            continue
        if name in FILES:
            # The folder of a file of attributes says nothing to a reader.
            words.append(f"--{flag} {Path(value).name}" if with_files else f"--{flag}")
            continue
        switch = f"--{flag}" if value else f"--no-{flag}"
        words.append(switch if isinstance(value, bool) else f"--{flag} {value}")
    return " ".join(words)


def load_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """The test results of the runs in the folders of `folder`, or of `folder` itself.

    Returns:
      Results by data set, model, settings and seed; and a sentence for each folder or result that
      is left out.

    Raises:
      UserError: if there is no such folder, or a file of a run is broken.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the one that holds the runs")
    alone = (folder / "config.json").is_file()
    runs, left_out = [], []
    for path in [folder] if alone else sorted(p for p in folder.iterdir() if p.is_dir()):
        found = load_run(path) if (path / "config.json").is_file() else []
        runs += found
        if not found:
            held = "not finished, no test result yet" if (path / "config.json").is_file() else None
            left_out.append(f"`{path.name}`: {held or 'no run in this folder'}")
    runs.sort(key=_order)
    first: dict[tuple, Run] = {}
    for run in runs:
        key = run.data, run.model, run.settings, run.protocol, run.seed
        other = first.setdefault(key, run)
        if other is not run:
            left_out.append(f"`{run.name}`: same configuration and seed as `{other.name}`")
    return list(first.values()), left_out


def load_run(folder: Path) -> list[Run]:
    """The test results of one run. Raises UserError naming the file that is broken."""
    config = RunDirectory(folder).config().flat()
    runs = []
    for path in sorted(folder.glob("test*_metrics.json")):
        test = read_json(path)
        _require(path, test, (*METRICS, "epoch", "exclude_seen", "provenance", "versions"))
        _require(path, test, ("users", "items", "data_fingerprint"))
        note = folder / "note.txt"
        runs.append(
            Run(
                folder=folder,
                result=path.name.removesuffix("_metrics.json"),
                config=config,
                differs=differences(config),
                fingerprint=test["data_fingerprint"],
                epochs=_read_lines(folder / "metrics.jsonl"),
                test=test,
                note=note.read_text(encoding="utf-8").strip() if note.exists() else "",
                ablation=_read_ablation(folder / RECIPE_ABLATION),
            )
        )
    return runs


def differences(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a configuration that are not the default of its data set and model."""
    default = default_config(config["dataset"], config["model"]).flat()
    return {
        name: value
        for name, value in config.items()
        if name not in NO_SETTING and value != default[name]
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
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    try:
        epochs = [json.loads(line) for line in lines]
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON lines ({error}); restore it") from None
    for epoch in epochs:
        _require(path, epoch, ("epoch", "seconds", "valid_NDCG@20"))
    return epochs


def rank_in(names: Sequence[str], name: str) -> tuple[int, str]:
    """Sort key: the order of `names`, then other names alphabetically."""
    return (names.index(name) if name in names else len(names), name)


def _order(run: Run) -> tuple:
    data, model = rank_in(_ORDER, run.data.name), rank_in(tuple(MODELS), run.model)
    values = [
        (name, value if isinstance(value, int | float) else 0, str(value))
        for name, value in run.differs.items()
    ]
    other = run.protocol != run.config["exclude_seen"]
    return data, run.fingerprint, model, len(run.differs), values, other, run.protocol, run.seed


def by_data(runs: Iterable[Configured]) -> dict[Data, list[Any]]:
    """The runs, or trials, of each data set."""
    found: dict[Data, list[Any]] = {}
    for run in runs:
        found.setdefault(run.data, []).append(run)
    return found


def spread(values: Sequence[float], form: str = ".4f") -> str:
    """Mean ± standard deviation; a single value has none.

    >>> spread([0.1, 0.3]), spread([0.5])
    ('0.2000 ± 0.1414', '0.5000')
    """
    mean = f"{statistics.mean(values):{form}}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):{form}}"
