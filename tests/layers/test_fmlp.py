"""FMLP-Rec: the causal filter, the blocks, the initial parameters."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.layers.fmlp import FMLP, causal_filter
from tests import oracle

ROWS, T, D = 2, 7, 4
LAYOUT = np.array([[0, 0, 0, 1, 1, 1, -1], [-1, 2, 2, 2, 2, 2, 3]], np.int32)
HISTORIES = [(0, slice(0, 3)), (0, slice(3, 6)), (1, slice(1, 6)), (1, slice(6, 7))]
MODEL = FMLP(num_blocks=2)


def expected_filter(kernel_TD, x_TD):
    """The convolution's sum in float64, of one history."""
    y_TD = np.zeros(x_TD.shape)
    for t in range(len(x_TD)):
        for lag in range(t + 1):
            y_TD[t] += kernel_TD[lag].astype(np.float64) * x_TD[t - lag]
    return y_TD


def expected_block(params, x_TD, masks):
    """One block in float64, of one history; `masks` of the filter and of the output, [T, D]."""

    def dense(name, y_TD):
        return y_TD @ params[name]["kernel"] + params[name]["bias"]

    filtered_TD = masks[0] * expected_filter(params["filter"], x_TD)
    y_TD = oracle.layer_norm(x_TD + filtered_TD, **params["filter_norm"])
    hidden_TF = dense("ffn_in", y_TD)
    hidden_TF = hidden_TF * np.vectorize(lambda v: (1 + math.erf(v / 2**0.5)) / 2)(hidden_TF)
    return oracle.layer_norm(y_TD + masks[1] * dense("ffn_out", hidden_TF), **params["ffn_norm"])


def random_params(rng):
    blank = jnp.zeros((ROWS, T, D)), jnp.zeros((ROWS, T), jnp.int32), None
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), *blank)["params"]
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def test_agrees_with_the_oracle_with_and_without_masks(rng):
    run = jax.jit(lambda params, *inputs: MODEL.apply({"params": params}, *inputs))
    for masked in (False, True, True):
        params, x = random_params(rng), rng.normal(size=(ROWS, T, D)).astype(np.float32)
        masks = jax.tree.map(
            lambda width: (rng.random((ROWS, T, width)) < 0.7).astype(np.float32) / 0.7,
            MODEL.mask_widths(D, T),
        )
        out = run(params, x, LAYOUT, masks if masked else None)
        params = jax.tree.map(np.float64, params)
        for row, columns in HISTORIES:
            y_TD = x[row, columns].astype(np.float64)
            for block in ("block_0", "block_1"):
                own = [masks[block][name] for name in ("filter", "output")]
                scale = [mask[row, columns] if masked else 1 for mask in own]
                y_TD = expected_block(params[block], y_TD, scale)
            np.testing.assert_allclose(out[row, columns], y_TD, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("length", [1, 2, 6, 8])
def test_the_filter_is_a_convolution_within_each_history(rng, length):
    """Rows of any length, halves whole or not, histories and padding anywhere."""
    kernel = rng.normal(size=(length, D)).astype(np.float32)
    x = rng.normal(size=(40, length, D)).astype(np.float32)
    # Each position begins a history with probability 1/3; of these every third is padding.
    segment = (rng.integers(0, 3, (40, length)) == 0).cumsum(-1).astype(np.int32)
    padding = segment % 3 == 2
    x[padding], segment[padding] = 0, -1
    y = jax.jit(causal_filter)(kernel, x, segment)
    for row in range(40):
        for number in np.unique(segment[row][segment[row] >= 0]):
            here = segment[row] == number
            expected = expected_filter(kernel, x[row, here])
            np.testing.assert_allclose(y[row, here], expected, rtol=1e-4, atol=1e-4)


def test_the_filter_multiplies_spectra_of_padded_rows(rng):
    """The convolution theorem; padding to twice the length keeps it from wrapping around."""
    kernel, x = rng.normal(size=(2, T, D))
    spectrum = np.fft.rfft(kernel, 2 * T, axis=0) * np.fft.rfft(x, 2 * T, axis=0)
    expected = np.fft.irfft(spectrum, 2 * T, axis=0)[:T]
    y = jax.jit(causal_filter)(jnp.float32(kernel), jnp.float32(x), jnp.zeros(T, jnp.int32))
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_a_kernel_of_one_lag_delays(rng):
    x_TD = rng.integers(0, 9, (T, 1)).astype(np.float32)
    delay_TD = jnp.zeros((T, 1)).at[2].set(1.0)
    y_T = jax.jit(causal_filter)(delay_TD, x_TD, jnp.array([3, 3, 3, 3, 5, 5, 5])).ravel()
    assert y_T.tolist() == [0, 0, *x_TD[:2, 0], 0, 0, x_TD[4, 0]]


def test_masks_of_each_block():
    widths = {f"block_{block}": {"filter": 64, "output": 64} for block in (0, 1)}
    assert FMLP(num_blocks=2).mask_widths(64, 50) == widths


def test_initial_parameters():
    blank = jnp.zeros((1, 50, 32)), jnp.zeros((1, 50), jnp.int32), None
    init = jax.jit(lambda key: FMLP(num_blocks=2).init(key, *blank)["params"])
    params = jax.device_get(init(jax.random.key(3)))
    for block in (params["block_0"], params["block_1"]):
        assert block["filter"].shape == (50, 32)
        # The standard error of a deviation over n values is 1 / sqrt(2 n): 2 % at 1600.
        np.testing.assert_allclose(block["filter"].std(), 0.02 * (2 / 50) ** 0.5, rtol=0.08)
        for name, shape in (("ffn_in", (32, 128)), ("ffn_out", (128, 32))):
            limit = (6 / 160) ** 0.5
            assert block[name]["kernel"].shape == shape
            assert 0.98 * limit < np.abs(block[name]["kernel"]).max() <= limit
            assert not block[name]["bias"].any()
        for name in ("filter_norm", "ffn_norm"):
            assert (block[name]["scale"] == 1).all()
            assert not block[name]["bias"].any()
    assert (params["block_0"]["filter"] != params["block_1"]["filter"]).all()


def test_the_filter_starts_as_wide_as_the_authors(rng):
    """Their spectrum's kernel has the variance that the docstring of FMLP states, at each lag."""
    length, draws, deviation = 10, 40_000, 0.02
    parts = deviation * rng.normal(size=(2, length // 2 + 1, draws))
    kernels = np.fft.irfft(parts[0] + 1j * parts[1], length, axis=0)
    stated = deviation**2 * (2 * length - 2) / length**2
    np.testing.assert_allclose(kernels.var(axis=1), stated, rtol=0.04)
