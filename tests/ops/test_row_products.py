"""Products row by row are exact to float32, and stay products in their gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.ops.products import row_dot, scale_rows

SHAPE = (2, 5, 7)


@pytest.fixture
def rows(rng):
    """Two arrays [2, 5, 7] and a number a row."""
    return [jnp.float32(rng.normal(size=shape)) for shape in (SHAPE, SHAPE, SHAPE[:-1])]


def test_values(rows):
    a, b, scale = (np.float64(leaf) for leaf in rows)
    chex.assert_trees_all_close(row_dot(*rows[:2]), (a * b).sum(-1), rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(scale_rows(rows[0], rows[2]), a * scale[..., None], rtol=1e-6)


def test_gradients(rows):
    a, b, scale = (np.float64(leaf) for leaf in rows)
    cotangent = np.cos(np.arange(10.0)).reshape(SHAPE[:-1])
    _, pull = jax.vjp(row_dot, *rows[:2])
    expected = (cotangent[..., None] * b, cotangent[..., None] * a)
    chex.assert_trees_all_close(pull(jnp.float32(cotangent)), expected, rtol=1e-5, atol=1e-6)
    _, pull = jax.vjp(scale_rows, rows[0], rows[2])
    expected = (b * scale[..., None], (a * b).sum(-1))
    chex.assert_trees_all_close(pull(rows[1]), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("function", "second"), [(row_dot, 1), (scale_rows, 2)])
def test_in_full_precision_without_a_sum_of_products(rows, function, second):
    def sums_of_squares(*factors):
        return jnp.square(function(*factors)).mean()

    gradients = jax.grad(sums_of_squares, argnums=(0, 1))
    with jax.default_matmul_precision("bfloat16"):
        program = str(jax.make_jaxpr(gradients)(rows[0], rows[second]))
    assert program.count("dot_general") == program.count("Precision.HIGHEST") // 2 > 0
    assert "reduce_sum[axes=(2,)" not in program.replace(" ", "")
