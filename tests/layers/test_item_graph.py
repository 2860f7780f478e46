"""The graph of items: its weights, smoothing by it, and the penalty along it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.data.transitions import TransitionCounts, count_transitions
from mqsa_jax.layers.item_graph import ItemGraph, item_graph, regularisation, smooth, weighted_sum

V, D = 9, 4

count = jax.jit(count_transitions, static_argnames="num_items")

jit_smooth = jax.jit(smooth, static_argnames="num_layers")
jit_regularisation = jax.jit(regularisation, static_argnames="reduce_fn")


def counts_of(dense_VV, spare=0):
    """Transition counts of a dense matrix, with unused capacity."""
    row, successor = np.nonzero(dense_VV)
    return TransitionCounts(
        row_start=jnp.asarray(np.searchsorted(row, np.arange(len(dense_VV) + 1)), jnp.int32),
        successor=jnp.asarray(np.pad(successor, (0, spare)), jnp.int32),
        count=jnp.asarray(np.pad(dense_VV[row, successor], (0, spare)), jnp.float32),
    )


def random_dense(rng):
    """Counts [V, V] with entries on the diagonal; the last item has no transitions."""
    dense_VV = rng.poisson(2, (V, V)) * (rng.random((V, V)) < 0.3)
    dense_VV[1, 1] = 5
    dense_VV[-1] = dense_VV[:, -1] = 0
    return dense_VV


def adjacency(dense_VV):
    """w, float64: symmetric, and 1 on the diagonal."""
    w_VV = (dense_VV + dense_VV.T).astype(np.float64)
    np.fill_diagonal(w_VV, 1)
    return w_VV


def normalised(dense_VV):
    w_VV = adjacency(dense_VV)
    degree_V = w_VV.sum(1)
    return w_VV / np.sqrt(np.outer(degree_V, degree_V))


def in_full(weight_M, graph: ItemGraph, num_items):
    dense_VV = np.zeros((num_items, num_items))
    dense_VV[graph.target, graph.source] = weight_M
    return dense_VV


def random_items(rng):
    return jnp.asarray(rng.normal(size=(V, D)), jnp.float32)


def penalties(item_VD, a_VV):
    """l_i of each item, by its differences."""
    item_VD = np.asarray(item_VD, np.float64)
    distance_VV = ((item_VD[:, None] - item_VD[None]) ** 2).sum(-1)
    return 0.5 * (a_VV * distance_VV).sum(1)


def visible_graph():
    """Items 0 and 1 follow one another 3 times, 1 and 2 once; 0 follows itself; 3 is alone."""
    counts = count(jnp.array([0, 1, 0, 1, 2, 0, 0, 3]), jnp.array([0, 0, 0, 0, 0, 1, 1, 2]), 4)
    return item_graph(counts)


def test_visible_example():
    graph = visible_graph()
    assert graph.target.tolist() == [0, 0, 1, 1, 1, 2, 2, 3]
    assert graph.source.tolist() == [0, 1, 0, 1, 2, 1, 2, 3]
    # d = 1 + 3, 3 + 1 + 1, 1 + 1, 1
    expected = [1 / 4, 3 / 20**0.5, 3 / 20**0.5, 1 / 5, 1 / 10**0.5, 1 / 10**0.5, 1 / 2, 1]
    np.testing.assert_allclose(graph.weight, expected, rtol=1e-6)
    np.testing.assert_allclose(graph.mean_weight, [0, 1, 3 / 4, 0, 1 / 4, 1, 0, 0], rtol=1e-6)


def test_the_graph_agrees_with_the_dense_matrix(rng):
    dense_VV = random_dense(rng)
    graph = item_graph(counts_of(dense_VV, spare=5))
    key = np.asarray(graph.target) * V + np.asarray(graph.source)
    assert (np.diff(key) > 0).all()
    assert key.size == np.count_nonzero(adjacency(dense_VV))
    np.testing.assert_allclose(
        in_full(graph.weight, graph, V), normalised(dense_VV), rtol=1e-6, atol=1e-7
    )
    neighbour_VV = adjacency(dense_VV) - np.eye(V)
    mean_VV = neighbour_VV / np.maximum(neighbour_VV.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(in_full(graph.mean_weight, graph, V), mean_VV, rtol=1e-6)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(graph)} == {"int32", "float32"}


def test_damped_counts_still_give_means(rng):
    """Counts below 1, as `popularity` leaves them: neighbours share a weight of 1 all the same."""
    graph = item_graph(counts_of(random_dense(rng) * 0.01))
    mean_VV = in_full(graph.mean_weight, graph, V)
    has_neighbours = (mean_VV > 0).any(1)
    assert has_neighbours.any() and not has_neighbours.all()
    np.testing.assert_allclose(mean_VV.sum(1), has_neighbours, rtol=1e-6)


def test_entries_of_count_0_are_no_edges():
    counts = TransitionCounts(jnp.array([0, 2, 2, 2]), jnp.array([1, 2]), jnp.array([2.0, 0.0]))
    assert item_graph(counts).source.tolist() == [0, 1, 0, 1, 2]


def test_smoothing_of_the_visible_example():
    item_VD = jnp.array([[1.0], [10.0], [100.0], [7.0]])
    expected = [
        1 / 4 + 30 / 20**0.5,
        3 / 20**0.5 + 10 / 5 + 100 / 10**0.5,
        10 / 10**0.5 + 100 / 2,
        7,
    ]
    np.testing.assert_allclose(
        jit_smooth(item_VD, visible_graph(), num_layers=1)[:, 0], expected, rtol=1e-6
    )


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_smoothing_and_its_gradient_agree_with_the_dense_matrix(rng, num_layers):
    dense_VV, item_VD = random_dense(rng), random_items(rng)
    graph, direction_VD = item_graph(counts_of(dense_VV)), random_items(rng)
    power_VV = np.linalg.matrix_power(normalised(dense_VV), num_layers)
    out_VD = jit_smooth(item_VD, graph, num_layers=num_layers)
    np.testing.assert_allclose(out_VD, power_VV @ item_VD, rtol=1e-5, atol=1e-6)
    gradient = jax.jit(
        jax.grad(lambda item_VD, graph: (smooth(item_VD, graph, num_layers) * direction_VD).sum())
    )(item_VD, graph)
    np.testing.assert_allclose(gradient, power_VV.T @ direction_VD, rtol=1e-5, atol=1e-6)


def test_penalty_of_the_visible_example():
    item_VD = jnp.array([[1.0, 0.0], [3.0, 0.0], [3.0, 3.0], [50.0, 50.0]])
    # Pairs (0, 1) and (1, 2), distances 2^2 and 3^2; the mean over four items.
    total = 3 / 20**0.5 * 4 + 1 / 10**0.5 * 9
    graph = visible_graph()
    np.testing.assert_allclose(jit_regularisation(item_VD, graph), total / 4, rtol=1e-5)
    np.testing.assert_allclose(
        jit_regularisation(item_VD, graph, reduce_fn=jnp.sum), total, rtol=1e-5
    )
    # Item 2 alone has half of its one pair.
    only = jit_regularisation(item_VD, graph, where=jnp.array([False, False, True, True]))
    np.testing.assert_allclose(only, 0.5 / 10**0.5 * 9 / 2, rtol=1e-5)


@pytest.mark.parametrize("reduce_fn", [jnp.mean, jnp.sum])
@pytest.mark.parametrize("masked", [False, True])
def test_penalty_agrees_with_the_differences(rng, reduce_fn, masked):
    dense_VV, item_VD = random_dense(rng), random_items(rng)
    graph = item_graph(counts_of(dense_VV))
    where_V = jnp.asarray(rng.random(V) < 0.5) if masked else None
    kept = np.ones(V, bool) if where_V is None else np.asarray(where_V)
    share_V = kept / (kept.sum() if reduce_fn is jnp.mean else 1)
    a_VV = normalised(dense_VV)
    value, gradient = jax.jit(
        jax.value_and_grad(
            lambda item_VD, graph: regularisation(
                item_VD, graph, where=where_V, reduce_fn=reduce_fn
            )
        )
    )(item_VD, graph)
    np.testing.assert_allclose(value, share_V @ penalties(item_VD, a_VV), rtol=1e-5)
    expected = np.zeros((V, D))
    for index in np.ndindex(V, D):
        move = np.zeros((V, D))
        move[index] = 1e-4
        high, low = (share_V @ penalties(item_VD + sign * move, a_VV) for sign in (1.0, -1.0))
        expected[index] = (high - low) / 2e-4
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


def test_equal_vectors_cost_nothing_to_speak_of(rng):
    graph = item_graph(counts_of(random_dense(rng)))
    item_VD = jnp.broadcast_to(random_items(rng)[:1], (V, D))
    value, gradient = jax.jit(jax.value_and_grad(regularisation))(item_VD, graph)
    assert abs(value) < 1e-6 * jnp.square(item_VD[0]).sum()
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_nothing_that_counts_costs_0(rng):
    graph, item_VD = item_graph(counts_of(random_dense(rng))), random_items(rng)
    value, gradient = jax.jit(
        jax.value_and_grad(lambda e, graph: regularisation(e, graph, where=jnp.zeros(V, bool)))
    )(item_VD, graph)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("length", [0, 4])
def test_no_transitions_at_all(rng, length):
    counts = TransitionCounts(jnp.zeros(V + 1, int), jnp.zeros(length, int), jnp.zeros(length))
    graph, item_VD = item_graph(counts), random_items(rng)
    assert graph.source.tolist() == graph.target.tolist() == list(range(V))
    np.testing.assert_array_equal(jit_smooth(item_VD, graph, num_layers=2), item_VD)
    np.testing.assert_array_equal(weighted_sum(graph.mean_weight, item_VD, graph), 0)
    assert jit_regularisation(item_VD, graph) == 0


def test_vmap_over_tables_agrees_with_each(rng):
    graph = item_graph(counts_of(random_dense(rng)))
    item_SVD = jnp.stack([random_items(rng) for _ in range(3)])
    for fn in (lambda e, graph: smooth(e, graph, 2), jax.grad(regularisation)):
        mapped = jax.jit(jax.vmap(fn, in_axes=(0, None)))(item_SVD, graph)
        alone = jax.jit(fn)
        each = jnp.stack([alone(item_VD, graph) for item_VD in item_SVD])
        chex.assert_trees_all_close(mapped, each, rtol=1e-5, atol=1e-6)
