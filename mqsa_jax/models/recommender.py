"""The recommender: histories in, user vectors and scores of all items out.

`Recommender` holds the sizes and parts of a model, nothing trained; `init` makes all of its
parameters and the other functions read them. All are pure, for use under `jit`, `vmap` and `grad`.

    score(u, j) = user_u . item_j [+ transition term of u's latest items, for a few j]
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mqsa_jax.config import Config, TermConfig
from mqsa_jax.data.sequences import Sequences, position_units
from mqsa_jax.layers.dropout import keep_masks
from mqsa_jax.layers.item_graph import gat, gat_init, graphsage, graphsage_init, smooth
from mqsa_jax.models.encoder import Encoder, rows_are_valid
from mqsa_jax.models.registry import MODELS, Backbone, Graph
from mqsa_jax.models.relations import ItemRelations, graph_of, neighbours_of
from mqsa_jax.models.transition_term import (
    future_items,
    past_items,
    term_init,
    transition_term,
)
from mqsa_jax.ops.products import Precision
from mqsa_jax.ops.sharded_scores import Scores, scores_of, with_sparse
from mqsa_jax.ops.sharded_table import ShardedTable, Table
from mqsa_jax.ops.sparse_logits import SparseLogits, is_index
from mqsa_jax.ops.table_rows import TableRows

SMOOTHING_LAYERS = 1
"""Steps over the graph that GES takes, as by its authors' default."""
_GRAPH_LAYERS = {"graphsage": (graphsage_init, graphsage), "gat": (gat_init, gat)}
"""Graph layers with parameters: how those are made, and the layer."""
_GRAPH_FOLD = 2**31 - 1
"""Folded into the key for the graph layer: other parameters are drawn as in a model without it."""

Params = Mapping[str, Array | ShardedTable | TableRows | Mapping]
"""Nested dict of float32 arrays: the encoder's, `graph` and `transition_term`."""


@dataclasses.dataclass(frozen=True)
class Recommender:
    """Sizes and parts of a model; hashable, so that it can be a static argument of `jit`."""

    num_items: int
    """V."""
    dim: int = 64
    """D."""
    max_len: int = 50
    """T, items of a history that are read."""
    num_blocks: int = 1
    """Attention blocks of each branch, or layers of another backbone."""
    num_heads: int = 1
    """H, attention heads."""
    precision: Precision = "float32"
    """Of the factors of matrix products."""
    backbone: Backbone = "attention"
    """What turns item vectors into user vectors."""
    graph: Graph = "unused"
    """How the graph of item transitions enters the item vectors."""
    num_recent: int = 0
    """K, latest items from which the transition term scores; 0: there is no term."""
    term_trained: bool = False
    """Whether the term takes part in training, or in scores alone."""

    @classmethod
    def of(cls, config: Config, num_items: int) -> "Recommender":
        """The model of a configuration, for V = `num_items`."""
        model, spec = config.model, MODELS[config.model.model]
        return cls(
            num_items=num_items,
            dim=model.dim,
            max_len=model.max_len,
            num_blocks=model.num_blocks,
            num_heads=model.num_heads,
            precision=config.training.precision,
            backbone=spec.backbone,
            graph=spec.graph,
            num_recent=config.term.term_items,
            term_trained=config.term.term_dropout < 1,
        )

    @property
    def encoder(self) -> Encoder:
        """The flax module that turns item vectors into user vectors."""
        sizes = (self.num_items, self.dim, self.max_len, self.num_blocks, self.num_heads)
        return Encoder(*sizes, self.precision, self.backbone)

    def in_float32(self) -> "Recommender":
        """The same model with matrix products in float32, as evaluation wants them."""
        return dataclasses.replace(self, precision="float32")


