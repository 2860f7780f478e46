"""GraphSAGE and GAT over the graph of items."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.data.transitions import count_transitions
from mqsa_jax.layers.item_graph import gat, gat_init, graphsage, graphsage_init, item_graph
from tests import oracle

V, D = 9, 4

count = jax.jit(count_transitions, static_argnames="num_items")
LAYERS = {"graphsage": (graphsage, graphsage_init), "gat": (gat, gat_init)}

each_layer = pytest.mark.parametrize("name", LAYERS)


def random_case(rng):
    """Graph, dense float64 w [V, V] without self-loops, and item vectors; the last is alone."""
    item_N = rng.integers(0, V - 1, 14)
    counts = count(jnp.asarray(item_N), jnp.zeros(14, int), V)
    w_VV = np.zeros((V, V))
    for i, j in zip(item_N[:-1], item_N[1:], strict=True):
        if i != j:
            w_VV[i, j] += 1
            w_VV[j, i] += 1
    return item_graph(counts), w_VV, jnp.asarray(rng.normal(size=(V, D)), jnp.float32)


def random_params(rng, name):
    """In the shapes of the layer's own, and none of them 0."""
    blank = LAYERS[name][1](jax.random.key(0), D)
    return {key: jnp.asarray(rng.normal(size=leaf.shape), "float32") for key, leaf in blank.items()}


def expected_graphsage(params, item_VD, w_VV):
    out_VD = np.empty((V, D))
    for i in range(V):
        total = w_VV[i].sum()
        mean_D = w_VV[i] @ item_VD / total if total else np.zeros(D)
        out_VD[i] = np.concatenate([item_VD[i], mean_D]) @ params["kernel"] + params["bias"]
    return out_VD


def expected_gat(params, item_VD, w_VV):
    out_VD = np.empty((V, D))
    value_VD = item_VD @ params["kernel"]
    for i in range(V):
        around = [j for j in range(V) if w_VV[i, j] > 0 or j == i]
        logits = value_VD[i] @ params["target"] + value_VD[around] @ params["source"]
        weight = np.exp(oracle.log_softmax(np.where(logits > 0, logits, 0.2 * logits)))
        out_VD[i] = item_VD[i] + weight @ value_VD[around] + params["bias"]
    return out_VD


EXPECTED = {"graphsage": expected_graphsage, "gat": expected_gat}


def as_float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


@each_layer
@pytest.mark.parametrize("seed", range(2))
def test_agrees_with_plain_loops(name, seed):
    rng = np.random.default_rng(seed)
    graph, w_VV, item_VD = random_case(rng)
    params = random_params(rng, name)
    expected = EXPECTED[name](as_float64(params), as_float64(item_VD), w_VV)
    out_VD = jax.jit(LAYERS[name][0])(params, item_VD, graph)
    np.testing.assert_allclose(out_VD, expected, rtol=1e-4, atol=1e-5)


@each_layer
def test_gradients_agree_with_finite_differences(rng, name):
    graph, w_VV, item_VD = random_case(rng)
    theta = {**random_params(rng, name), "item": item_VD}
    direction_VD = rng.normal(size=(V, D)).astype(np.float32)

    @jax.jit
    @jax.grad
    def gradient(theta, graph):
        return (LAYERS[name][0](theta, theta["item"], graph) * direction_VD).sum()

    def value(theta):
        return (EXPECTED[name](theta, theta["item"], w_VV) * direction_VD).sum()

    expected = oracle.gradient(value, theta, list(theta))
    chex.assert_trees_all_close(as_float64(gradient(theta, graph)), expected, rtol=1e-3, atol=1e-4)


def test_graphsage_of_an_example():
    # 0 and 1 follow one another twice, 1 and 2 once; 3 is alone.
    graph = item_graph(count(jnp.array([0, 1, 0, 3]), jnp.array([0, 0, 0, 1]), 4))
    params = {"kernel": jnp.array([[1.0], [10.0]]), "bias": jnp.array([0.5])}
    item_VD = jnp.array([[1.0], [2.0], [3.0], [4.0]])
    out_VD = jax.jit(graphsage)(params, item_VD, graph)
    assert out_VD[:, 0].tolist() == [1 + 20 + 0.5, 2 + 10 + 0.5, 3 + 0.5, 4 + 0.5]


