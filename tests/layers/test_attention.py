"""L-query attention: whom it looks at, and what it makes of it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqsa_jax.layers.attention import (
    dense,
    dense_init,
    l_query_attention,
    layer_norm,
    norm_init,
)
from tests import oracle

ROWS, T, D = 2, 7, 6
LAYOUT = jnp.array([[0, 0, 0, 1, 1, 1, -1], [-1, 2, 2, 2, 2, 2, 3]])
HISTORIES = [(0, slice(0, 3)), (0, slice(3, 6)), (1, slice(1, 6)), (1, slice(6, 7))]

attend = jax.jit(l_query_attention, static_argnames="num_heads")


def random_params(rng):
    def vector():
        return rng.normal(size=D).astype(np.float32)

    def projection():
        return {"kernel": rng.normal(size=(D, D)).astype(np.float32) / D**0.5, "bias": vector()}

    params = {name: projection() for name in ("query", "key", "value")}
    params["query_norm"] = {"scale": vector(), "bias": vector()}
    return jax.tree.map(jnp.asarray, params)


def random_x(rng):
    return rng.normal(size=(ROWS, T, D)).astype(np.float32)


def expected_of_one_history(params, x_TD, window, num_heads):
    """The equations in float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x_TD = x_TD.astype(np.float64)

    def project(name, y_TD):
        return y_TD @ params[name]["kernel"] + params[name]["bias"]

    q_TD = oracle.layer_norm(oracle.windowed_mean(x_TD, window), **params["query_norm"])
    projected = project("query", q_TD), project("key", x_TD), project("value", x_TD)
    return oracle.attend(*projected, num_heads) + q_TD


@pytest.mark.parametrize("num_heads", [1, 3])
def test_agrees_with_the_oracle(num_heads):
    @settings(max_examples=15, deadline=None, derandomize=True)
    @given(
        window=st.integers(1, T + 2),
        cuts=st.tuples(*[st.integers(0, T)] * 2 * ROWS),
        seed=st.integers(0, 2**32 - 1),
    )
    def run(window, cuts, seed):
        rng = np.random.default_rng(seed)
        params, x = random_params(rng), random_x(rng)
        segment = np.full((ROWS, T), -1, np.int32)
        expected = []
        for row in range(ROWS):
            first, second = sorted(cuts[2 * row : 2 * row + 2])
            # Padding, one history, another: from 0 to first, to second, to T.
            segment[row, first:second], segment[row, second:] = 2 * row, 2 * row + 1
            for columns in (slice(first, second), slice(second, T)):
                if columns.stop > columns.start:
                    history = expected_of_one_history(params, x[row, columns], window, num_heads)
                    expected.append((row, columns, history))
        out = attend(params, x, window, num_heads=num_heads, segment_ids_T=segment)
        assert np.isfinite(out).all()
        for row, columns, history in expected:
            np.testing.assert_allclose(out[row, columns], history, rtol=1e-4, atol=1e-4)

    run()


def test_a_single_position_attends_to_itself(rng):
    params, x = random_params(rng), random_x(rng)
    segment = np.arange(ROWS * T, dtype=np.int32).reshape(ROWS, T)
    q = oracle.layer_norm(x, **params["query_norm"])
    value = x @ params["value"]["kernel"] + params["value"]["bias"]
    out = attend(params, x, 4, num_heads=2, segment_ids_T=segment)
    np.testing.assert_allclose(out, value + q, atol=1e-5)


def test_without_attention_weights_the_query_is_left(rng):
    params, x = random_params(rng), random_x(rng)
    out = jax.jit(lambda x: l_query_attention(params, x, 3, drop=lambda weights: 0 * weights))(x)
    means = np.stack([oracle.windowed_mean(row, 3) for row in x])
    np.testing.assert_allclose(out, oracle.layer_norm(means, **params["query_norm"]), atol=2e-5)


def test_attention_weights_are_a_causal_distribution_for_each_head(rng):
    params, x = random_params(rng), random_x(rng)
    seen = []
    jax.eval_shape(
        lambda x: l_query_attention(
            params, x, 2, num_heads=3, drop=lambda weights: seen.append(weights.shape) or weights
        ),
        x,
    )
    assert seen == [(ROWS, 3, T, T)]

    @jax.jit
    def weights_of(x):
        kept = []
        l_query_attention(
            params,
            x,
            2,
            num_heads=3,
            segment_ids_T=LAYOUT,
            drop=lambda weights: kept.append(weights) or weights,
        )
        return kept[0]

    weights = np.asarray(weights_of(x))
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    same = np.asarray(LAYOUT[:, :, None] == LAYOUT[:, None, :])
    allowed = np.tril(np.ones((T, T), bool)) & same
    allowed = np.broadcast_to(allowed[:, None], weights.shape)
    assert (weights[allowed] > 0).all()
    assert not weights[~allowed].any()


