"""What a model reads beside its parameters, kept in the run's folder: no data set is needed then.

Item relations of graph models and of the transition term, and the matrices of counted models, come
from the training items. They are written as arrays, with what they were made of; a zip file's own
checksums tell a damaged one.
"""

import contextlib
import dataclasses
import json
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse

from mqsa_jax.config import Config
from mqsa_jax.data import splits
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.ids import from_stored, to_stored
from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.devices import fetch
from mqsa_jax.errors import UserError
from mqsa_jax.layers.item_graph import ItemGraph
from mqsa_jax.models.counted import CountedModel
from mqsa_jax.models.placement import cut
from mqsa_jax.models.recommender import Recommender
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.models.transition_term import Neighbours
from mqsa_jax.runs.files import ARRAY_ERRORS, differing_flags, read_json
from mqsa_jax.runs.run_directory import RunDirectory

RELATIONS = "relations.npz"
COUNTED = "counted_model.npz"
COUNTS = "training_counts.npz"
_PARTS = {"graph": ItemGraph, "neighbours": Neighbours}
"""Relations that scores depend on; the teacher's counts matter in training alone. Attributes have a
file of their own (`stored_attributes.py`)."""


def write_relations(run_dir: RunDirectory, relations: ItemRelations, histories: Dataset) -> None:
    """Writes the relations that scores depend on; nothing for a model without any."""
    relations = cut(fetch(relations), histories.num_items)
    arrays = {
        f"{part}.{field.name}": getattr(value, field.name)
        for part in _PARTS
        if (value := getattr(relations, part)) is not None
        for field in dataclasses.fields(value)
    }
    if arrays:
        run_dir.write_arrays(
            RELATIONS, arrays | {"data_fingerprint": np.array(histories.inputs_fingerprint())}
        )


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingCounts:
    """How often items, and item after item, occur in training."""

    items: np.ndarray
    """[V] int64."""
    transitions: scipy.sparse.csr_array
    """[V, V] what the teacher of the distillation loss learns from."""


def write_counts(
    run_dir: RunDirectory, counts: TransitionCounts, histories: Dataset, max_len: int
) -> None:
    """Writes the `TrainingCounts` of a run, unless they are there.

    Args:
      run_dir: the run's folder.
      counts: what the teacher learns from.
      histories: all data.
      max_len: items of a history that training reads.
    """
    fingerprint = histories.inputs_fingerprint()
    with contextlib.suppress(UserError):
        stored = read_arrays(run_dir, COUNTS, ["data_fingerprint"])
        if str(stored["data_fingerprint"]) == fingerprint:
            return
    matrix = counts.to_scipy()
    run_dir.write_arrays(
        COUNTS,
        {
            "data_fingerprint": np.array(fingerprint),
            "items": splits.item_counts(histories, max_len),
            "count": matrix.data,
            "successor": matrix.indices,
            "row_start": matrix.indptr,
        },
    )


def read_counts(run_dir: RunDirectory, num_items: int) -> TrainingCounts:
    """The counts of a run of V = `num_items`.

    Raises:
      UserError: naming the file, if it is missing, damaged, or of other data.
    """
    arrays = read_arrays(
        run_dir, COUNTS, ["data_fingerprint", "items", "count", "successor", "row_start"]
    )
    stored = str(arrays["data_fingerprint"])
    expected = read_json(run_dir.config_file).get("data_fingerprint", stored)
    if len(arrays["items"]) != num_items or stored != expected:
        raise UserError(
            f"{run_dir.path / COUNTS}: made of other data than the run; evaluate the run on its "
            "own data, which writes it anew"
        )
    parts = (arrays["count"], arrays["successor"], arrays["row_start"])
    shape = (num_items, num_items)
    return TrainingCounts(arrays["items"], scipy.sparse.csr_array(parts, shape=shape))


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
    fields = {
        part: [f"{part}.{field.name}" for field in dataclasses.fields(kind)]
        for part, kind in _PARTS.items()
        if needed[part]
    }
    names = [name for part_names in fields.values() for name in part_names]
    arrays = read_arrays(run_dir, RELATIONS, ["data_fingerprint", *names])
    if str(arrays["data_fingerprint"]) != data_fingerprint:
        raise UserError(
            f"{run_dir.path / RELATIONS}: made of other data than the checkpoint; evaluate the run "
            "on its own data, which writes it anew"
        )
    return ItemRelations(
        **{
            part: _PARTS[part](*(jnp.asarray(arrays[name]) for name in part_names))
            for part, part_names in fields.items()
        }
    )


def write_counted_model(
    run_dir: RunDirectory, config: Config, model: CountedModel, histories: Dataset
) -> None:
    """Writes a counted model, its configuration and its vocabulary.

    Raises:
      UserError: if the folder holds such a model of another configuration.
    """
    path, matrix = run_dir.path / COUNTED, model.matrix
    if path.exists():
        _check_config(run_dir, config, read_arrays(run_dir, COUNTED, ["config"]))
    arrays = {
        "config": np.array(json.dumps(config.stored())),
        "item_ids": to_stored(histories.item_ids),
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
    """A counted model, and [V] ids of its items.

    Raises:
      UserError: naming the file, if it is missing, damaged, or of another configuration than the
        run's.
    """
    names = ["config", "item_ids", "data", "indices", "indptr", "decay", "num_recent"]
    arrays = read_arrays(run_dir, COUNTED, names)
    _check_config(run_dir, run_dir.config(), arrays)
    item_ids = from_stored(arrays["item_ids"])
    parts = (arrays["data"], arrays["indices"], arrays["indptr"])
    model = CountedModel(
        scipy.sparse.csr_array(parts, shape=(len(item_ids), len(item_ids))),
        float(arrays["decay"]),
        int(arrays["num_recent"]),
        arrays.get("prior"),
    )
    return model, item_ids


def _check_config(run_dir: RunDirectory, config: Config, arrays: dict[str, Any]) -> None:
    """Raises UserError if a counted model was made by another configuration."""
    counted = Config.from_stored(json.loads(str(arrays["config"])))
    differing = differing_flags(config, counted)
    if differing:
        changes = ", ".join(
            f"{name} {here}, counted with {there}" for name, here, there in differing
        )
        raise UserError(
            f"{run_dir.config_file}: not the configuration of {run_dir.path / COUNTED} "
            f"({changes}); put the former values back"
        )


def read_arrays(run_dir: RunDirectory, file: str, names: list[str]) -> dict[str, Any]:
    """The arrays of a run's file.

    Raises:
      UserError: naming it, if it is missing or damaged or lacks a name.
    """
    path = run_dir.path / file
    try:
        # Opened here, since NumPy leaves open a file that it cannot read.
        with open(path, "rb") as content, np.load(content, allow_pickle=False) as stored:
            arrays = dict(stored)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file, and it is needed; evaluate the run once on its data, which "
            "writes it"
        ) from None
    except ARRAY_ERRORS as error:
        raise UserError(
            f"{path}: damaged ({error}); delete it and evaluate the run, which writes it anew"
        ) from None
    missing = [name for name in names if name not in arrays]
    if missing:
        raise UserError(
            f"{path}: lacks {', '.join(missing)}; delete it and evaluate the run, which writes it "
            "anew"
        )
    return arrays
