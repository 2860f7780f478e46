"""Cross-entropy over all items and one padding class."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqsa_jax.losses.cross_entropy import linear_weights
from mqsa_jax.losses.ranking import ranking_loss
from mqsa_jax.losses.reduction import mean
from mqsa_jax.ops.sparse_logits import SparseLogits
from tests import oracle

B, N, D, V = 2, 5, 4, 9

loss_and_gradient = jax.jit(
    jax.value_and_grad(ranking_loss, argnums=(0, 1)), static_argnames="reduce_fn"
)


def arrays(seed):
    rng = np.random.default_rng(seed)
    user = rng.normal(size=(B, N, D)).astype(np.float32)
    item = rng.normal(size=(V, D)).astype(np.float32)
    return user, item, rng.integers(0, V, (B, N)), rng.integers(0, 2, (B, N)).astype(bool)


def dense(user, item, target, weight):
    """The weighted sum of losses and its gradients, row by row in float64."""
    user, item = user.astype(np.float64), item.astype(np.float64)
    value, duser, ditem = 0.0, np.zeros_like(user), np.zeros_like(item)
    for index in np.ndindex(target.shape):
        log_p = oracle.log_softmax(np.append(item @ user[index], 0.0))
        value -= weight[index] * log_p[target[index]]
        slope = np.exp(log_p[:-1])
        slope[target[index]] -= 1
        duser[index] = weight[index] * slope @ item
        ditem += weight[index] * np.outer(slope, user[index])
    return value, duser, ditem


def assert_close(actual, expected):
    (value, gradients), (right, *right_gradients) = actual, expected
    np.testing.assert_allclose(value, right, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients, right_gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_mean_and_sum_agree_with_dense_logits(seed):
    user, item, target, where = arrays(seed)
    mean = loss_and_gradient(user, item, target, where=where)
    assert_close(mean, dense(user, item, target, where / max(where.sum(), 1)))
    total = loss_and_gradient(user, item, target, where=where, reduce_fn=jnp.sum)
    assert_close(total, dense(user, item, target, where.astype(float)))


def test_without_a_mask_every_row_counts():
    user, item, target, _ = arrays(0)
    actual = loss_and_gradient(user, item, target)
    assert_close(actual, dense(user, item, target, np.full((B, N), 1 / (B * N))))


def test_visible_example():
    # Logits log 2, log 3, log 4 and the padding's 0: probabilities 2/10, 3/10, 4/10, 1/10.
    item = jnp.log(jnp.array([[2.0], [3.0], [4.0]]))
    loss = ranking_loss(jnp.ones((2, 1)), item, jnp.array([0, 2]))
    np.testing.assert_allclose(loss, (np.log(10 / 2) + np.log(10 / 4)) / 2, rtol=1e-6)


def test_a_weighted_reduction():
    user, item, target, where = arrays(1)
    count = jnp.arange(B * N, dtype=jnp.float32).reshape(B, N)

    def weighted(values, where):
        return (values * count).sum(where=where)

    actual = loss_and_gradient(user, item, target, where=where, reduce_fn=weighted)
    assert_close(actual, dense(user, item, target, np.where(where, count, 0)))


def plain_mean(values, where):
    """A mean that divides by the number of values, be it 0."""
    return (values * where).sum() / where.sum()


@pytest.mark.parametrize("reduce_fn", [jnp.mean, jnp.sum, plain_mean])
def test_nothing_that_counts_gives_zero(reduce_fn):
    user, item, target, where = arrays(0)
    value, gradients = loss_and_gradient(
        user, item, target, where=np.zeros_like(where), reduce_fn=reduce_fn
    )
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


def test_weights_of_known_reductions():
    where = jnp.array([True, False, True])
    assert linear_weights(jnp.sum, where).tolist() == [1, 0, 1]
    for known in (jnp.mean, mean):
        assert linear_weights(known, where).tolist() == [0.5, 0, 0.5]
        assert linear_weights(known, ~where & where).tolist() == [0, 0, 0]
    assert linear_weights(plain_mean, where) is None
    assert linear_weights(None, where) is None


def root_mean_square(values, where):
    return (values**2).mean(where=where) ** 0.5


@pytest.mark.parametrize("reduce_fn", [jnp.mean, jnp.sum, root_mean_square])
@pytest.mark.parametrize("wrong", [V, 999, -1, -V])
def test_a_target_that_is_no_item_gives_nan(wrong, reduce_fn):
    user, item, target, _ = arrays(4)
    target[1, 2] = wrong
    value, (duser, ditem) = loss_and_gradient(user, item, target, reduce_fn=reduce_fn)
    assert np.isnan(value)
    assert np.isnan(duser[1, 2]).all()
    assert np.isnan(ditem).all()
    without = np.ones((B, N), bool)
    without[1, 2] = False
    rest = loss_and_gradient(user, item, target, where=without, reduce_fn=reduce_fn)
    chex.assert_tree_all_finite(rest)


@pytest.mark.parametrize("wrong", [V, 999, -1])
@pytest.mark.parametrize("name", ["target", "class"])
def test_of_losses_of_rows_those_of_wrong_indices_alone_are_nan(name, wrong):
    user, item, target, _ = arrays(5)
    classes = np.random.default_rng(0).integers(0, V, (B, N, 2))
    arguments = {"target": target, "class": classes}

    @jax.jit
    def losses(user, target, classes):
        sparse = SparseLogits(classes, jnp.full(classes.shape, 0.5))
        return ranking_loss(user, jnp.asarray(item), target, sparse=sparse, reduce_fn=None)

    right = losses(user, *arguments.values())
    arguments[name][1, 2] = wrong
    value, pull = jax.vjp(losses, user, *arguments.values())
    at = np.zeros((B, N), bool)
    at[1, 2] = True
    np.testing.assert_array_equal(np.isnan(value), at)
    np.testing.assert_allclose(value[~at], right[~at], rtol=1e-6)
    duser = pull(jnp.ones((B, N)))[0]
    np.testing.assert_array_equal(np.isnan(duser).any(-1), at)


def test_a_sparse_class_that_is_no_item_gives_nan():
    user, item, target, _ = map(jnp.asarray, arrays(6))

    @jax.jit
    @jax.value_and_grad
    def loss(value, classes, where):
        sparse = SparseLogits(classes, value)
        return ranking_loss(user, item, target, sparse=sparse, where=where)

    classes, value = np.zeros((B, N, 2), np.int32), np.ones((B, N, 2), np.float32)
    for wrong in (V, 999, -1):
        classes[0, 3, 1] = wrong
        everywhere, but_there = np.ones((B, N), bool), np.ones((B, N), bool)
        but_there[0, 3] = False
        total, slope = loss(value, classes, everywhere)
        assert np.isnan(total)
        assert np.isnan(slope[0, 3]).any()
        chex.assert_tree_all_finite(loss(value, classes, but_there))


def test_a_mask_over_anything_at_all():
    user, item, target, where = arrays(2)
    assert not where.all()
    one = loss_and_gradient(user, item, target, where=where)
    for wrong in (np.nan, np.inf, np.float32(1e30)):
        changed = np.where(where[..., None], user, wrong)
        other = loss_and_gradient(changed, item, np.where(where, target, 999), where=where)
        chex.assert_trees_all_equal(one, other)
    assert not one[1][0][~where].any()


def test_a_catalogue_of_large_scores_is_finite():
    user, item, target, _ = arrays(3)
    value, gradients = loss_and_gradient(1e4 * user, item, target)
    assert np.isfinite(value)
    chex.assert_tree_all_finite(gradients)


def test_vmap_and_pmap_agree():
    user, item, target, where = (
        np.stack(each) for each in zip(*map(arrays, range(8)), strict=True)
    )

    def one(user, item, target, where):
        return jax.value_and_grad(ranking_loss, argnums=(0, 1))(user, item, target, where=where)

    mapped = jax.jit(jax.vmap(one))(user, item, target, where)
    on_devices = jax.pmap(one)(user, item, target, where)
    chex.assert_trees_all_close(mapped, on_devices, rtol=1e-5, atol=1e-6)
    alone = loss_and_gradient(user[5], item[5], target[5], where=where[5])
    chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[5], mapped), alone, atol=1e-5)
