"""A run's folder: configuration, metrics, results. Files appear whole or not at all."""

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from mqsa_jax.config import Config, ModelConfig
from mqsa_jax.data.histories import Histories
from mqsa_jax.errors import UserError
from mqsa_jax.models.registry import check_model_settings

RECIPE_ABLATION = "ablation.json"
"""Validation metrics without each ingredient of a recipe."""
MAY_CHANGE = {"epochs", "patience", "data_dir", "run_dir", "resume"}
"""Flags in which a resumed run may differ from the one before: none changes an epoch's result."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file, so that a reader or a crash sees the old content or the new."""
    draft = path.with_name(path.name + ".tmp")
    with open(draft, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def write_json(path: Path, value: Any) -> None:
    """Writes readable JSON; raises ValueError at NaN."""
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads JSON; raises UserError naming the file if it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is this a run directory of train.py?") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); restore or delete it") from None


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
    def events(self) -> Path:
        """Folder of the TensorBoard events."""
        return self.path / "tensorboard"

    @property
    def _config(self) -> Path:
        return self.path / "config.json"

    def config(self) -> Config:
        """The configuration of the run that the folder holds."""
        values = read_json(self._config)
        if not isinstance(values, dict):
            raise UserError(f"{self._config}: not a configuration; restore or delete it")
        config = Config.from_flat(values)
        config.validate()
        check_model_settings(config)
        return config

    def check_resumable(self, config: Config) -> bool:
        """Whether the folder holds a run to continue.

        Raises:
          UserError: if it holds something else, or a run of another configuration.
        """
        if not self.path.exists() or not any(self.path.iterdir()):
            return False
        if not self._config.exists():
            raise UserError(f"{self.path} is not empty and holds no run; choose another --run-dir")
        old, new = self.config().flat(), config.flat()
        differing = [name for name in new if old[name] != new[name] and name not in MAY_CHANGE]
        if differing:
            changes = ", ".join(f"{name} {old[name]} there, {new[name]} here" for name in differing)
            raise UserError(
                f"{self.path} holds a run of another configuration ({changes}); "
                "choose another --run-dir, or --no-resume to delete that run"
            )
        return True

    def start(self, config: Config) -> None:
        """Makes the folder and writes the configuration."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self._config, config.flat())

    def delete_run(self) -> None:
        """Deletes a run's files, and nothing that train.py did not write."""
        if not self._config.exists():
            if self.path.exists() and any(self.path.iterdir()):
                raise UserError(f"{self.path} holds no run to delete; choose another --run-dir")
            return
        for folder in (self.checkpoints, self.events):
            shutil.rmtree(folder, ignore_errors=True)
        self.delete_results()
        for pattern in ("metrics.jsonl", "*.tmp", "config.json"):
            for file in self.path.glob(pattern):
                file.unlink()

    def delete_results(self) -> None:
        """Deletes what evaluations wrote: more training makes it that of an old epoch."""
        for pattern in ("*_metrics.json", "*.npz", RECIPE_ABLATION):
            for file in self.path.glob(pattern):
                file.unlink()

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Writes `metrics.jsonl`, a line an epoch."""
        lines = "".join(json.dumps(line, allow_nan=False) + "\n" for line in history)
        write_atomically(self.path / "metrics.jsonl", lines.encode())

    def write_result(
        self, name: str, result: dict[str, Any], user_ids: np.ndarray, ranks: np.ndarray
    ) -> None:
        """Writes `NAME_metrics.json`, and the users' ranks under `NAME` in `ranks.npz`.

        Where the figures are there already, they keep the provenance of those who found them first.
        """
        self._add_arrays("ranks.npz", {"user_ids": user_ids, name: ranks})
        path = self.path / f"{name}_metrics.json"
        if not (path.exists() and _figures(read_json(path)) == _figures(result)):
            write_json(path, result)

    def write_recommendations(self, name: str, histories: Histories, top_UK: np.ndarray) -> None:
        """Writes users' best items, as places in `item_ids`, into `recommendations.npz`.

        They stand under `NAME_topK`; -1 where a model that is counted knows no more items.
        """
        arrays = {"user_ids": histories.user_ids, "item_ids": histories.item_ids}
        arrays[f"{name}_top{top_UK.shape[1]}"] = top_UK
        self._add_arrays("recommendations.npz", arrays)

    def write_ablation(self, rows: list[dict[str, Any]]) -> None:
        """Writes `ablation.json`: what validation comes to without each of them."""
        write_json(self.path / RECIPE_ABLATION, rows)

    def _add_arrays(self, file: str, arrays: dict[str, np.ndarray]) -> None:
        """Adds arrays to those of a file, or replaces them."""
        path, stored = self.path / file, {}
        if path.exists():
            with np.load(path, allow_pickle=False) as before:
                stored = dict(before)
        content = io.BytesIO()
        np.savez_compressed(content, **(stored | arrays))
        write_atomically(path, content.getvalue())
