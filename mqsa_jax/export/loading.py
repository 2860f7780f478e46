"""Opens a run or an export as the same kind of object: lists, scores, vectors, reasons."""

import dataclasses
import functools
import io
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from safetensors import SafetensorError
from safetensors.numpy import load

from mqsa_jax.config import Config
from mqsa_jax.data.ids import STRING, Ids
from mqsa_jax.errors import UserError
from mqsa_jax.export.approximate_lists import IndexedRun
from mqsa_jax.export.folder import (
    CONFIG,
    COUNTS,
    INDEXES,
    MODEL,
    VOCABULARY,
    ExportFolder,
    is_export,
)
from mqsa_jax.export.item_index import read_index
from mqsa_jax.export.tensors import (
    counted_model_of,
    counts_of,
    exported_recommender,
    params_of,
)
from mqsa_jax.inference.loaded_run import CountedRun, TrainedRun, load_run
from mqsa_jax.inference.stored_model import TrainingCounts
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Recommender
from mqsa_jax.models.registry import MODELS


def load_model(
    path: str | os.PathLike[str], *, approximate: bool = False
) -> TrainedRun | CountedRun:
    """Loads the best epoch of a run, or an export of it; its data set is not needed.

    Args:
      path: folder of a run or of an export.
      approximate: whether lists come from the export's index of item vectors. Where `allow` or
        `deny` is given they are exact all the same.

    Raises:
      UserError: naming the file and what to do, if a file is damaged, missing or edited, the
        export is of another format version, or there is no index, or not its library.

    Example:
      model = mqsa_jax.load_model("exports/toys")
      model.recommend([[17, 230, 5]], k=10)
    """
    if not is_export(path):
        if approximate:
            raise UserError(f"{path}: no export, so that there is no index; export it with --index")
        return load_run(path)
    folder = ExportFolder(path)
    model = _load_export(folder)
    if not approximate:
        return model
    libraries = [library for library, file in INDEXES.items() if folder.holds(file)]
    if not libraries:
        raise UserError(f"{folder.path}: the export has no index; export the run with --index")
    parts = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    return IndexedRun(**parts, index=read_index(folder, libraries[0]))


def _load_export(folder: ExportFolder) -> TrainedRun | CountedRun:
    folder.check()
    stored = folder.read_json(CONFIG)
    try:
        config = Config.from_stored(stored["config"])
        config.validate()
    except UserError as error:
        raise UserError(f"{folder.path / CONFIG}: {error}") from None
    item_ids = _vocabulary(folder)
    tensors = _tensors(folder, MODEL)
    counts = functools.partial(_counts, folder)
    common = (config, stored["epoch"], item_ids, folder.path, stored["data"]["fingerprint"], counts)
    if MODELS[config.model.model].counted:
        _check_vocabulary(folder, len(item_ids), stored["num_items"])
        model = counted_model_of(tensors, len(item_ids), **stored["counted"])
        return CountedRun(*common, model)
    _check_vocabulary(folder, len(item_ids), len(tensors["item_vectors"]))
    recommender = exported_recommender(Recommender.of(config, len(item_ids)).in_float32())
    params, relations = params_of(jax.tree.map(jnp.asarray, tensors))
    return TrainedRun(*common, recommender, params, HParams.of(config), relations)


def _vocabulary(folder: ExportFolder) -> Ids:
    """[V] ids of the items, by index."""
    try:
        table = pa.parquet.read_table(io.BytesIO(folder.read(VOCABULARY)))
        index, item_id = table["index"].to_numpy(), table["item_id"]
    except (pa.ArrowInvalid, KeyError) as error:
        raise UserError(f"{folder.path / VOCABULARY}: not a vocabulary ({error})") from None
    if (index != np.arange(len(index))).any():
        raise UserError(f"{folder.path / VOCABULARY}: the indices are not 0 to V - 1 in order")
    if pa.types.is_integer(item_id.type):
        return item_id.to_numpy().astype(np.int64)
    return np.array(item_id.to_pylist(), STRING)


def _check_vocabulary(folder: ExportFolder, num_ids: int, num_items: int) -> None:
    if num_ids != num_items:
        raise UserError(
            f"{folder.path}: {VOCABULARY} has {num_ids} items, but {MODEL} has {num_items}; export "
            "the run again"
        )


def _tensors(folder: ExportFolder, name: str) -> dict[str, Any]:
    try:
        return load(folder.read(name))
    except SafetensorError as error:
        raise UserError(f"{folder.path / name}: not safetensors ({error})") from None


def _counts(folder: ExportFolder) -> TrainingCounts:
    return counts_of(_tensors(folder, COUNTS))
