"""The largest entries of rows, beside a sort in NumPy; by XLA and by the kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.ops import largest as module
from mqsa_jax.ops.largest import largest

pytestmark = pytest.mark.usefixtures("product_path")


def expected(value_BV, k):
    key_BV = np.where(np.isnan(value_BV), -np.inf, -value_BV.astype(np.float64))
    # NaN before infinity: a stable sort by both.
    index_BK = np.lexsort((key_BV, ~np.isnan(value_BV)), axis=1)[:, :k]
    return np.take_along_axis(value_BV, index_BK, axis=1), index_BK


@pytest.mark.parametrize("k", [1, 5, 20, 37])
@pytest.mark.parametrize("columns", [37, 700, 2048])
def test_agrees_with_a_sort(rng, k, columns):
    """Real values, ties, all alike, ascending, infinities and NaN."""
    value_BV = rng.normal(size=(12, columns)).astype(np.float32)
    value_BV[2:5] = rng.integers(0, 4, (3, columns))
    value_BV[5] = 2
    value_BV[6] = np.arange(columns)
    value_BV[7, 3:] = -np.inf
    value_BV[8, -1] = np.nan
    value_BV[9, ::3] = np.nan
    value_BV[10] = np.inf
    value_BV[11] = -np.arange(columns)
    best_BK, index_BK = jax.jit(largest, static_argnums=1)(value_BV, k)
    assert index_BK.dtype == jnp.int32
    best, index = expected(value_BV, k)
    np.testing.assert_array_equal(best_BK, best)
    one_order = np.isnan(value_BV).sum(1) < 2
    np.testing.assert_array_equal(index_BK[one_order], index[one_order])


def test_in_a_loop_and_under_vmap(rng):
    value_CBV = jnp.asarray(rng.normal(size=(3, 4, 200)), jnp.float32)
    by_scan = jax.lax.scan(lambda _, value: (None, largest(value, 3)), None, value_CBV)[1]
    by_vmap = jax.vmap(lambda value: largest(value, 3))(value_CBV)
    for index, value_BV in enumerate(np.asarray(value_CBV)):
        for found in (by_scan, by_vmap):
            for each, wanted in zip(found, expected(value_BV, 3), strict=True):
                np.testing.assert_array_equal(each[index], wanted)


def test_two_passes_agree_with_one(rng):
    value_BV = jnp.asarray(rng.integers(0, 50, (8, 900)), jnp.float32)
    for one, other in zip(
        module._by_sorting(value_BV, k=6), module._in_two_passes(value_BV, k=6), strict=True
    ):
        np.testing.assert_array_equal(one, other)