def test_gat_of_an_example():
    # 0 and 1 follow one another, however often; 2 is alone.
    graph = item_graph(count(jnp.array([0, 1, 0, 1]), jnp.zeros(4, int), 3))
    params = {name: jnp.ones(1) for name in ("target", "source")}
    params |= {"kernel": jnp.array([[2.0]]), "bias": jnp.array([0.5])}
    item_VD = jnp.array([[-1.0], [1.5], [7.0]])
    # Values -2 and 3. Into 0: logits -4 of itself, 1 of item 1; into 1: 1 of 0, 6 of itself.
    low, high = np.exp(0.2 * -4), np.exp(1)
    first = -1 + (-2 * low + 3 * high) / (low + high) + 0.5
    low, high = np.exp(1), np.exp(6)
    second = 1.5 + (-2 * low + 3 * high) / (low + high) + 0.5
    np.testing.assert_allclose(
        jax.jit(gat)(params, item_VD, graph)[:, 0], [first, second, 7 + 14 + 0.5], rtol=1e-6
    )


@pytest.mark.parametrize("factor", [1e4, 1e-30])
def test_gat_is_safe_at_extreme_logits(rng, factor):
    graph, w_VV, item_VD = random_case(rng)
    params = random_params(rng, "gat")
    params = {**params, "target": factor * params["target"], "source": factor * params["source"]}
    value, gradients = jax.jit(jax.value_and_grad(lambda *args: gat(*args).sum(), argnums=(0, 1)))(
        params, item_VD, graph
    )
    assert np.isfinite(value)
    chex.assert_tree_all_finite(gradients)


@each_layer
def test_no_transitions_at_all(rng, name):
    blank = count(jnp.arange(V), jnp.arange(V), V)
    params, item_VD = random_params(rng, name), random_case(rng)[2]
    expected = EXPECTED[name](as_float64(params), as_float64(item_VD), np.zeros((V, V)))
    out_VD = jax.jit(LAYERS[name][0])(params, item_VD, item_graph(blank))
    np.testing.assert_allclose(out_VD, expected, rtol=1e-4, atol=1e-5)


@each_layer
def test_vmap_over_parameters_agrees_with_each(rng, name):
    layer, graph, item_VD = LAYERS[name][0], *random_case(rng)[::2]
    each = [random_params(rng, name) for _ in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    mapped = jax.jit(jax.vmap(layer, in_axes=(0, None, None)))(stacked, item_VD, graph)
    expected = jnp.stack([jax.jit(layer)(params, item_VD, graph) for params in each])
    chex.assert_trees_all_close(mapped, expected, rtol=1e-5, atol=1e-5)


@each_layer
def test_vectors_keep_their_scale_at_the_start(rng, getkey, name):
    num_items, dim = 300, 32
    layer, init = LAYERS[name]
    # Items 200 and above are alone, the others have about 10 neighbours.
    item_N = jnp.asarray(rng.integers(0, 200, 1000))
    graph = item_graph(count(item_N, jnp.zeros(1000, int), num_items))
    item_VD = 0.01 * jax.random.normal(getkey(), (num_items, dim))
    out_VD = jax.jit(layer)(init(getkey(), dim), item_VD, graph)
    for part in (out_VD[:200], out_VD[200:]):
        assert 0.7 < part.std() / 0.01 < 1.6


@each_layer
def test_bfloat16_rounds_the_products(rng, name):
    graph, _, item_VD = random_case(rng)
    params = random_params(rng, name)
    layer = jax.jit(LAYERS[name][0], static_argnames="precision")
    exact, rounded = (
        layer(params, item_VD, graph),
        layer(params, item_VD, graph, precision="bfloat16"),
    )
    assert rounded.dtype == jnp.float32
    assert not (exact == rounded).all()
    np.testing.assert_allclose(rounded, exact, rtol=0.3, atol=0.3)
