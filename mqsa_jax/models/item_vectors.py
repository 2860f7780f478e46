"""Item vectors: the embedding, or what a graph makes of it, and what attributes add.

    item_j = graph(E)_j + sum_{a of j} F_a / n_j^power

n_j is how many attributes item j has. Items that no history holds have the mean of all others in
place of `graph(E)_j`. With `id_dropout`, so have some others in each step of training, drawn anew:
then attributes learn to stand for an item by themselves (DropoutNet, Volkovs et al., NIPS 2017).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mqsa_jax.layers.dropout import keep_mask
from mqsa_jax.layers.item_graph import gat, gat_init, graphsage, graphsage_init, smooth
from mqsa_jax.models.architecture import Params, Recommender, part_of
from mqsa_jax.models.encoder import EMBEDDING_STDDEV
from mqsa_jax.models.relations import ItemRelations, attributes_of, graph_of
from mqsa_jax.ops.sharded_table import Table
from mqsa_jax.ops.sparse_matrix import sparse_product
from mqsa_jax.pytree import pytree_dataclass

SMOOTHING_LAYERS = 1
"""Steps over the graph that GES takes, as by its authors' default."""
_GRAPH_LAYERS = {"graphsage": (graphsage_init, graphsage), "gat": (gat_init, gat)}
"""Graph layers with parameters: how those are made, and the layer."""
_GRAPH_FOLD = 2**31 - 1
"""Folded into the key for the graph layer: other parameters are drawn as in a model without it."""
_ATTRIBUTE_FOLD = 2**31 - 2
"""Likewise for attributes."""


@pytree_dataclass
class ItemTables:
    """[V, D] vectors of all items; one table, if attributes are on both sides or on none."""

    input: Table
    """As the encoder and the student of the distillation read them."""
    score: Table
    """As user vectors, and students, are multiplied with."""

    def of_first(self, num_items: int) -> "ItemTables":
        """Those that score the first items alone, as training does."""
        if num_items == self.score.shape[0]:
            return self
        return ItemTables(self.input, self.score[:num_items])


def item_parts(recommender: Recommender, key: Key[Array, ""]) -> Params:
    """Parameters beside the embedding: of a graph layer, and vectors of attributes [A, D]."""
    parts: dict[str, Params | Array] = {}
    if recommender.graph in _GRAPH_LAYERS:
        graph_init, _ = _GRAPH_LAYERS[recommender.graph]
        graph = graph_init(jax.random.fold_in(key, _GRAPH_FOLD), recommender.dim)
        parts["graph"] = graph
    if recommender.num_attributes:
        shape = (recommender.num_attributes, recommender.dim)
        drawn = jax.random.normal(jax.random.fold_in(key, _ATTRIBUTE_FOLD), shape)
        parts["attribute_embedding"] = EMBEDDING_STDDEV * drawn
    return parts


def item_tables(
    recommender: Recommender,
    params: Params,
    relations: ItemRelations | None = None,
    key: Key[Array, ""] | None = None,
) -> ItemTables:
    """The vectors of all items, for input and for scores.

    Args:
      recommender, params, relations: as of `recommender.apply`.
      key: randomness of `id_dropout`; None, as at evaluation: no item loses its own vector.

    Raises:
      ValueError: if the model makes them of a graph, or of attributes, and those or their
        parameters are missing.
    """
    own_VD = _own_vectors(recommender, params, relations)
    drops = key is not None and recommender.id_dropout > 0
    if recommender.num_cold or drops:
        own_VD = _without_some(recommender, own_VD, relations, key if drops else None)
    if not recommender.num_attributes:
        return ItemTables(own_VD, own_VD)
    why = f"num_attributes={recommender.num_attributes}"
    table_AD = part_of(params, "attribute_embedding", why)
    whole_VD = own_VD + sparse_product(attributes_of(relations, why), table_AD)
    side = recommender.attribute_side
    return ItemTables(
        own_VD if side == "score" else whole_VD, own_VD if side == "input" else whole_VD
    )


def _without_some(
    recommender: Recommender,
    own_VD: Array,
    relations: ItemRelations | None,
    key: Key[Array, ""] | None,
) -> Float[Array, "V D"]:
    """The mean of all warm items in place of cold ones; with a key, of some warm ones too.

    Warm items without attributes keep their vectors: nothing else stands for them.
    """
    num_warm = recommender.num_items - recommender.num_cold
    warm_ND = own_VD[:num_warm]
    mean_D = warm_ND.mean(0)
    if key is not None:
        one_A1 = jnp.ones((recommender.num_attributes, 1))
        weight_V1 = sparse_product(attributes_of(relations, "id_dropout"), one_A1)
        keep_N1 = keep_mask(key, recommender.id_dropout, jnp.arange(num_warm), 1) > 0
        warm_ND = jnp.where(keep_N1 | (weight_V1[:num_warm] == 0), warm_ND, mean_D)
    cold_ND = jnp.broadcast_to(mean_D, (recommender.num_cold, recommender.dim))
    return jnp.concatenate([warm_ND, cold_ND])


def item_vectors(
    recommender: Recommender, params: Params, relations: ItemRelations | None = None
) -> Table:
    """[V, D] item vectors, whose products with user vectors are the scores (but for a term).

    Raises:
      ValueError: as `item_tables`.
    """
    return item_tables(recommender, params, relations).score


def _own_vectors(
    recommender: Recommender, params: Params, relations: ItemRelations | None
) -> Table:
    """The embedding, or what a graph makes of it."""
    embedding_VD = params["item_embedding"]
    if recommender.graph in ("unused", "regularised"):
        return embedding_VD
    graph = graph_of(relations, recommender.graph)
    if recommender.graph == "smoothed":
        return smooth(embedding_VD, graph, SMOOTHING_LAYERS)
    _, layer = _GRAPH_LAYERS[recommender.graph]
    layer_params = part_of(params, "graph", f"graph={recommender.graph!r}")
    return layer(layer_params, embedding_VD, graph, recommender.precision)
