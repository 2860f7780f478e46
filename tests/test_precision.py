"""Matrix products of rounded factors, against the same in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.objectives.linear_logsumexp import linear_logsumexp
from mqsa_jax.precision import product

ROWS, D, F = 5, 16, 7


def rounded(array):
    return np.asarray(array).astype(jnp.bfloat16).astype(np.float64)


def exact(array):
    return np.asarray(array, np.float64)


@pytest.fixture
def factors(rng):
    shapes = ((ROWS, D), (D, F), (ROWS, F))
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


@pytest.mark.parametrize(("precision", "of"), [("float32", exact), ("bfloat16", rounded)])
def test_products_and_gradients_have_factors_of_the_precision(factors, precision, of):
    a, b, cotangent = factors
    value, pull = jax.vjp(jax.jit(lambda a, b: product("nd,df->nf", a, b, precision)), a, b)
    da, db = pull(cotangent)
    assert value.dtype == da.dtype == db.dtype == jnp.float32
    np.testing.assert_allclose(value, of(a) @ of(b), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(da, of(cotangent) @ of(b).T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(db, of(a).T @ of(cotangent), rtol=1e-5, atol=1e-5)


def test_the_rounding_shows(factors):
    a, b, _ = factors
    coarse, fine = (product("nd,df->nf", a, b, name) for name in ("bfloat16", "float32"))
    assert 1e-4 < np.abs(coarse - fine).max() < 0.1


def test_log_sum_exps_of_rounded_factors(rng):
    x = jnp.asarray(rng.normal(size=(1, ROWS, D)), jnp.float32)
    table = jnp.asarray(rng.normal(size=(F, D)), jnp.float32)
    weight = jnp.ones((1, ROWS))

    def total(x, table):
        return linear_logsumexp(x, table, weight, precision="bfloat16")[0]

    value, (dx, dtable) = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(x, table)
    logits = rounded(x[0]) @ rounded(table).T
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(value, np.log(np.exp(logits).sum(-1)).sum(), rtol=1e-5)
    # The gradients' products have rounded factors too: up to 2**-8 off each.
    np.testing.assert_allclose(dx[0], probability @ exact(table), rtol=0.02, atol=0.02)
    np.testing.assert_allclose(dtable, probability.T @ exact(x[0]), rtol=0.02, atol=0.02)