def test_packed_histories_are_as_if_alone(rng):
    params, x = random_params(rng), random_x(rng)
    packed = attend(params, x, 3, num_heads=2, segment_ids_T=LAYOUT)
    for row, columns in HISTORIES:
        length = columns.stop - columns.start
        alone, segment = np.zeros_like(x), np.full((ROWS, T), -1, np.int32)
        alone[0, :length], segment[0, :length] = x[row, columns], 0
        out = attend(params, alone, 3, num_heads=2, segment_ids_T=segment)
        np.testing.assert_allclose(out[0, :length], packed[row, columns], rtol=1e-5, atol=1e-5)


def test_no_segments_are_one_history_a_row(rng):
    params, x = random_params(rng), random_x(rng)
    expected = [expected_of_one_history(params, row, 3, 2) for row in x]
    out = attend(params, x, 3, num_heads=2)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_gradient_reaches_earlier_positions_of_the_same_history_only(rng):
    params, x = random_params(rng), random_x(rng)
    direction_D = rng.normal(size=D).astype(np.float32)

    @jax.jit
    @jax.jacrev
    def jacobian(x):
        return l_query_attention(params, x, 3, num_heads=2, segment_ids_T=LAYOUT) @ direction_D

    slope = np.abs(jacobian(x)).max(-1)  # [row, t, row', t']
    reached = np.zeros((ROWS, T, ROWS, T), bool)
    for row, columns in HISTORIES:
        for t in range(columns.start, columns.stop):
            reached[row, t, row, columns.start : t + 1] = True
    real = np.asarray(LAYOUT) >= 0
    assert (slope[real] > 0)[reached[real]].all()
    assert not slope[real][~reached[real]].any()


def test_a_constant_added_to_all_keys_changes_nothing(rng):
    params, x = random_params(rng), random_x(rng)
    moved = {**params, "key": {**params["key"], "bias": params["key"]["bias"] + 3}}
    chex.assert_trees_all_close(
        attend(params, x, 2, num_heads=2, segment_ids_T=LAYOUT),
        attend(moved, x, 2, num_heads=2, segment_ids_T=LAYOUT),
        atol=1e-4,
    )


def test_heads_must_divide_the_width(rng):
    with pytest.raises(ValueError, match="num_heads 4 does not divide D = 6"):
        l_query_attention(random_params(rng), jnp.asarray(random_x(rng)), 1, num_heads=4)


def test_vmap_and_pmap_agree_with_a_batch(rng):
    params = random_params(rng)
    x = rng.normal(size=(8, T, D)).astype(np.float32)
    segment = np.concatenate([LAYOUT] * 4)

    def one(x_TD, segment_ids_T):
        return l_query_attention(params, x_TD, 3, num_heads=2, segment_ids_T=segment_ids_T)

    batch = attend(params, x, 3, num_heads=2, segment_ids_T=segment)
    mapped, on_devices = jax.jit(jax.vmap(one))(x, segment), jax.pmap(one)(x, segment)
    chex.assert_trees_all_close(batch, mapped, on_devices, rtol=1e-5, atol=1e-5)


def test_dense_of_an_example():
    params = {"kernel": jnp.array([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]]), "bias": jnp.arange(3.0)}
    # [2, 5] @ kernel = [2, 4 + 5, 15], plus [0, 1, 2]
    assert dense(params, jnp.array([[2.0, 5.0]])).tolist() == [[2.0, 10.0, 17.0]]


def test_layer_norm_agrees_with_the_oracle(rng):
    x = (5 + 3 * rng.normal(size=(ROWS, T, D))).astype(np.float32)
    params = random_params(rng)["query_norm"]
    expected = oracle.layer_norm(x.astype(np.float64), **params)
    np.testing.assert_allclose(jax.jit(layer_norm)(params, x), expected, atol=1e-5)


def test_layer_norm_of_a_constant_vector_is_the_bias():
    params = {"scale": jnp.full(4, 2.0), "bias": jnp.arange(4.0)}
    out, gradient = jax.jit(
        jax.value_and_grad(lambda x: layer_norm(params, x).sum(), has_aux=False)
    )(jnp.full(4, 3.0))
    assert out == 0 + 1 + 2 + 3
    assert np.isfinite(gradient).all()


def test_layer_norm_has_no_epsilon_to_speak_of():
    # [1, -1] / 1000 has deviation 0.001: an epsilon of 1e-6 would give 0.71 instead of 1.
    params = {"scale": jnp.ones(2), "bias": jnp.zeros(2)}
    out = layer_norm(params, jnp.array([0.001, -0.001]))
    np.testing.assert_allclose(out, [1, -1], atol=1e-4)


@pytest.mark.parametrize("num_heads", [0, -1, 3])
def test_heads_that_do_not_divide_the_width_are_refused(num_heads):
    params = {name: dense_init(jax.random.key(0), 4) for name in ("query", "key", "value")}
    params["query_norm"] = norm_init(jax.random.key(0), 4)
    with pytest.raises(ValueError, match=f"num_heads {num_heads} does not divide D = 4"):
        l_query_attention(params, jnp.ones((2, 4)), 1, num_heads=num_heads)
    with pytest.raises(ValueError, match="window must be at least 1"):
        l_query_attention(params, jnp.ones((2, 4)), 0)
