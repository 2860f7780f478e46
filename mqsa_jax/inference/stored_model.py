"""What a model reads beside its parameters, kept in the run's folder: no data set is needed then.

Item relations of graph models and of the transition term, and the matrices of counted models, come
from the training items. They are written once a run, as arrays; a zip file's own checksums tell a
damaged one.
"""

import dataclasses
import zipfile
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse

from mqsa_jax.data.histories import Histories
from mqsa_jax.errors import UserError
from mqsa_jax.layers.item_graph import ItemGraph
from mqsa_jax.models.counted import CountedModel
from mqsa_jax.models.recommender import Recommender
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.models.transition_term import Neighbours
from mqsa_jax.runs.run_directory import RunDirectory

RELATIONS = "relations.npz"
COUNTED = "counted_model.npz"
_PARTS = {"graph": ItemGraph, "neighbours": Neighbours}
"""Relations that scores depend on; the teacher's counts matter in training alone."""


def write_relations(run_dir: RunDirectory, relations: ItemRelations, histories: Histories) -> None:
    """Writes the relations that scores depend on; nothing for a model without any."""
    arrays = {
        f"{part}.{field.name}": np.asarray(getattr(value, field.name))
        for part in _PARTS
        if (value := getattr(relations, part)) is not None
        for field in dataclasses.fields(value)
    }
    if arrays:
        run_dir.write_arrays(RELATIONS, arrays | {"data_fingerprint": histories.fingerprint()})


def read_relations(
    run_dir: RunDirectory, recommender: Recommender, data_fingerprint: str
) -> ItemRelations | None:
    """The relations of a run; None if its model needs none.

    Raises:
      UserError: naming the file, if it is missing, damaged, or of other data.
    """
    needed = {
        "graph": recommender.graph not in ("unused", "regularised"),
        "neighbours": recommender.num_recent > 0,
    }
    if not any(needed.values()):
        return None
    arrays = _read(run_dir, RELATIONS)
    if str(arrays["data_fingerprint"]) != data_fingerprint:
        raise UserError(f"{run_dir.path / RELATIONS}: of other data than the checkpoint; evaluate")
    parts = {}
    for part, kind in _PARTS.items():
        if needed[part]:
            names = [field.name for field in dataclasses.fields(kind)]
            try:
                parts[part] = kind(*(jnp.asarray(arrays[f"{part}.{name}"]) for name in names))
            except KeyError as error:
                raise UserError(f"{run_dir.path / RELATIONS}: lacks {error}; restore it") from None
    return ItemRelations(**parts)


def write_counted_model(run_dir: RunDirectory, model: CountedModel, histories: Histories) -> None:
    """Writes a counted model and its vocabulary."""
    matrix = model.matrix
    arrays = {
        "item_ids": histories.item_ids,
        "data": matrix.data,
        "indices": matrix.indices,
        "indptr": matrix.indptr,
        "decay": np.float64(model.decay),
        "num_recent": np.int64(model.num_recent),
    }
    if model.prior is not None:
        arrays["prior"] = model.prior
    run_dir.write_arrays(COUNTED, arrays)


def read_counted_model(run_dir: RunDirectory) -> tuple[CountedModel, np.ndarray]:
    """A counted model, and int64 [V] ids of its items.

    Raises:
      UserError: naming the file, if it is missing or damaged.
    """
    arrays = _read(run_dir, COUNTED)
    item_ids = arrays["item_ids"]
    parts = (arrays["data"], arrays["indices"], arrays["indptr"])
    model = CountedModel(
        scipy.sparse.csr_array(parts, shape=(len(item_ids), len(item_ids))),
        float(arrays["decay"]),
        int(arrays["num_recent"]),
        arrays.get("prior"),
    )
    return model, item_ids


def _read(run_dir: RunDirectory, name: str) -> dict[str, Any]:
    path = run_dir.path / name
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file, and the model needs it; evaluate the run once on its data, "
            "which writes it"
        ) from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and evaluate") from None
