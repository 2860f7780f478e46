"""Members of sweeps, read from the tables that mqsa-jax sweep wrote: what one flag changes."""

import csv
import dataclasses
import shlex
from pathlib import Path
from typing import Any

from mqsa_jax.config import Config, ModelConfig
from mqsa_jax.errors import UserError
from mqsa_jax.reporting.results import METRICS, Configured, differences
from mqsa_jax.training.grid import SCALARS


@dataclasses.dataclass(frozen=True, eq=False)
class SweptTrial(Configured):
    """A row of a sweep's table; as much of a run as sensitivity asks for."""

    config: dict[str, Any]
    """Every flag."""
    differs: dict[str, Any]
    """Settings that are not the default of the data set and model."""
    valid: float
    """Validation NDCG@20 of the epoch that was tested."""
    test: dict[str, float]
    commit: str


Sweep = list[SweptTrial]


def load_sweeps(folder: Path) -> list[Sweep]:
    """The sweeps in the folders of `folder`, without trials that diverged; none if there is none.

    Raises:
      UserError: if a table is broken.
    """
    sweeps = [_load(path) for path in sorted(folder.glob("*/results.csv"))]
    return [sweep for sweep in sweeps if sweep]


def _load(path: Path) -> Sweep:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [_trial(row) for row in csv.DictReader(file, strict=True) if not row["problem"]]
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: not a table of mqsa-jax sweep ({error!r}); restore or delete it"
        ) from None


def _trial(row: dict[str, str]) -> SweptTrial:
    general = Config().flat()
    # Flags that a result does not depend on have no column, nor have flags newer than the table.
    flags = {name: type(general[name])(row[name]) for name in general.keys() & row.keys()}
    config = {**general, **flags}
    return SweptTrial(
        config=config,
        differs=differences(config),
        valid=float(row["valid_NDCG@20"]),
        test={name: float(row[f"test_{name}"]) for name in METRICS},
        commit=row["commit"],
    )


def sweep_command(sweep: Sweep) -> str:
    """The command of a sweep, from what its trials have in common and what they vary."""
    first = sweep[0].config
    words = ["mqsa-jax", "sweep", "--dataset", str(first["dataset"])]
    if first["model"] != ModelConfig.model:
        words += ["--model", first["model"]]
    seeds = _values(sweep, "seed")
    words += ["--seeds" if "," in seeds else "--seed", seeds]
    for name, value in first.items():
        if name in SCALARS and len({trial.config[name] for trial in sweep}) > 1:
            words += [f"--{name.replace('_', '-')}", _values(sweep, name)]
        elif name in sweep[0].differs:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return f"`{shlex.join(words)}`"


def _values(sweep: Sweep, name: str) -> str:
    """All values of a flag, ascending, with commas."""
    return ",".join(str(value) for value in sorted({trial.config[name] for trial in sweep}))
