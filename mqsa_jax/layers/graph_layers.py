"""Layers with parameters over the graph of items: GraphSAGE and GAT, item vectors in and out.

Both are meant for a table of item vectors used as input and as output of the model: they have no
closing activation, which would leave it without signs, and start near the table's own scale.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mqsa_jax.layers.attention import dense
from mqsa_jax.layers.item_graph import ItemGraph, weighted_sum
from mqsa_jax.ops.precision import Precision, product

GAT_SLOPE = 0.2
"""Of the LeakyReLU of GAT's attention, below 0; the paper's."""


def graphsage_init(key: Key[Array, ""], dim: int) -> dict[str, Array]:
    """Parameters of `graphsage`: `kernel` [2 D, D], Glorot uniform; `bias` [D], zeros."""
    kernel = jax.nn.initializers.glorot_uniform()(key, (2 * dim, dim))
    return {"kernel": kernel, "bias": jnp.zeros(dim)}


def graphsage(
    params: Mapping[str, Array],
    item_VD: Float[Array, "V D"],
    graph: ItemGraph,
    precision: Precision = "float32",
) -> Float[Array, "V D"]:
    r"""One GraphSAGE layer with the mean aggregator, over all neighbours.

        h_i = [e_i ; mean_j e_j] W + b

    The mean weighs a neighbour by how often the two followed one another, as uniform draws of
    transitions would; 0 where there is no neighbour. Of the paper's layer, the activation and the
    L2 normalisation are left out: they would take signs and scale from the item vectors. The
    concatenation is its skip connection, so there is no other. With `graphsage_init`, independent
    vectors keep their scale to a factor from 0.8 (many neighbours, or none) to 1.15 (one).

    Args:
      params: as `graphsage_init` returns them.
      item_VD: [V, D] item vectors e.
      graph: as `item_graph` returns it.
      precision: of the matrix product.

    Returns:
      [V, D].

    Reference:
      Hamilton et al., NIPS 2017, "Inductive Representation Learning on Large Graphs".
    """
    mean_VD = weighted_sum(graph.mean_weight, item_VD, graph)
    return dense(params, jnp.concatenate([item_VD, mean_VD], axis=-1), precision)


def gat_init(key: Key[Array, ""], dim: int) -> dict[str, Array]:
    """Parameters of `gat`: `kernel` [D, D], `target`, `source` [D], Glorot; `bias` [D], zeros."""
    glorot = jax.nn.initializers.glorot_uniform()
    kernel_key, target_key, source_key = jax.random.split(key, 3)
    return {
        "kernel": glorot(kernel_key, (dim, dim)),
        "target": glorot(target_key, (dim, 1))[:, 0],
        "source": glorot(source_key, (dim, 1))[:, 0],
        "bias": jnp.zeros(dim),
    }


def gat(
    params: Mapping[str, Array],
    item_VD: Float[Array, "V D"],
    graph: ItemGraph,
    precision: Precision = "float32",
) -> Float[Array, "V D"]:
    r"""One graph attention layer of one head, with a residual connection.

        h_i = e_i + sum_j a_ij (e_j W) + b
        a_ij = softmax_j LeakyReLU( target . e_i W + source . e_j W )

    j goes over the neighbours of i and i itself. Weights of the graph play no part: attention
    learns its own. The paper's layer has no residual; without it, independent vectors would start
    shrunk by 1 / sqrt(1 + neighbours), since attention starts all but uniform. With it and
    `gat_init` they keep their scale to a factor from 1 (many neighbours) to 1.41 (none).

    Args:
      params: as `gat_init` returns them.
      item_VD: [V, D] item vectors e.
      graph: as `item_graph` returns it.
      precision: of the matrix products.

    Returns:
      [V, D].

    Reference:
      Velickovic et al., ICLR 2018, "Graph Attention Networks", equations 1 to 4.
    """
    num_items = item_VD.shape[0]
    value_VD = product("vd,df->vf", item_VD, params["kernel"], precision)
    target_V = product("vd,d->v", value_VD, params["target"], precision)
    source_V = product("vd,d->v", value_VD, params["source"], precision)
    logit_M = jax.nn.leaky_relu(target_V[graph.target] + source_V[graph.source], GAT_SLOPE)
    # Every item has a self-loop: no segment is empty, and every total is 1 or more.
    peak_V = jax.ops.segment_max(
        jax.lax.stop_gradient(logit_M), graph.target, num_items, indices_are_sorted=True
    )
    exp_M = jnp.exp(logit_M - peak_V[graph.target])
    total_V = jax.ops.segment_sum(exp_M, graph.target, num_items, indices_are_sorted=True)
    mixed_VD = weighted_sum(exp_M, value_VD, graph) / total_V[:, None]
    return item_VD + mixed_VD + params["bias"]
