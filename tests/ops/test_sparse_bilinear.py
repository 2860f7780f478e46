"""Sums of sparse weighted logits, and their gradients, entry by entry in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.ops.sparse_bilinear import sparse_bilinear

pytestmark = pytest.mark.usefixtures("product_path")


@pytest.mark.parametrize(("rows", "items", "dim", "entries"), [(7, 5, 3, 20), (40, 90, 33, 500)])
def test_agrees_with_a_loop(rng, rows, items, dim, entries):
    x_ND, table_VD = rng.normal(size=(rows, dim)), rng.normal(size=(items, dim))
    row_M = np.sort(rng.integers(0, rows, entries))
    item_M = rng.integers(0, items, entries)
    weight_M = rng.choice([0.25, 1.0, -2.0], entries)
    total, dx_ND, dtable_VD, dweight_M = 0.0, 0 * x_ND, 0 * table_VD, 0 * weight_M
    for m, (row, item, weight) in enumerate(zip(row_M, item_M, weight_M, strict=True)):
        dweight_M[m] = x_ND[row] @ table_VD[item]
        total += weight * dweight_M[m]
        dx_ND[row] += weight * table_VD[item]
        dtable_VD[item] += weight * x_ND[row]
    x, table, weight = (jnp.asarray(array, jnp.float32) for array in (x_ND, table_VD, weight_M))
    row, item = jnp.asarray(row_M, jnp.int32), jnp.asarray(item_M, jnp.int32)

    def tripled(x, table, weight):
        return 3 * sparse_bilinear(x, table, row, item, weight)

    value, gradients = jax.jit(jax.value_and_grad(tripled, argnums=(0, 1, 2)))(x, table, weight)
    np.testing.assert_allclose(value, 3 * total, rtol=1e-5)
    for actual, expected in zip(gradients, (dx_ND, dtable_VD, dweight_M), strict=True):
        np.testing.assert_allclose(actual, 3 * expected, rtol=1e-4, atol=1e-4)


def test_entries_without_weight_are_left_out():
    x, table = jnp.array([[1.0, 2.0]]), jnp.ones((3, 2))
    row, item, weight = jnp.array([0, 0]), jnp.array([2, 1]), jnp.array([2.0, 0.0])
    value, (dx, dtable) = jax.value_and_grad(sparse_bilinear, argnums=(0, 1))(
        x, table, row, item, weight
    )
    assert value == 6
    assert dx.tolist() == [[2.0, 2.0]]
    assert dtable.tolist() == [[0.0, 0.0], [0.0, 0.0], [2.0, 4.0]]


def test_no_entries_at_all():
    none = jnp.zeros(0, jnp.int32)
    value, gradient = jax.value_and_grad(sparse_bilinear, argnums=1)(
        jnp.ones((2, 3)), jnp.ones((4, 3)), none, none, jnp.zeros(0)
    )
    assert value == 0 and not gradient.any()


@pytest.mark.parametrize(("row", "item"), [(0, 3), (0, -1), (1, 0), (-1, 2), (0, 2**31 - 1)])
def test_an_index_out_of_range_gives_nan_unless_it_has_no_weight(row, item):
    x, table = jnp.array([[1.0, 2.0]]), jnp.ones((3, 2))
    gradients = jax.jit(jax.value_and_grad(sparse_bilinear, argnums=(0, 1, 4)))
    rows, items = jnp.array([0, row]), jnp.array([2, item])
    for array in jax.tree.leaves(gradients(x, table, rows, items, jnp.ones(2))):
        assert np.isnan(array).all()
    value, (dx, dtable, _) = gradients(x, table, rows, items, jnp.array([2.0, 0.0]))
    assert (value, dx.tolist(), dtable[2].tolist()) == (6, [[2.0, 2.0]], [2.0, 4.0])


def test_under_vmap(rng):
    x_BND = jnp.asarray(rng.normal(size=(3, 4, 2)), jnp.float32)
    table, weight = jnp.asarray(rng.normal(size=(5, 2)), jnp.float32), jnp.ones(6)
    row, item = jnp.array([0, 0, 1, 2, 3, 3]), jnp.array([4, 0, 1, 1, 2, 3])
    many = jax.vmap(sparse_bilinear, in_axes=(0, None, None, None, None))
    expected = (np.asarray(x_BND)[:, row] * np.asarray(table)[item]).sum((1, 2))
    np.testing.assert_allclose(many(x_BND, table, row, item, weight), expected, rtol=1e-5)
