"""A run's folder: configuration, metrics, results. Files appear whole or not at all."""

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from mqsa_jax import hosts
from mqsa_jax.config import Config, ModelConfig
from mqsa_jax.data.ids import to_plain
from mqsa_jax.errors import DataError, FolderError, UserError
from mqsa_jax.runs.files import (
    ARRAY_ERRORS,
    differing_flags,
    is_empty,
    read_json,
    stored_config,
    write_atomically,
    write_json,
)
from mqsa_jax.runs.history import best_epoch

RECIPE_ABLATION = "ablation.json"
"""File of validation metrics without each part of a recipe."""


def _figures(result: dict[str, Any]) -> dict[str, Any]:
    """A result without where it comes from."""
    return {name: value for name, value in result.items() if name not in ("provenance", "versions")}


class RunDirectory:
    """Paths and small files of one run."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path).absolute()

    @classmethod
    def of(cls, config: Config) -> "RunDirectory":
        """`--run-dir`, or runs/DATASET-SEED; runs/DATASET-MODEL-SEED of another model."""
        model = "" if config.model.model == ModelConfig.model else f"{config.model.model}-"
        name = f"{Path(config.dataset).stem.lower()}-{model}{config.training.seed}"
        return cls(config.run.run_dir or Path("runs") / name)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def step_checkpoints(self) -> Path:
        """Folder of the checkpoints within the epoch under way."""
        return self.path / "step_checkpoints"

    @property
    def profile(self) -> Path:
        """Folder of the traces that `--profile` asks for."""
        return self.path / "profile"

    @property
    def events(self) -> Path:
        """Folder of the TensorBoard events."""
        return self.path / "tensorboard"

    @property
    def config_file(self) -> Path:
        """The configuration."""
        return self.path / "config.json"

    @property
    def history_file(self) -> Path:
        """The history, a line of JSON an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def _best_file(self) -> Path:
        return self.path / "best.json"

    def config(self) -> Config:
        """The configuration of the run that the folder holds."""
        return stored_config(self.config_file)

    def check_resumable(self, config: Config) -> bool:
        """Whether the folder holds a run to continue.

        Raises:
          FolderError: if it holds something else, or a run of another configuration.
          UserError: if its configuration is broken.
        """
        if is_empty(self.path):
            return False
        if not self.config_file.exists():
            raise FolderError(f"{self.path} is not empty and holds no run")
        differing = differing_flags(self.config(), config)
        if differing:
            changes = ", ".join(f"{name} {old} there, {new} here" for name, old, new in differing)
            raise FolderError(f"{self.path} holds a run of another configuration ({changes})")
        return True

    def check_data(self, fingerprint: str) -> None:
        """Raises DataError if the folder holds a run that began on other data."""
        if self.config_file.exists():
            values = read_json(self.config_file)
            if values.get("data_fingerprint", fingerprint) != fingerprint:
                raise DataError(f"{self.path} holds a run on other data (fingerprints differ)")

    def start(self, config: Config, fingerprint: str) -> None:
        """Makes the folder and writes the configuration, with the fingerprint of the data."""
        if hosts.is_first():
            self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.config_file, {**config.stored(), "data_fingerprint": fingerprint})

    def delete_run(self) -> None:
        """Deletes a run's files, and nothing that train.py did not write."""
        if not hosts.is_first():
            return
        if not self.config_file.exists():
            if not is_empty(self.path):
                raise FolderError(f"{self.path} is not empty and holds no run to delete")
            return
        for folder in (self.checkpoints, self.step_checkpoints, self.events, self.profile):
            shutil.rmtree(folder, ignore_errors=True)
        self.delete_results()
        for pattern in ("metrics.jsonl", "best.json", "*.tmp", "config.json"):
            for file in self.path.glob(pattern):
                file.unlink()

    def delete_results(self) -> None:
        """Deletes what evaluations wrote: more training makes it that of an old epoch."""
        if not hosts.is_first():
            return
        for pattern in ("*_metrics.json", "*.npz", RECIPE_ABLATION):
            for file in self.path.glob(pattern):
                file.unlink()

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Writes `metrics.jsonl`, a line an epoch."""
        lines = "".join(json.dumps(line, allow_nan=False) + "\n" for line in history)
        write_atomically(self.history_file, lines.encode())

    def history(self) -> list[dict[str, Any]]:
        """Lines of `metrics.jsonl`; none without the file. Raises UserError if it is broken."""
        if not self.history_file.exists():
            return []
        try:
            lines = [json.loads(line) for line in self.history_file.read_text().splitlines()]
            best_epoch(lines)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{self.history_file}: not the history of a run ({error!r}); restore it, or train "
                "again, which writes it anew"
            ) from None
        return lines

    def record_best(self, epoch: int, manifest: str, **chosen: float) -> None:
        """Writes `best.json`: the best epoch so far, its checkpoint's `manifest_digest`, and the
        `term_factor` where validation chose one."""
        write_json(self._best_file, {"epoch": epoch, "manifest": manifest, **chosen})

    def best_record(self) -> dict[str, Any]:
        """What `record_best` wrote; epoch 0 without the file. Raises UserError if it is broken."""
        if not self._best_file.exists():
            return {"epoch": 0, "manifest": ""}
        record = read_json(self._best_file)
        if not isinstance(record, dict) or not isinstance(record.get("epoch"), int):
            raise UserError(f"{self._best_file}: names no epoch; restore or delete it")
        return {"manifest": "", **record}

    def write_result(
        self, name: str, result: dict[str, Any], user_ids: np.ndarray, ranks: np.ndarray
    ) -> None:
        """Writes `NAME_metrics.json`, and the users' ranks under `NAME` in `ranks.npz`.

        Where the figures are there already, perhaps among more of the same model, the file stays as
        it is and keeps the provenance of those who found them first.
        """
        self._add_arrays("ranks.npz", {"user_ids": to_plain(user_ids), name: ranks})
        path = self.path / f"{name}_metrics.json"
        if not (path.exists() and _figures(result).items() <= _figures(read_json(path)).items()):
            write_json(path, result)

    def write_ablation(self, rows: list[dict[str, Any]]) -> None:
        """Writes `ablation.json`: what validation comes to without each of them."""
        write_json(self.path / RECIPE_ABLATION, rows)

    def write_arrays(self, file: str, arrays: dict[str, np.ndarray]) -> None:
        """Writes a file of arrays, in place of one that is there."""
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        write_atomically(self.path / file, content.getvalue())

    def _add_arrays(self, file: str, arrays: dict[str, np.ndarray]) -> None:
        """Adds arrays to those of a file, or replaces them; UserError if the file is damaged."""
        path, stored = self.path / file, {}
        if path.exists():
            try:
                # Opened here, since NumPy leaves open a file that it cannot read.
                with open(path, "rb") as content, np.load(content, allow_pickle=False) as before:
                    stored = dict(before)
            except ARRAY_ERRORS as error:
                raise UserError(
                    f"{path}: damaged ({error}); delete it, and run this again"
                ) from None
        self.write_arrays(file, stored | arrays)
