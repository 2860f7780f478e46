"""The mean over the last L positions of a history."""

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqsa_jax.layers.windowed_mean import causal_mask, windowed_mean
from tests import oracle

ROWS, T, D = 3, 8, 3
LAYOUT = np.array([[0, 0, 0, 1, 1, 1, 1, -1], [2, -1, 3, 3, 3, 3, 3, 3], [4] * 7 + [-1]], np.int32)
"""Histories of 3, 4, 1, 6 and 7 items; padding between them and behind them."""

traced = jax.jit(windowed_mean)


@st.composite
def layouts(draw):
    """Segments [ROWS, T]: any lengths that fill the rows, any of them padding."""
    segment = np.full((ROWS, T), -1, np.int32)
    number = 0
    for row in segment:
        begin = 0
        while begin < T:
            end = begin + draw(st.integers(1, T - begin))
            row[begin:end] = number if draw(st.integers(0, 3)) else -1
            number, begin = number + 1, end
    return segment


def histories_in(segment):
    """(row, slice of columns) of every history."""
    for row, segment_ids_T in enumerate(segment):
        for number in np.unique(segment_ids_T[segment_ids_T >= 0]):
            (columns,) = np.nonzero(segment_ids_T == number)
            yield row, slice(columns[0], columns[-1] + 1)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(segment=layouts(), window=st.integers(1, T + 3), seed=st.integers(0, 2**32 - 1))
def test_agrees_with_the_oracle(segment, window, seed):
    x = np.random.default_rng(seed).normal(size=(ROWS, T, D)).astype(np.float32)
    expected = np.zeros(x.shape)
    for row, columns in histories_in(segment):
        expected[row, columns] = oracle.windowed_mean(x[row, columns], window)
    np.testing.assert_allclose(traced(x, window, segment), expected, atol=2e-6)


def test_visible_example():
    x_T1 = jnp.array([[1.0], [3.0], [5.0], [7.0], [10.0], [20.0], [99.0]])
    segment_ids_T = jnp.array([4, 4, 4, 4, 1, 1, -1])
    mean = jax.jit(windowed_mean)(x_T1, 3, segment_ids_T)
    assert mean.ravel().tolist() == [1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 0.0]


@pytest.mark.parametrize("window", [1, 3, T, T + 5])
def test_a_traced_window_equals_a_static_one(rng, window):
    x = rng.normal(size=(ROWS, T, D)).astype(np.float32)
    static = jax.jit(lambda x, segment: windowed_mean(x, window, segment))
    chex.assert_trees_all_close(static(x, LAYOUT), traced(x, jnp.int32(window), LAYOUT), atol=1e-6)


@pytest.mark.parametrize("mean", [windowed_mean, traced])
def test_window_one_is_the_vector_itself(rng, mean):
    x = rng.normal(size=(ROWS, T, D)).astype(np.float32)
    expected = np.where((LAYOUT >= 0)[..., None], x, 0)
    np.testing.assert_allclose(mean(jnp.asarray(x), 1, jnp.asarray(LAYOUT)), expected, atol=1e-6)


@pytest.mark.parametrize("window", [T, T + 1, 2**31 - 1])
def test_a_window_of_the_row_or_more_is_the_cumulative_mean(rng, window):
    x = rng.normal(size=(ROWS, T, D)).astype(np.float32)
    expected = x.cumsum(axis=1) / np.arange(1, T + 1)[:, None]
    one_history_a_row = np.broadcast_to(np.arange(ROWS, dtype=np.int32)[:, None], (ROWS, T))
    np.testing.assert_allclose(traced(x, window, one_history_a_row), expected, atol=1e-6)


def test_no_segments_are_one_history_a_row(rng):
    x = rng.normal(size=(ROWS, T, D)).astype(np.float32)
    expected = [oracle.windowed_mean(row, 3) for row in x]
    np.testing.assert_allclose(traced(x, 3), expected, atol=2e-6)


