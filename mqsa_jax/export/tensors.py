"""A model as named tensors, in the form that the exported program and safetensors take.

item_vectors              [V, D] what a graph or attributes add is in them
encoder.NAME              parameters of the encoder
transition_term.NAME      of a model with a term: `log_weight` [K], and rows of M
matrix.NAME, prior        of a counted model: row, column and weight of the entries, and [V]
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from mqsa_jax.inference.loaded_run import CountedRun, TrainedRun
from mqsa_jax.inference.stored_model import TrainingCounts
from mqsa_jax.models.counted import CountedModel
from mqsa_jax.models.recommender import Params, Recommender
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.models.transition_term import Neighbours

Tensors = Mapping[str, Any]
"""Arrays by name: NumPy's, JAX's, or tracers."""
_TERM_FIELDS = tuple(field.name for field in dataclasses.fields(Neighbours))


def trained_tensors(run: TrainedRun) -> dict[str, np.ndarray]:
    """The tensors of a trained model."""
    params = dict(run.params)
    tensors: dict[str, Any] = {"item_vectors": run.item_vectors()}
    for part in ("item_embedding", "graph", "attribute_embedding", "trait_embedding"):
        params.pop(part, None)
    term = params.pop("transition_term", None)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        tensors[".".join(["encoder", *(key.key for key in path)])] = leaf
    if term is not None:
        tensors["transition_term.log_weight"] = term["log_weight"]
        for name in _TERM_FIELDS:
            tensors[f"transition_term.{name}"] = getattr(run.relations.neighbours, name)
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def counted_tensors(run: CountedRun) -> dict[str, np.ndarray]:
    """The tensors of a counted model, weights in float32."""
    model = run.model
    tensors = _sparse_tensors("matrix", model.matrix)
    if model.prior is not None:
        tensors["prior"] = model.prior.astype(np.float32)
    return tensors


def count_tensors(counts: TrainingCounts) -> dict[str, np.ndarray]:
    """The tensors of what occurred in training: `items` [V] and `transitions.NAME`."""
    return {"items": counts.items} | _sparse_tensors("transitions", counts.transitions)


def exported_recommender(recommender: Recommender) -> Recommender:
    """The model that reads `trained_tensors`: its item vectors are made already, and it knows no
    users."""
    sizes = {"num_attributes": 0, "num_traits": 0, "num_cold": 0, "id_dropout": 0.0}
    return dataclasses.replace(recommender, graph="unused", attribute_side="both", **sizes)


def params_of(tensors: Tensors) -> tuple[Params, ItemRelations | None]:
    """The parameters and relations that `exported_recommender` reads, of its tensors."""
    params: dict[str, Any] = {"item_embedding": tensors["item_vectors"]}
    for name, tensor in tensors.items():
        part, *path = name.split(".")
        if part == "encoder":
            inner = params
            for key in path[:-1]:
                inner = inner.setdefault(key, {})
            inner[path[-1]] = tensor
    if "transition_term.log_weight" not in tensors:
        return params, None
    params["transition_term"] = {"log_weight": tensors["transition_term.log_weight"]}
    rows = (jnp.asarray(tensors[f"transition_term.{name}"]) for name in _TERM_FIELDS)
    return params, ItemRelations(neighbours=Neighbours(*rows))


def counted_model_of(
    tensors: Tensors, num_items: int, decay: float, num_recent: int
) -> CountedModel:
    """The counted model of its tensors."""
    matrix = _sparse_of("matrix", tensors, num_items)
    return CountedModel(matrix, decay, num_recent, tensors.get("prior"))


def counts_of(tensors: Tensors) -> TrainingCounts:
    """What occurred in training, of its tensors."""
    items = tensors["items"]
    return TrainingCounts(items, _sparse_of("transitions", tensors, len(items)))


def _sparse_tensors(name: str, matrix: scipy.sparse.csr_array) -> dict[str, np.ndarray]:
    entries = matrix.tocoo()
    return {
        f"{name}.weight": entries.data.astype(np.float32),
        f"{name}.row": entries.row.astype(np.int32),
        f"{name}.item": entries.col.astype(np.int32),
    }


def _sparse_of(name: str, tensors: Tensors, num_items: int) -> scipy.sparse.csr_array:
    weight, row, item = (tensors[f"{name}.{part}"] for part in ("weight", "row", "item"))
    return scipy.sparse.csr_array((weight, (row, item)), shape=(num_items, num_items))