def init(
    recommender: Recommender,
    key: Key[Array, ""],
    *,
    term_weight: Float[Array, ""] | float = TermConfig.term_weight,
    term_decay: Float[Array, ""] | float = TermConfig.term_decay,
) -> Params:
    """All parameters: normal(0.01) embeddings, Glorot uniform kernels, zero biases.

    Args:
      recommender: the model.
      key: randomness of the draws.
      term_weight: weight of the newest item's transitions in the transition term.
      term_decay: factor of that weight from an item to the one before it.

    Returns:
      `item_embedding` [V, D] and the encoder's others; `graph` and `transition_term` for models
      that have such parts.
    """
    blank_1T = jnp.zeros((1, recommender.max_len), jnp.int32)
    blank = Sequences(blank_1T, blank_1T, blank_1T)
    params = recommender.encoder.init(key, blank, 1, 0.5)["params"]
    if recommender.graph in _GRAPH_LAYERS:
        graph_init, _ = _GRAPH_LAYERS[recommender.graph]
        graph = graph_init(jax.random.fold_in(key, _GRAPH_FOLD), recommender.dim)
        params = {**params, "graph": graph}
    if recommender.num_recent:
        term = term_init(term_weight, term_decay, recommender.num_recent)
        params = {**params, "transition_term": term}
    return params


def item_vectors(
    recommender: Recommender, params: Params, relations: ItemRelations | None = None
) -> Table:
    """[V, D] item vectors, for input and output: the embedding, or what a graph makes of it.

    Raises:
      ValueError: if the model makes them of a graph, and the graph or its parameters are missing.
    """
    embedding_VD = params["item_embedding"]
    if recommender.graph in ("unused", "regularised"):
        return embedding_VD
    graph = graph_of(relations, recommender.graph)
    if recommender.graph == "smoothed":
        return smooth(embedding_VD, graph, SMOOTHING_LAYERS)
    _, layer = _GRAPH_LAYERS[recommender.graph]
    layer_params = _part(params, "graph", f"graph={recommender.graph!r}")
    return layer(layer_params, embedding_VD, graph, recommender.precision)


def apply(
    recommender: Recommender,
    params: Params,
    sequences: Sequences,
    *,
    window: Int[Array, ""] | int,
    alpha: Float[Array, ""] | float,
    dropout: Float[Array, ""] | float = 0.0,
    key: Key[Array, ""] | None = None,
    relations: ItemRelations | None = None,
    item_VD: Table | None = None,
) -> Float[Array, "*B T D"]:
    """User vector at every position of every history.

    Args:
      recommender: the model.
      params: as `init` returns them.
      sequences: histories, packed or one a row, [..., T] each.
      window: L, the query window of the long branch; may be traced.
      alpha: weight of the short branch, 0 to 1; may be traced.
      dropout: probability of dropping a unit; may be traced. Used only with a key.
      key: randomness of dropout; None, as at evaluation: nothing is dropped.
      relations: item transitions, which some models make their item vectors of.
      item_VD: [V, D] what `item_vectors` gives, where it is at hand; None: made here.

    Returns:
      [..., T, D]; the last position of a history holds the vector that predicts its next item. A
      row is NaN if it has an item outside 0..V-1 or a position outside 0..`max_len` - 1.

    Raises:
      ValueError: if T is below `max_len`, the model needs relations that are missing, or `item_VD`
        has another shape.
    """
    if sequences.item.shape[-1] < recommender.max_len:
        raise ValueError(
            f"rows have {sequences.item.shape[-1]} positions, but the recommender's max_len is "
            f"{recommender.max_len}, and the newest item of a history has position max_len - 1"
        )
    if item_VD is None:
        item_VD = item_vectors(recommender, params, relations)
    expected = (recommender.num_items, recommender.dim)
    if item_VD.shape != expected:
        raise ValueError(f"item vectors have shape {item_VD.shape}, expected [V, D] = {expected}")
    sequences = jax.tree.map(jnp.asarray, sequences)
    encoder, masks = recommender.encoder, None
    if key is not None:
        widths = encoder.mask_widths(sequences.segment_ids.shape[-1])
        masks = keep_masks(key, dropout, position_units(sequences), widths)
    user_TD = encoder.apply({"params": params}, sequences, window, alpha, masks, item_VD)
    valid = rows_are_valid(sequences, recommender.num_items, recommender.max_len)
    return user_TD * jnp.where(valid, 1, jnp.nan)[..., None, None]


