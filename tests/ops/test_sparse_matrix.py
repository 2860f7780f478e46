"""The product of a constant sparse matrix with a table, against the same in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from mqsa_jax.ops.sparse_matrix import WIDTH, SparseMatrix, sparse_product


def random_matrix(rng, rows, columns, lengths):
    dense = np.zeros((rows, columns))
    for row, length in enumerate(lengths):
        dense[row, rng.permutation(columns)[:length]] = rng.normal(size=length)
    return dense


# Lists of no entry, of one round and of several; a column in all rows; nothing at all.
CASES = {
    "short": (5, 4, [0, 1, 2, 3, 0]),
    "one round": (3, 20, [WIDTH, WIDTH - 1, 1]),
    "several rounds": (4, 200, [200, WIDTH + 1, 0, WIDTH**2 + 1]),
    "long columns": (100, 2, [2] * 100),
    "empty": (3, 2, [0, 0, 0]),
}


@pytest.mark.parametrize("case", CASES)
def test_product_and_gradient(rng, case):
    rows, columns, lengths = CASES[case]
    dense = random_matrix(rng, rows, columns, lengths)
    matrix = SparseMatrix.of(scipy.sparse.csr_array(dense))
    table, weight = rng.normal(size=(columns, 3)), rng.normal(size=(rows, 3))

    def weighted(matrix, table):
        return (sparse_product(matrix, table) * weight).sum()

    out = jax.jit(sparse_product)(matrix, jnp.float32(table))
    np.testing.assert_allclose(out, dense @ table, atol=1e-4)
    gradient = jax.jit(jax.grad(weighted, argnums=1))(matrix, jnp.float32(table))
    np.testing.assert_allclose(gradient, dense.T @ weight, atol=1e-4)


def test_mapped_over_tables_of_one_matrix(rng):
    dense = random_matrix(rng, 6, 9, [9, 0, 1, 2, 3, 9])
    matrix = SparseMatrix.of(scipy.sparse.csr_array(dense))
    tables = rng.normal(size=(2, 9, 3))
    out = jax.vmap(sparse_product, in_axes=(None, 0))(matrix, jnp.float32(tables))
    np.testing.assert_allclose(out, dense @ tables, atol=1e-5)


def test_no_array_has_an_entry_a_row(rng):
    """Of 4000 entries, 4 columns wide: nothing of 16000 numbers is made."""
    dense = random_matrix(rng, 40, 100, [100] * 40)
    matrix = SparseMatrix.of(scipy.sparse.csr_array(dense))
    jaxpr = jax.make_jaxpr(jax.grad(lambda t: sparse_product(matrix, t).sum()))(jnp.zeros((100, 4)))
    sizes = [
        variable.aval.size
        for equation in jaxpr.jaxpr.eqns
        for variable in equation.outvars
        if hasattr(variable.aval, "size")
    ]
    assert max(sizes) < dense.size * 4 / 2
    assert "scatter" not in str(jaxpr)
