"""Writes a model as an export: all of its files, and a folder that appears whole."""

import datetime
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from safetensors.numpy import save

from mqsa_jax.attribute_settings import FILES
from mqsa_jax.config import RUN_FLAGS, Config
from mqsa_jax.data.ids import Ids
from mqsa_jax.data.sources import dataset_names
from mqsa_jax.errors import UserError
from mqsa_jax.export.card import model_card
from mqsa_jax.export.compatibility import guarantee
from mqsa_jax.export.folder import (
    CARD,
    CONFIG,
    COUNTS,
    FORMAT,
    FORMAT_VERSION,
    INDEXES,
    MODEL,
    ONNX,
    PROGRAM,
    VOCABULARY,
    new_folder,
    write_checksums,
)
from mqsa_jax.export.item_index import write_index
from mqsa_jax.export.onnx_program import write_onnx
from mqsa_jax.export.program import CountedProgram, exported_program, stablehlo
from mqsa_jax.export.tensors import count_tensors, counted_tensors, trained_tensors
from mqsa_jax.inference.list_files import arrow_ids
from mqsa_jax.inference.loaded_run import CountedRun, TrainedRun
from mqsa_jax.models.registry import MODELS
from mqsa_jax.runs.files import read_json
from mqsa_jax.runs.provenance import versions
from mqsa_jax.runs.run_directory import RunDirectory


def export_run(
    run: TrainedRun | CountedRun,
    output: Path,
    *,
    onnx: bool = False,
    index: str | None = None,
    replace: bool = False,
) -> list[str]:
    """Writes an export of a run that was loaded from its folder.

    Args:
      run: the model.
      output: folder of the export, which is made.
      onnx: write the program as ONNX too.
      index: library of an approximate index to write, a key of `INDEXES`; None: none.
      replace: replace an export that is there.

    Returns:
      Names of the files.

    Raises:
      UserError: if the folder is taken, a library is missing, or the model has no such form.
    """
    if index is not None and isinstance(run, CountedRun):
        raise UserError(f"{run.config.model.model} is counted: it has no item vectors to index")
    _check_exportable(run)
    program = exported_program(run)
    tensors = counted_tensors(run) if isinstance(run, CountedRun) else trained_tensors(run)
    with new_folder(output, replace) as draft:
        (draft / MODEL).write_bytes(save(tensors))
        (draft / PROGRAM).write_bytes(stablehlo(program, tensors))
        _write_vocabulary(draft / VOCABULARY, run.item_ids)
        _write_counts(draft / COUNTS, run)
        facts: dict[str, Any] = {"outputs": program.outputs}
        if isinstance(program, CountedProgram):
            facts["counted"] = {"decay": program.decay, "num_recent": program.num_recent}
        if onnx:
            sizes = (run.num_items, run.config.model.max_len)
            facts["onnx"] = write_onnx(draft / ONNX, program, tensors, *sizes)
        if index is not None:
            facts["index"] = write_index(index, draft / INDEXES[index], tensors["item_vectors"])
        return _finish(draft, _description(run) | facts)


def _finish(draft: Path, stored: dict[str, Any]) -> list[str]:
    """Writes the description, the card and the checksums; returns the names of all files."""
    text = json.dumps(stored, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    (draft / CONFIG).write_bytes(text.encode())
    names = sorted(path.name for path in draft.iterdir())
    (draft / CARD).write_bytes(model_card(stored, names).encode())
    write_checksums(draft)
    return sorted(path.name for path in draft.iterdir())


def _check_exportable(run: TrainedRun | CountedRun) -> None:
    """Raises UserError if a model has two vectors for an item, of which an export has one."""
    if isinstance(run, TrainedRun) and run.recommender.num_attributes:
        side = run.recommender.attribute_side
        if side != "both":
            raise UserError(
                f"{run.folder}: items have two vectors (--attribute-side {side}), exports one; "
                "only a run with attributes on both sides can be exported"
            )


def _write_vocabulary(path: Path, item_ids: Ids) -> None:
    index = pa.array(np.arange(len(item_ids), dtype=np.int32))
    pa.parquet.write_table(pa.table({"index": index, "item_id": arrow_ids(item_ids)}), path)


def _write_counts(path: Path, run: TrainedRun | CountedRun) -> None:
    """Writes what occurred in training; warns if the run does not tell."""
    try:
        path.write_bytes(save(count_tensors(run.counts)))
    except UserError as error:
        warnings.warn(f"{error}: without popular items and reasons", UserWarning, stacklevel=2)


def _description(run: TrainedRun | CountedRun) -> dict[str, Any]:
    """What `config.json` says of any model: what it is, of which data, and how good."""
    run_dir, name = RunDirectory(run.folder), run.config.model.model
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "exported_on": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "model": name,
        "title": MODELS[name].title,
        "num_items": run.num_items,
        "dim": run.config.model.dim,
        "max_len": run.config.model.max_len,
        "epoch": run.epoch,
        "data": {"name": _data_name(run.config), "fingerprint": run.data_fingerprint},
        "metrics": _metrics(run_dir, run.epoch),
        "stablehlo": guarantee(),
        "versions": versions(),
        "config": _public_config(run.config),
    }


def _data_name(config: Config) -> str:
    """A data set's name, or that of its file or folder without the path."""
    return config.dataset if config.dataset in dataset_names() else Path(config.dataset).name


def _public_config(config: Config) -> dict[str, Any]:
    """What the model was trained with, without the paths of this machine and the run's flags."""
    stored = {name: value for name, value in config.stored().items() if name not in RUN_FLAGS}
    paths = {name: stored[name] for name in ("init_from", *FILES)}
    names = {name: None if path is None else Path(path).name for name, path in paths.items()}
    return {**stored, "dataset": _data_name(config), **names}


def _metrics(run_dir: RunDirectory, epoch: int) -> dict[str, Any]:
    """Validation metrics of the best epoch, and those of the test with its protocol, if any."""
    lines = [line for line in run_dir.history() if line["epoch"] == epoch]
    valid = {
        name.removeprefix("valid_"): value
        for line in lines
        for name, value in line.items()
        if name.startswith("valid_")
    }
    path, test = run_dir.path / "test_metrics.json", None
    if path.exists() and (stored := read_json(path))["epoch"] == epoch:
        test = {name: value for name, value in stored.items() if name != "provenance"}
    return {"valid": valid or None, "test": test}
