"""Matrix products of rounded factors, against the same in float64 NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.config import Config, ModelConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.ops.linear_logsumexp import linear_logsumexp
from mqsa_jax.ops.products import product
from mqsa_jax.training.epoch import compile_epoch
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.state import run_key

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
    top = logits.max(-1, keepdims=True)
    exp = np.exp(logits - top)
    scale = 1 / exp.sum(-1, keepdims=True)
    np.testing.assert_allclose(value, (np.log(exp.sum(-1)) + top[:, 0]).sum(), rtol=1e-5)
    # The factors of the gradients' products are rounded as well; a last bit may fall either way.
    np.testing.assert_allclose(dx[0], scale * (rounded(exp) @ rounded(table)), rtol=1e-3, atol=1e-3)
    expected = rounded(exp).T @ rounded(scale * exact(x[0]))
    np.testing.assert_allclose(dtable, expected, rtol=1e-3, atol=1e-3)


def test_training_is_of_the_precision_and_evaluation_is_not():
    rng = np.random.default_rng(0)
    sequences = [rng.integers(1, 25, rng.integers(3, 12)) for _ in range(40)]
    histories = make_histories(range(1, 41), sequences)
    config = Config(model=ModelConfig(dim=8, max_len=6), training=TrainingConfig(batch_size=40))
    losses, ranks = {}, {}
    for precision in ("float32", "bfloat16"):
        training = dataclasses.replace(config.training, precision=precision)
        configured = dataclasses.replace(config, training=training)
        experiment = Experiment(configured, histories, DeviceLayout.of(1))
        state, relations = experiment.initial_state(), experiment.relations()
        # Larger embeddings than at the start, where all logits are alike.
        larger = 30 * state.params["item_embedding"]
        state = state.replace(params={**state.params, "item_embedding": larger})
        source = experiment.batch_source()
        batches = next(source.batches(0, 1, source.capacity()))
        program = compile_epoch(experiment.recommender, experiment.layout)
        _, losses[precision] = program(state, batches, run_key(0), relations)
        ranks[precision] = experiment.evaluator(Protocol("test")).ranks(state.params, state.hparams)
    for name in ("loss_rec", "loss_kd"):
        fine, coarse = (getattr(losses[p], name)[0] for p in ("float32", "bfloat16"))
        assert 1e-6 < abs(fine - coarse) / fine < 1e-2, name
    np.testing.assert_array_equal(ranks["float32"], ranks["bfloat16"])
