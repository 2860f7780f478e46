"""Sparse logits: alone, in log-sum-exps and in combined losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.losses.cross_entropy import combine
from mqsa_jax.losses.ranking import ranking_cross_entropy, ranking_loss
from mqsa_jax.ops.linear_logsumexp import linear_logsumexp
from mqsa_jax.ops.sparse_logits import SparseLogits
from tests import oracle

pytestmark = pytest.mark.usefixtures("product_path")

S, N, D, V, K = 2, 7, 3, 6, 4


def arrays(rng):
    x = rng.normal(size=(S, N, D)).astype(np.float32)
    table = rng.normal(size=(V, D)).astype(np.float32)
    weight = rng.choice([0.0, 0.25, 1.0], size=(S, N)).astype(np.float32)
    # With V = 6 and K = 4 nearly every row names a class twice.
    sparse = SparseLogits(
        jnp.asarray(rng.integers(0, V, (S, N, K)), jnp.int32),
        jnp.asarray(rng.normal(size=(S, N, K)), jnp.float32),
    )
    return x, table, weight, sparse


def dense_of(sparse, dtype=np.float64):
    dense = np.zeros((*sparse.item.shape[:-1], V), dtype)
    for index in np.ndindex(sparse.item.shape):
        dense[(*index[:-1], sparse.item[index])] += sparse.value[index]
    return dense


def test_visible_example():
    sparse = SparseLogits(jnp.array([[2, 0, 2]]), jnp.array([[1.0, 5.0, 0.5]]))
    assert sparse.added_to(jnp.array([[10.0, 20.0, 30.0]])).tolist() == [[15.0, 20.0, 31.5]]
    assert [sparse.at(jnp.array([item])).tolist() for item in range(3)] == [[5.0], [0.0], [1.5]]


@pytest.mark.parametrize("item", [-1, 3, 2**31 - 1])
def test_a_class_out_of_range_gives_nan(item):
    sparse = SparseLogits(jnp.array([[2, item], [0, 1]]), jnp.ones((2, 2)))
    added = sparse.added_to(jnp.zeros((2, 3)))
    assert np.isnan(added[0]).any() and added[1].tolist() == [1.0, 1.0, 0.0]
    total = jax.jit(
        lambda table: linear_logsumexp(
            jnp.ones((1, 2, 4)), table, jnp.array([[1.0, 0.0]]), sparse=sparse_1N
        )[0]
    )
    sparse_1N = jax.tree.map(lambda leaf: leaf[None], sparse)
    value, gradient = jax.value_and_grad(total)(jnp.ones((3, 4)))
    assert np.isnan(value) and np.isnan(gradient).all()
    # The row that holds it does not count.
    sparse_1N = jax.tree.map(lambda leaf: leaf[:, ::-1], sparse_1N)
    value, gradient = jax.value_and_grad(lambda table: total.__wrapped__(table))(jnp.ones((3, 4)))
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize("chunk", [1, 3, N])
def test_in_log_sum_exps_with_gradients(rng, chunk):
    x, table, weight, sparse = arrays(rng)

    def total(x, table, weight, value):
        own = SparseLogits(sparse.item, value)
        return linear_logsumexp(x, table, weight, pad_logit=True, sparse=own, chunk=chunk)[0]

    value, gradients = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2, 3)))(
        x, table, weight, sparse.value
    )
    logits = np.einsum("snd,vd->snv", x, table, dtype=np.float64) + dense_of(sparse)
    logits = np.concatenate([logits, np.zeros((S, N, 1))], axis=-1)
    log_p = np.stack([[oracle.log_softmax(row) for row in rows] for rows in logits])
    lse = (logits - log_p)[..., 0]
    np.testing.assert_allclose(value, (weight * lse).sum(), rtol=1e-5)
    slope = (weight[..., None] * np.exp(log_p))[..., :V]
    expected = (
        slope @ table,
        np.einsum("snv,snd->vd", slope, x),
        np.where(weight != 0, lse, 0),
        np.take_along_axis(slope, np.asarray(sparse.item), axis=-1),
    )
    for actual, right in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(actual, right, rtol=1e-4, atol=1e-5)


def test_in_the_ranking_loss(rng):
    x, table, _, sparse = arrays(rng)
    target = jnp.asarray(rng.integers(0, V, (S, N)), jnp.int32)
    loss = ranking_loss(jnp.asarray(x), jnp.asarray(table), target, sparse=sparse)
    logits = np.einsum("snd,vd->snv", x, table, dtype=np.float64) + dense_of(sparse)
    expected = [
        -oracle.log_softmax(np.append(logits[index], 0.0))[target[index]]
        for index in np.ndindex(target.shape)
    ]
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-5)


def test_losses_with_and_without_combine(rng):
    x, table, weight, sparse = arrays(rng)
    target = jnp.asarray(rng.integers(0, V, (S, N)), jnp.int32)
    wide = jax.tree.map(lambda leaf: leaf[..., :2], sparse)
    table = jnp.asarray(table)
    losses = [
        ranking_cross_entropy(jnp.asarray(x), table, target, jnp.asarray(weight), sparse=own)
        for own in (sparse, None, wide)
    ]
    total, values = combine(losses, table, [1.0, 0.5, 2.0])
    alone = [float(combine([loss], table, [1.0])[0]) for loss in losses]
    np.testing.assert_allclose(values, alone, rtol=1e-5)
    np.testing.assert_allclose(total, np.dot([1.0, 0.5, 2.0], alone), rtol=1e-5)
