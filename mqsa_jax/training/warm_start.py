"""Training that starts from the parameters of another run, on data that may have other items.

Item vectors are carried over by the items' ids in the data. An item that the other run did not know
gets the mean of its neighbours' vectors, or is initialised as usual where it has none:

    e_i = mean of e_j over distinct items j, carried over, that directly follow or precede i in the
          training items

Shape legend: V items of the data, W items of the other run.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.sparse
from jaxtyping import Float

from mqsa_jax.config import Config
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.ids import Ids, Lookup, is_text
from mqsa_jax.data.transitions import training_transitions
from mqsa_jax.devices import fetch
from mqsa_jax.errors import UserError
from mqsa_jax.inference.stored_attributes import read_attributes
from mqsa_jax.models.placement import ITEM_TABLE, cut
from mqsa_jax.models.recommender import Params
from mqsa_jax.models.registry import MODELS
from mqsa_jax.runs.best_checkpoint import best_checkpoint
from mqsa_jax.runs.run_directory import RunDirectory

SHAPING = ("model", "dim", "max_len", "num_blocks", "num_heads", "term_items")
"""Settings in which the two runs must agree: they decide what the parameters are."""


@dataclasses.dataclass(frozen=True)
class ItemOrigins:
    """How many items got their vectors from where."""

    carried_over: int
    """Items that the other run knew."""
    from_neighbours: int
    """New items that got the mean of their neighbours' vectors."""
    from_nothing: int
    """New items without such a neighbour, initialised as usual."""
    gone: int
    """Items of the other run that the data do not have."""


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """The best epoch of another run."""

    path: Path
    """Folder of the run."""
    epoch: int
    config: Config
    """As it was trained."""
    item_ids: Ids
    """int64 or strings [W], ascending."""
    params: Mapping[str, Any]
    """What it evaluates: the average over steps, where there is one. The transition term has its
    trained weights, without the factor that validation chose."""
    names: Mapping[str, tuple[str, ...]]
    """Of the rows of `attribute_embedding` and `trait_embedding`, where there are such."""


def read_source(path: str | Path) -> Source:
    """The best epoch of a run.

    Raises:
      UserError: naming the file and what to do, if the folder holds no run or a file of it is
        damaged or missing; or if its model is counted.
    """
    run_dir = RunDirectory(path)
    config = run_dir.config()
    if MODELS[config.model.model].counted:
        raise UserError(
            f"{run_dir.path}: its model, {config.model.model}, is counted and has no parameters to "
            "start from; name a run that was trained"
        )
    best = best_checkpoint(run_dir)
    state = best.restore_plain()
    params = state["params"] if state.get("ema_params") is None else state["ema_params"]
    stored = read_attributes(run_dir, best.config.attributes, best.data_fingerprint)
    names = {"attribute_embedding": stored.attribute_names, "trait_embedding": stored.trait_names}
    params = jax.tree.map(np.asarray, dict(params))
    # Items that no history held have no vectors of their own.
    num_trained = len(best.item_ids) - stored.num_cold
    params[ITEM_TABLE] = params[ITEM_TABLE][:num_trained]
    item_ids = best.item_ids[:num_trained]
    return Source(run_dir.path, best.epoch, best.config, item_ids, params, names)


def check_source(source: Source, config: Config, item_ids: Ids) -> None:
    """Refuses a run whose parameters have no place in a new one.

    Args:
      source: the run to start from.
      config: of the new run.
      item_ids: int64 or strings [V] of its data.

    Raises:
      UserError: naming the settings that differ, or if the ids of the items are of another kind, or
        if no item is common to both.
    """
    there, here = source.config.flat(), config.flat()
    differing = [
        f"{name} {there[name]} there, {here[name]} here"
        for name in SHAPING
        if there[name] != here[name]
    ]
    if source.config.attributes.describes_items:
        if not config.attributes.describes_items:
            differing.append("item_attributes there, none here")
        elif there["attribute_side"] != here["attribute_side"]:
            sides = there["attribute_side"], here["attribute_side"]
            differing.append("attribute_side {} there, {} here".format(*sides))
    if differing:
        raise UserError(
            f"{source.path}: its parameters do not fit ({', '.join(differing)}); give the same "
            "settings, or start from another run"
        )
    if is_text(source.item_ids) != is_text(item_ids):
        kinds = ["strings" if is_text(ids) else "integers" for ids in (source.item_ids, item_ids)]
        raise UserError(
            f"{source.path}: ids of items are {kinds[0]} there, but {kinds[1]} in the data; "
            "prepare the data in the same way"
        )
    if not np.isin(item_ids, source.item_ids).any():
        raise UserError(
            f"{source.path}: none of its {len(source.item_ids)} items is in the data; name a run "
            "on an earlier state of the same data"
        )