def test_packed_histories_are_as_if_alone(rng):
    x = rng.normal(size=(ROWS, T, D)).astype(np.float32)
    packed = traced(x, 3, LAYOUT)
    for row, columns in histories_in(LAYOUT):
        length = columns.stop - columns.start
        alone, segment = np.zeros_like(x), np.full_like(LAYOUT, -1)
        alone[0, :length], segment[0, :length] = x[row, columns], 0
        mean = traced(alone, 3, segment)
        np.testing.assert_allclose(mean[0, :length], packed[row, columns], atol=1e-6)
        assert not mean[0, length:].any()


@pytest.mark.parametrize("filling", [1e30, np.nan])
def test_padding_is_zero_and_never_leaks(rng, filling):
    x = rng.normal(size=(ROWS, T, D)).astype(np.float32)
    clean = traced(np.where((LAYOUT >= 0)[..., None], x, 0), 2, LAYOUT)
    filled = traced(np.where((LAYOUT >= 0)[..., None], x, np.float32(filling)), 2, LAYOUT)
    np.testing.assert_array_equal(filled, clean)
    assert not np.asarray(clean)[LAYOUT < 0].any()


@pytest.mark.parametrize("window", [1, 3, T])
def test_jacobian_is_one_over_the_length_within_the_window_and_zero_elsewhere(window):
    segment_ids_T = LAYOUT[0]  # histories at 0..2 and 3..6, padding at 7
    expected = np.zeros((T, T))
    for begin, end in ((0, 3), (3, 7)):
        for t in range(begin, end):
            first = max(begin, t + 1 - window)
            expected[t, first : t + 1] = 1 / (t + 1 - first)
    jacobian = jacobian_of_one_row(jnp.ones((T, 1)), jnp.int32(window), segment_ids_T)
    np.testing.assert_allclose(jacobian[:, 0, :, 0], expected, atol=1e-6)
    assert not np.asarray(jacobian[:, 0, :, 0])[expected == 0].any()


jacobian_of_one_row = jax.jit(jax.jacrev(windowed_mean))


def test_vmap_and_pmap_agree_with_a_batch(rng):
    x = rng.normal(size=(8, T, D)).astype(np.float32)
    segment = np.concatenate([LAYOUT, LAYOUT, LAYOUT[:2]])
    batch = traced(x, 3, segment)
    mapped = jax.jit(jax.vmap(windowed_mean, in_axes=(0, None, 0)))(x, 3, segment)
    on_devices = jax.pmap(windowed_mean, in_axes=(0, None, 0))(x, 3, segment)
    chex.assert_trees_all_close(batch, mapped, on_devices, atol=1e-6)


def test_windows_differ_under_vmap(rng):
    x = rng.normal(size=(T, D)).astype(np.float32)
    windows = jnp.array([1, 2, 5, 11])
    means = jax.jit(jax.vmap(windowed_mean, in_axes=(None, 0)))(x, windows)
    expected = [oracle.windowed_mean(x, window) for window in windows.tolist()]
    np.testing.assert_allclose(means, expected, atol=2e-6)


def test_causal_mask_of_an_example():
    mask = causal_mask(jnp.array([4, 4, 7, -1]))
    assert mask.astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("window", [0, -1, np.int32(0), np.array(-5)])
def test_a_window_below_1_is_refused(window):
    x_TD = jnp.ones((4, 2))
    with pytest.raises(ValueError, match="window must be at least 1"):
        windowed_mean(x_TD, jnp.asarray(window) if isinstance(window, np.ndarray) else int(window))


@pytest.mark.parametrize("window", [2.0, jnp.array([2, 3]), True, np.float32(2)])
def test_a_window_that_is_not_one_integer_is_refused(window):
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        for mean in (windowed_mean, jax.jit(windowed_mean)):
            with pytest.raises(ValueError, match="window must be one integer"):
                mean(jnp.ones((4, 2)), window)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("window", [0, -1])
def test_a_traced_window_below_1_is_not_a_number(window):
    def total(x_TD, window):
        return windowed_mean(x_TD, window).sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(jnp.ones((4, 2)), window)
    assert np.isnan(value) and np.isnan(gradient).all()
    assert np.isfinite(jax.jit(total)(jnp.ones((4, 2)), 1))
