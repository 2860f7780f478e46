"""The kernel over many tiles and segments of the table, against whole logits in float64."""

import jax
import numpy as np
import pytest

from mqsa_jax.ops.kernels import build
from mqsa_jax.ops.kernels.cpu_logsumexp import TILE_ITEMS
from mqsa_jax.ops.linear_logsumexp import linear_logsumexp

pytestmark = pytest.mark.usefixtures("product_path")
N = 150


def oracle(x_ND, table_VD, weight_N):
    """Sum, and its gradients by rows and table."""
    x_ND, table_VD, weight_N = (np.asarray(a, np.float64) for a in (x_ND, table_VD, weight_N))
    logits_NV = x_ND @ table_VD.T
    top_N1 = logits_NV.max(1, keepdims=True)
    exp_NV = np.exp(logits_NV - top_N1)
    lse_N = np.log(exp_NV.sum(1)) + top_N1[:, 0]
    slope_NV = weight_N[:, None] * exp_NV / exp_NV.sum(1, keepdims=True)
    return weight_N @ lse_N, (slope_NV @ table_VD, slope_NV.T @ x_ND)


@jax.jit
def fused(x_ND, table_VD, weight_N):
    def total(x_ND, table_VD):
        return linear_logsumexp(x_ND[None], table_VD, weight_N[None], chunk=64)[0]

    return jax.value_and_grad(total, argnums=(0, 1))(x_ND, table_VD)


def arrays(items: int, dim: int, scale: float = 1.0):
    rng = np.random.default_rng(0)
    x_ND = rng.normal(size=(N, dim)).astype(np.float32)
    table_VD = (scale * rng.normal(size=(items, dim)) / dim**0.5).astype(np.float32)
    weight_N = rng.choice([0.0, 0.5, 2.0], N).astype(np.float32)
    return x_ND, table_VD, weight_N


def check(inputs, rtol=1e-5):
    value, gradients = fused(*inputs)
    expected, expected_gradients = oracle(*inputs)
    np.testing.assert_allclose(value, expected, rtol=rtol)
    for actual, right in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(actual, right, rtol=0, atol=rtol * np.abs(right).max())


@pytest.mark.parametrize("dim", [1, 16, 50, 64])
# One item, one tile, a tile and one; segments of one tile, and of several with a last one shorter.
@pytest.mark.parametrize("items", [1, TILE_ITEMS, TILE_ITEMS + 1, 25 * TILE_ITEMS + 5])
def test_sizes_that_fill_no_tile(items, dim):
    check(arrays(items, dim))


@pytest.mark.parametrize("order", [1, -1])
def test_logits_that_grow_from_tile_to_tile(order):
    x_ND, table_VD, weight_N = arrays(25 * TILE_ITEMS, 16)
    # Up to 1,000 and down again: the base is moved often, or exponentials vanish beside it.
    table_VD[:, 0] = np.linspace(-1000, 1000, len(table_VD))[::order]
    x_ND[:, 0] = np.linspace(-1, 1, N)
    check((x_ND, table_VD, weight_N), rtol=2e-4)


def test_what_is_no_number_stays_none():
    x_ND, table_VD, _ = arrays(10 * TILE_ITEMS, 16)
    x_ND[3, 2] = np.nan
    x_ND[5, 0], table_VD[-1, 0] = np.inf, 1
    weight_N = np.ones(N, np.float32)
    value, (dx_ND, dtable_VD) = fused(x_ND, table_VD, weight_N)
    assert np.isnan(value) and np.isnan(dtable_VD).all()
    assert np.flatnonzero(np.isnan(dx_ND).any(1)).tolist() == [3, 5]


def test_equal_inputs_give_equal_bits():
    inputs = arrays(25 * TILE_ITEMS, 64, scale=5.0)
    first = fused(*inputs)
    for _ in range(5):
        again = fused(*inputs)
        jax.tree.map(np.testing.assert_array_equal, again, first)


def test_the_tiles_are_those_of_the_source():
    source = (build.SOURCES / "linear_logsumexp.h").read_text()
    assert f"kTileItems = {TILE_ITEMS};" in source
