"""What the training data tell of item transitions, and the item vectors made with it."""

from flax import struct
from jaxtyping import Array, Float

from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.layers.graph_layers import gat, graphsage
from mqsa_jax.layers.item_graph import ItemGraph, smooth
from mqsa_jax.models.encoder import Encoder, Params
from mqsa_jax.models.transition_term import Neighbours

SMOOTHING_LAYERS = 1
"""Steps over the graph that GES takes, as by its authors' default."""


@struct.dataclass
class ItemRelations:
    """Constants of a run, on all devices; parts that the model has no use for are None."""

    counts: TransitionCounts
    """What the teacher learns from."""
    graph: ItemGraph | None = None
    """The graph of the same transitions."""
    neighbours: Neighbours | None = None
    """Of the transition term."""


def item_vectors(
    encoder: Encoder, params: Params, relations: ItemRelations | None
) -> Float[Array, "V D"]:
    """[V, D] item vectors, for input and output: the embedding, or what a graph makes of it."""
    embedding_VD = params["item_embedding"]
    match encoder.graph:
        case "smoothed":
            return smooth(embedding_VD, relations.graph, SMOOTHING_LAYERS)
        case "graphsage":
            return graphsage(params["graph"], embedding_VD, relations.graph, encoder.precision)
        case "gat":
            return gat(params["graph"], embedding_VD, relations.graph, encoder.precision)
    return embedding_VD
