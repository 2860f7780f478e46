"""A sweep's folder: the base configuration, one table of results, and the group in training."""

import csv
import io
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mqsa_jax.config import RUN_FLAGS, Config, ModelConfig
from mqsa_jax.errors import DataError, FolderError, UserError
from mqsa_jax.grid import VARYING, identity
from mqsa_jax.runs.files import (
    differing_flags,
    is_empty,
    read_json,
    stored_config,
    write_atomically,
    write_json,
)

_NOT_BASE = RUN_FLAGS | set(VARYING)
"""Flags that do not belong to what all trials share."""


class SweepDirectory:
    """Paths and small files of one sweep."""

    def __init__(self, path: str | Path):
        self.path = Path(path).absolute()

    @classmethod
    def of(cls, config: Config, path: str | None) -> "SweepDirectory":
        """`path`, or sweeps/DATASET; sweeps/DATASET-MODEL of another model than the first."""
        model = "" if config.model.model == ModelConfig.model else f"-{config.model.model}"
        return cls(path or Path("sweeps") / (Path(config.dataset).stem.lower() + model))

    @property
    def results(self) -> Path:
        """The table, a row a trial."""
        return self.path / "results.csv"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints of the group that trains."""
        return self.path / "checkpoints"

    @property
    def _base(self) -> Path:
        return self.path / "sweep.json"

    def check_resumable(self, config: Config) -> None:
        """Raises FolderError if the folder holds another sweep, or anything else."""
        if is_empty(self.path):
            return
        if not self._base.exists():
            raise FolderError(f"{self.path} is not empty and holds no sweep")
        there = stored_config(self._base)
        changes = [
            f"{name} {old} there, {new} here"
            for name, old, new in differing_flags(there, config, _NOT_BASE)
        ]
        if changes:
            raise FolderError(
                f"{self.path} holds a sweep of another base configuration ({', '.join(changes)})"
            )

    def start(self, config: Config, fingerprint: str) -> None:
        """Makes the folder and writes the base; raises DataError if the data are others."""
        if self._base.exists():
            if read_json(self._base).get("data_fingerprint") != fingerprint:
                raise DataError(f"{self.path} holds a sweep on other data (fingerprints differ)")
            return
        self.path.mkdir(parents=True, exist_ok=True)
        base = {name: value for name, value in config.stored().items() if name not in _NOT_BASE}
        write_json(self._base, {**base, "data_fingerprint": fingerprint})

    def delete(self) -> None:
        """Deletes a sweep's files, and nothing that mqsa-jax sweep did not write."""
        if not self._base.exists():
            if not is_empty(self.path):
                raise FolderError(f"{self.path} is not empty and holds no sweep to delete")
            return
        self.delete_checkpoints()
        for pattern in ("results.csv", "*.tmp", "sweep.json"):
            for file in self.path.glob(pattern):
                file.unlink()

    def delete_checkpoints(self) -> None:
        """Deletes those of the group."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _rows(self) -> list[dict[str, str]]:
        if not self.results.exists():
            return []
        try:
            with open(self.results, newline="", encoding="utf-8") as file:
                return list(csv.DictReader(file, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{self.results}: {error}; restore or delete it") from None

    def done(self) -> set[tuple[float, ...]]:
        """`identity` of the trials that have a row. Raises UserError if a row is not ours."""
        try:
            return {identity(row) for row in self._rows()}
        except (KeyError, TypeError, ValueError):
            raise UserError(
                f"{self.results}: not a table of mqsa-jax sweep; restore or delete it"
            ) from None

    def pending(self, configs: Iterable[Config]) -> list[Config]:
        """The configurations without a row."""
        done = self.done()
        return [config for config in configs if identity(config.flat()) not in done]

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Appends rows to the table, all or none."""
        table = [*self._rows(), *rows]
        content = io.StringIO(newline="")
        writer = csv.DictWriter(content, list(dict.fromkeys(name for row in table for name in row)))
        writer.writeheader()
        writer.writerows(table)
        write_atomically(self.results, content.getvalue().encode())


def flags(config: Config) -> dict[str, Any]:
    """The flags that a result depends on, but for those without a value, which a table cannot hold.

    Trials of a sweep start from nothing, so that `init_from` has none.
    """
    return {
        name: value
        for name, value in config.flat().items()
        if name not in RUN_FLAGS and value is not None
    }