def score_term(
    recommender: Recommender,
    params: Params,
    sequences: Sequences,
    relations: ItemRelations | None,
    *,
    last_B: Int[Array, "*S B"] | None = None,
    target_T: Int[Array, "*S R T"] | None = None,
) -> SparseLogits | None:
    """The transition term of the scores, [..., K W] at every position; None if there is none.

    Args:
      recommender: the model.
      params: as `init` returns them.
      sequences: histories packed into rows, [..., R, T].
      relations: item transitions.
      last_B: [..., B] positions in the flat [R, T] to score at; None: at all of them.
      target_T: [..., R, T] next items, in training: what the histories themselves added to the
        counts is taken out again. None: the histories were not counted.

    Returns:
      [..., B, K W], or [..., R, T, K W].

    Raises:
      ValueError: if the neighbours, or the term's parameters, are missing.
    """
    if not recommender.num_recent:
        return None
    term_params = _part(params, "transition_term", f"num_recent={recommender.num_recent}")
    neighbours = neighbours_of(relations, recommender.num_recent)
    span = neighbours.step_weight.shape[-1]
    past_P = past_items(sequences.item, sequences.segment_ids, recommender.num_recent + span)
    if last_B is not None:
        past_P = _at(past_P, last_B)
    future_F = None
    if target_T is not None:
        future_F = future_items(target_T, sequences.segment_ids, span)
    return transition_term(term_params, past_P, neighbours, future_F)


def scores(
    recommender: Recommender,
    params: Params,
    sequences: Sequences,
    last_B: Int[Array, "*S B"] | None = None,
    *,
    window: Int[Array, ""] | int,
    alpha: Float[Array, ""] | float,
    relations: ItemRelations | None = None,
    item_VD: Table | None = None,
) -> Scores:
    """[..., B, V] scores of all items as the next one of each history; none is left out.

    Args:
      recommender, params, window, alpha, relations, item_VD: as of `apply`.
      sequences: histories packed into rows, [..., R, T].
      last_B: [..., B] position of each history's newest item in the flat [R, T]; its scores are NaN
        if no history is there. None: the end of each row, for one history a row.

    Raises:
      ValueError: as `apply`.
    """
    last_B = _last_positions(sequences, last_B)
    if item_VD is None:
        item_VD = item_vectors(recommender, params, relations)
    user_TD = apply(recommender, params, sequences, window=window, alpha=alpha, item_VD=item_VD)
    score_BV = scores_of(_at(user_TD, last_B), item_VD)
    term = score_term(recommender, params, sequences, relations, last_B=last_B)
    return score_BV if term is None else with_sparse(score_BV, term)


def _last_positions(sequences: Sequences, last_B: Array | None) -> Array:
    """[..., B] `last_B`, or the end of each row; R T, where a gather finds NaN, for no history."""
    *shards, rows, length = sequences.segment_ids.shape
    if last_B is None:
        last_B = jnp.broadcast_to(jnp.arange(1, rows + 1) * length - 1, (*shards, rows))
    segment_ids_B1 = _at(jnp.asarray(sequences.segment_ids)[..., None], last_B)
    valid_B = is_index(last_B, rows * length) & (segment_ids_B1[..., 0] >= 0)
    return jnp.where(valid_B, last_B, rows * length)


def _at(value_RTK: Array, index_B: Int[Array, "*S B"]) -> Array:
    """[..., B, K] the values [..., R, T, K] at those positions of the flat [R, T]."""
    *shards, _, _, width = value_RTK.shape
    return jnp.take_along_axis(value_RTK.reshape(*shards, -1, width), index_B[..., None], axis=-2)


def _part(params: Params, name: str, why: str) -> Mapping[str, Array]:
    """The parameters of a part; ValueError if they are missing."""
    if name not in params:
        raise ValueError(f"a recommender with {why} needs parameters {name!r}; `init` makes them")
    return params[name]