def item_embedding(
    old_WD: Float[np.ndarray, "W D"],
    old_ids: Ids,
    new_ids: Ids,
    transitions_VV: scipy.sparse.csr_array,
    initial_VD: Float[np.ndarray, "V D"],
) -> tuple[Float[np.ndarray, "V D"], ItemOrigins]:
    """The vectors from which a new run starts.

    Args:
      old_WD: [W, D] vectors of the other run.
      old_ids: [W] ids of its items, ascending.
      new_ids: [V] ids of the items of the data, of the same kind.
      transitions_VV: [V, V] sparse; an entry i, j that is not 0 makes i and j neighbours.
      initial_VD: [V, D] vectors for items that get no other.

    Returns:
      [V, D] vectors in the dtype of `initial_VD`, and where they are from.

    Raises:
      ValueError: if the arrays do not agree in their shapes.
    """
    expected = (len(new_ids), old_WD.shape[1])
    if len(old_WD) != len(old_ids) or initial_VD.shape != expected:
        raise ValueError(
            f"{len(old_ids)} ids for vectors of {old_WD.shape}; initial vectors must have the "
            f"shape {expected}, got {initial_VD.shape}"
        )
    index_V = Lookup(old_ids).indices(new_ids)
    known_V = index_V >= 0
    vector_VD = np.where(known_V[:, None], old_WD[index_V], initial_VD)
    either_way_VV = scipy.sparse.csr_array((transitions_VV + transitions_VV.T) != 0)
    near = either_way_VV[~known_V][:, known_V].astype(np.float64)
    degree_N = near.sum(1)
    total_ND = near @ vector_VD[known_V].astype(np.float64)
    new_N = np.flatnonzero(~known_V)
    reached_N = degree_N > 0
    vector_VD[new_N[reached_N]] = total_ND[reached_N] / degree_N[reached_N, None]
    carried = int(known_V.sum())
    reached = int(reached_N.sum())
    origins = ItemOrigins(carried, reached, len(new_N) - reached, len(old_ids) - carried)
    return vector_VD.astype(initial_VD.dtype), origins


def _rows_by_name(
    source: Source, part: str, names: Sequence[str], initial_AD: np.ndarray
) -> np.ndarray:
    """[A, D] vectors of attributes by their names; of those that are new, the initial ones."""
    rows_AD, old_AD = initial_AD.copy(), source.params.get(part)
    index_of = {name: index for index, name in enumerate(source.names[part])}
    for row, name in enumerate(names):
        if name in index_of:
            rows_AD[row] = old_AD[index_of[name]]
    return rows_AD


def warm_params(
    source: Source, initial: Params, config: Config, histories: Dataset
) -> tuple[dict[str, Any], ItemOrigins]:
    """Parameters of a new run, on the host, and where its items' vectors are from.

    All but the vectors of items, attributes and traits are copied; attributes and traits are known
    by their names, and new ones are initialised as usual. The weights of a transition term that is
    not trained are settings, so they are those of the new run.

    Args:
      source: the run to start from.
      initial: what the new run would start from without it.
      config: of the new run.
      histories: its data.

    Raises:
      UserError: as `check_source`; or if arrays are of other shapes than the settings say.
    """
    check_source(source, config, histories.item_ids)
    transitions = training_transitions(histories, config.model.max_len).to_scipy()
    initial = cut(fetch(dict(initial)), histories.num_items)
    params = dict(source.params)
    params["item_embedding"], origins = item_embedding(
        params["item_embedding"],
        source.item_ids,
        histories.item_ids,
        transitions,
        initial["item_embedding"],
    )
    for part, lists in (
        ("attribute_embedding", histories.attributes),
        ("trait_embedding", histories.traits),
    ):
        params.pop(part, None)
        if lists is not None:
            params[part] = _rows_by_name(source, part, lists.names, initial[part])
    if config.term.term_items and config.term.term_dropout == 1:
        params["transition_term"] = initial["transition_term"]
    shapes = [jax.tree.map(np.shape, tree) for tree in (params, initial)]
    if shapes[0] != shapes[1]:
        raise UserError(f"{source.path}: parameters of other shapes than its settings say")
    return params, origins


def describe(source: Source, origins: ItemOrigins) -> str:
    """A line that says what a run starts from."""
    return (
        f"Starting from {source.path}, epoch {source.epoch}: {origins.carried_over} items carried "
        f"over, {origins.from_neighbours} new from their neighbours, {origins.from_nothing} new "
        f"from nothing; {origins.gone} items of that run are gone"
    )
