"""Trials of sweeps, read from the tables that mqsa-jax sweep wrote, and what one flag changes."""

import csv
import dataclasses
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mqsa_jax.attribute_settings import FILES
from mqsa_jax.config import Config, ModelConfig
from mqsa_jax.errors import UserError
from mqsa_jax.grid import VARYING
from mqsa_jax.older_runs import WITHOUT_FLAG
from mqsa_jax.reporting.configurations import Group
from mqsa_jax.reporting.results import (
    ABLATION,
    FULL_MODEL,
    METRICS,
    NO_SETTING,
    Configured,
    Run,
    as_flags,
    differences,
)


@dataclasses.dataclass(frozen=True, eq=False)
class SweptTrial(Configured):
    """A row of a sweep's table."""

    config: dict[str, Any]
    differs: dict[str, Any]
    fingerprint: str
    valid: float | None
    """Validation NDCG@20 of the tested epoch; None if the trial diverged."""
    test: dict[str, float]
    """Test metrics; empty if the trial diverged."""
    commit: str
    problem: str
    """Why the trial has no metrics; empty if it has."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep's table."""

    name: str
    """Of its folder."""
    trials: list[SweptTrial]

    @property
    def varied(self) -> list[str]:
        """Flags other than the seed in which trials differ."""
        names = [name for name in VARYING if name != "seed"]
        return [name for name in names if len({t.config[name] for t in self.trials}) > 1]

    def values(self, name: str) -> str:
        """All values of a flag, ascending, with commas."""
        return ",".join(str(value) for value in sorted({t.config[name] for t in self.trials}))

    @property
    def command(self) -> str:
        """The command, from what the trials have in common and what they vary."""
        first = self.trials[0]
        words = ["mqsa-jax", "sweep", "--dataset", str(first.config["dataset"])]
        if first.model != ModelConfig.model:
            words += ["--model", first.model]
        seeds = self.values("seed")
        words += ["--seeds" if "," in seeds else "--seed", seeds]
        for name in first.config:
            if name in self.varied:
                words += [f"--{name.replace('_', '-')}", self.values(name)]
            elif name in first.differs:
                words += as_flags({name: first.config[name]}).split(" ", 1)
        return f"`{shlex.join(words)}`"


def load_sweeps(folder: Path) -> list[Sweep]:
    """The sweeps in the folders of `folder`; none if there is no such folder.

    Raises:
      UserError: if a table is broken.
    """
    sweeps = [_load(path) for path in sorted(folder.glob("*/results.csv"))]
    return [sweep for sweep in sweeps if sweep.trials]


def _load(path: Path) -> Sweep:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            trials = [_trial(row) for row in csv.DictReader(file, strict=True)]
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: not a table of mqsa-jax sweep ({error!r}); restore or delete it"
        ) from None
    return Sweep(path.parent.name, trials)


def _trial(row: dict[str, str]) -> SweptTrial:
    general = Config().flat()
    # Flags without influence on results have no column, and flags newer than the table have none.
    flags = {name: _value(row[name], general[name]) for name in general.keys() & row.keys()}
    config = {**general, **WITHOUT_FLAG, **flags}
    failed = bool(row["problem"])
    return SweptTrial(
        config=config,
        differs=differences(config),
        fingerprint=row["data_fingerprint"],
        valid=None if failed else float(row["valid_NDCG@20"]),
        test={} if failed else {name: float(row[f"test_{name}"]) for name in METRICS},
        commit=row["commit"],
        problem=row["problem"],
    )


def _value(text: str, default: Any) -> Any:
    """The value of a cell, of the type of the flag's default."""
    if isinstance(default, bool):
        return {"True": True, "False": False}[text]
    return type(default)(text)


@dataclasses.dataclass(frozen=True, eq=False)
class Sensitivity:
    """What one flag at a time changes, all others being those of one configuration."""

    model: str
    values: dict[str, dict[Any, list[Run | SweptTrial]]]
    """For each varied flag: its values, ascending, each with its runs."""


def sensitivities(groups: Sequence[Group], trials: Iterable[SweptTrial]) -> list[Sensitivity]:
    """For each model of a data set what one flag changes.

    The base is the model's first configuration in the tables; without a run of the model, the
    configuration from which most trials differ in one flag. Models that are the full one with a
    flag fixed give values of that flag.
    """
    entries: list[Run | SweptTrial] = [run for group in groups for run in group.runs]
    known = len(entries)
    entries += [trial for trial in trials if not trial.problem]
    found = []
    for model in dict.fromkeys(entry.model for entry in entries):
        kin = ABLATION if model == FULL_MODEL else (model,)
        alike = [entry for entry in entries if entry.model in kin]
        own = [entry for entry in alike if entry.model == model]
        base = own[0] if own[0] in entries[:known] else max(own, key=lambda e: _ways(e, own))
        values = _one_flag_apart(base, [e for e in alike if e.protocol == base.protocol])
        if values:
            found.append(Sensitivity(model, values))
    return found


def _ways(base: Configured, entries: Sequence[Configured]) -> int:
    return sum(len(base.changes(entry)) == 1 for entry in entries)


def _one_flag_apart(
    base: Run | SweptTrial, entries: Sequence[Run | SweptTrial]
) -> dict[str, dict[Any, list[Run | SweptTrial]]]:
    """For each flag in which a configuration alone differs from the base: its values' runs."""
    same, found = [], {}
    for entry in entries:
        changed = base.changes(entry)
        if not changed:
            _add(same, entry)
        elif len(changed) == 1:
            values = found.setdefault(changed[0], {base.config[changed[0]]: same})
            _add(values.setdefault(entry.config[changed[0]], []), entry)
    # A file has no place on an axis; the tables of results have runs with it and without.
    order = [name for name in base.config if name not in (*NO_SETTING, *FILES)]
    return {
        flag: dict(sorted(found[flag].items(), key=_first_none)) for flag in order if flag in found
    }


def _first_none(item: tuple[Any, Any]) -> tuple[bool, Any]:
    """Where a flag may be left out, that comes first."""
    return item[0] is not None, item[0]


def _add(runs: list[Run | SweptTrial], run: Run | SweptTrial) -> None:
    """Adds a run unless its seed is there: a sweep's trial has the result of the separate run."""
    if all(run.seed != other.seed for other in runs):
        runs.append(run)
