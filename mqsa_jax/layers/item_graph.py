"""The graph of items that follow one another, and layers over it: item vectors in and out.

M edges in full: both directions of every pair, and a self-loop on every item. GraphSAGE and GAT
have parameters, smoothing and regularisation have none. No layer has a closing activation, which
would take the signs from vectors that are input and output of the model; at first they keep the
vectors' scale.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int32, Key

from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.layers.attention import dense
from mqsa_jax.losses.reduction import Reduction, checked_where, reduced
from mqsa_jax.ops.products import Precision, product, row_dot
from mqsa_jax.pytree import pytree_dataclass

GAT_SLOPE = 0.2
"""Of the LeakyReLU of GAT's attention, below 0; the paper's."""


@pytree_dataclass
class ItemGraph:
    """Undirected weighted graph of items with self-loops: edges sorted by target, then source.

    With w_ij = w_ji how often i and j followed one another in either order, w_ii = 1, and d_i the
    sum of row i. An argument to functions under jit: closed over, it is a constant, whose folding
    takes XLA minutes.
    """

    target: Int32[Array, " M"]
    """Item i that an edge ends in; ascending, and every item occurs."""
    source: Int32[Array, " M"]
    """Item j that it begins in; i itself at a self-loop."""
    weight: Float32[Array, " M"]
    """w_ij / sqrt(d_i d_j), symmetric."""
    mean_weight: Float32[Array, " M"]
    """w_ij / (d_i - w_ii): sums to 1 over the neighbours of i; 0 at self-loops."""


def item_graph(counts: TransitionCounts) -> ItemGraph:
    """The graph of transitions in either order; on the host, not under jit.

    Counts C become `C + C^T` without its diagonal, then the identity is added: an item that follows
    itself says nothing about others, and the self-loop of every item has the weight 1 of one
    transition. Degrees are float64.

    Returns:
      The graph; an item without transitions has its self-loop, of weight 1, alone.

    Reference:
      Zhu et al., TKDE 2021, "Graph-based Embedding Smoothing for Sequential Recommendation" (GES);
      there an item that follows itself adds to its self-loop.

    Example:
      >>> from mqsa_jax.data.transitions import count_transitions
      >>> graph = item_graph(count_transitions(jnp.array([0, 1, 0, 1]), jnp.zeros(4, int), 3))
      >>> graph.target.tolist(), graph.source.tolist()
      ([0, 0, 1, 1, 2], [0, 1, 0, 1, 2])
      >>> graph.weight.tolist(), graph.mean_weight.tolist()
      ([0.25, 0.75, 0.75, 0.25, 1.0], [0.0, 1.0, 1.0, 0.0, 0.0])
    """
    count_VV = counts.to_scipy().astype(np.float64)
    pair_VV = (count_VV + count_VV.T).tocoo()
    kept = (pair_VV.row != pair_VV.col) & (pair_VV.data != 0)
    item_V = np.arange(counts.num_items)
    target_M = np.concatenate([pair_VV.row[kept], item_V])
    source_M = np.concatenate([pair_VV.col[kept], item_V])
    w_M = np.concatenate([pair_VV.data[kept], np.ones(counts.num_items)])
    order_M = np.lexsort((source_M, target_M))
    target_M, source_M, w_M = target_M[order_M], source_M[order_M], w_M[order_M]
    degree_V = np.bincount(target_M, w_M, minlength=counts.num_items)
    # Whatever counts were damped to, the neighbours of an item have weights that sum to 1.
    others_V = np.bincount(target_M, np.where(target_M == source_M, 0, w_M))
    mean_M = np.where(target_M == source_M, 0, w_M / np.where(others_V > 0, others_V, 1)[target_M])
    return ItemGraph(
        target=jnp.asarray(target_M, jnp.int32),
        source=jnp.asarray(source_M, jnp.int32),
        weight=jnp.asarray(w_M / np.sqrt(degree_V[target_M] * degree_V[source_M]), jnp.float32),
        mean_weight=jnp.asarray(mean_M, jnp.float32),
    )


def weighted_sum(
    weight_M: Float[Array, " M"], item_VD: Float[Array, "V D"], graph: ItemGraph
) -> Float[Array, "V D"]:
    """`sum_j weight_ij e_j` over the edges into each item i, [V, D]."""
    return jax.ops.segment_sum(
        weight_M[:, None] * item_VD[graph.source],
        graph.target,
        item_VD.shape[0],
        indices_are_sorted=True,
    )


def smooth(item_VD: Float[Array, "V D"], graph: ItemGraph, num_layers: int) -> Float[Array, "V D"]:
    r"""Item vectors smoothed over the graph, without parameters.

        A^k E,    A_ij = w_ij / sqrt(d_i d_j),    k = `num_layers`

    The last layer alone, not the mean of the layers 0..k: that is the default of the authors' code
    (`layer_agg` "none", `gnn` "sgc", one layer), and the self-loops already keep part of the
    item itself in every layer. Their dropout of edges is left out.

    Vectors independent of one another shrink, by sqrt(sum_j A_ij^2) a layer: about
    1 / sqrt(1 + neighbours) where weights are alike; an item without neighbours keeps its vector.
    As in the authors' code, nothing makes up for it.

    Args:
      item_VD: [V, D] item vectors E.
      graph: as `item_graph` returns it.
      num_layers: k, static; 0 returns `item_VD`.

    Returns:
      [V, D].

    Reference:
      Zhu et al., TKDE 2021, "Graph-based Embedding Smoothing for Sequential Recommendation" (GES);
      the propagation is that of SGC (Wu et al., ICML 2019).
    """
    for _ in range(num_layers):
        item_VD = weighted_sum(graph.weight, item_VD, graph)
    return item_VD


def regularisation(
    item_VD: Float[Array, "V D"],
    graph: ItemGraph,
    *,
    where: Bool[Array, " V"] | None = None,
    reduce_fn: Reduction | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""Laplacian regularisation: how much item vectors differ from those of their neighbours.

        l_i = 1/2 sum_j w_ij / sqrt(d_i d_j) |e_i - e_j|^2

    Summed over items, every pair of neighbours counts once. Weights are normalised, so that a
    frequent item does not count by its frequency; vectors are not, so that equal ones cost nothing,
    whatever their degrees. (The normalised Laplacian would compare e_i / sqrt(d_i), and be least
    where lengths follow degrees.) By default the mean over items, like the ranking loss a number
    that does not grow with the catalogue.

    Computed from |e_i|^2 + |e_j|^2 - 2 e_i . e_j: at a third of the cost of the differences, from
    which it departs by rounding, about 1e-6 |e_i|^2.

    Args:
      item_VD: [V, D] item vectors e.
      graph: as `item_graph` returns it.
      where: [V] which items i count; None: all. Vectors of the others are read where they are
        neighbours of an item that counts; else they may hold anything.
      reduce_fn: reduction of all axes taking `where=`; None gives the penalty of each item. See
        `mqsa_jax.losses.reduction`.

    Returns:
      The reduced penalty [], or the penalties [V]; 0 where nothing counts and where nothing has
      neighbours.

    Reference:
      Belkin and Niyogi, NIPS 2001, "Laplacian Eigenmaps"; Zhu et al., WSDM 2024, arXiv 2311.01056,
      compare it with distillation.
    """
    where = checked_where(where, item_VD.shape[:1])
    if where is not None:
        read_V = where.at[graph.source].max(where[graph.target])
        item_VD = jnp.where(read_V[:, None], item_VD, 0)
    pair_M = jnp.where(graph.target == graph.source, 0, graph.weight)

    def sum_over_neighbours(value_M):
        return jax.ops.segment_sum(value_M, graph.target, item_VD.shape[0], indices_are_sorted=True)

    square_V = row_dot(item_VD, item_VD)
    squares_V = square_V * sum_over_neighbours(pair_M)
    squares_V += sum_over_neighbours(pair_M * square_V[graph.source])
    products_V = row_dot(item_VD, weighted_sum(pair_M, item_VD, graph))
    return reduced(squares_V / 2 - products_V, where, reduce_fn)


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
