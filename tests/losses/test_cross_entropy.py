"""Several cross-entropies in one pass are what each is alone."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.losses.cross_entropy import LinearCrossEntropy, combine

S, D, V = 2, 3, 5


def loss(rng, rows, pad_logit):
    x = rng.normal(size=(S, rows, D)).astype(np.float32)
    weight = rng.choice([0.0, 0.5, 2.0], size=(S, rows)).astype(np.float32)
    return LinearCrossEntropy(jnp.asarray(x), jnp.asarray(weight), jnp.float32(0.25), pad_logit)


def alone(loss, table_VD):
    logits = np.asarray(loss.x, np.float64) @ np.asarray(table_VD, np.float64).T
    total = np.exp(logits).sum(-1) + loss.pad_logit
    return (np.asarray(loss.weight) * np.log(total)).sum() - 0.25


@pytest.mark.parametrize("factor", [0.0, 0.1, 3.0])
def test_the_sum_and_the_values(rng, factor):
    losses = [loss(rng, 4, True), loss(rng, 6, False)]
    table_VD = jnp.asarray(rng.normal(size=(V, D)), jnp.float32)
    total, values = jax.jit(combine)(losses, table_VD, [1.0, factor])
    expected = [alone(loss, table_VD) for loss in losses]
    np.testing.assert_allclose(values, [expected[0], expected[1] * (factor != 0)], rtol=1e-5)
    np.testing.assert_allclose(total, expected[0] + factor * expected[1], rtol=1e-5)


def test_a_loss_of_factor_0_is_not_formed(rng):
    kept, left_out = loss(rng, 4, True), loss(rng, 6, False)
    left_out = left_out.replace(x=jnp.full_like(left_out.x, jnp.nan))
    table_VD = jnp.asarray(rng.normal(size=(V, D)), jnp.float32)

    def together(x, table_VD):
        return combine([kept.replace(x=x), left_out], table_VD, [1.0, jnp.float32(0)])[0]

    def alone(x, table_VD):
        return combine([kept.replace(x=x)], table_VD, [1.0])[0]

    gradients = (jax.jit(jax.grad(f, argnums=(0, 1)))(kept.x, table_VD) for f in (together, alone))
    chex.assert_trees_all_close(*gradients, rtol=1e-6, atol=1e-7)


def test_gradients_are_those_of_the_sum(rng):
    losses = [loss(rng, 4, True), loss(rng, 6, False)]
    table_VD = jnp.asarray(rng.normal(size=(V, D)), jnp.float32)

    def together(losses, table_VD):
        return combine(losses, table_VD, [1.0, 0.1])[0]

    def apart(losses, table_VD):
        first, second = (combine([loss], table_VD, [1.0])[0] for loss in losses)
        return first + 0.1 * second

    gradients = (jax.jit(jax.grad(f, argnums=(0, 1)))(losses, table_VD) for f in (together, apart))
    chex.assert_trees_all_close(*gradients, rtol=1e-5, atol=1e-6)


def test_values_have_no_gradients(rng):
    table_VD = jnp.asarray(rng.normal(size=(V, D)), jnp.float32)

    def value(losses, table_VD):
        return combine(losses, table_VD, [1.0])[1][0]

    gradient = jax.grad(value, argnums=(0, 1))([loss(rng, 4, True)], table_VD)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))


def test_losses_of_different_shards_are_refused(rng):
    one, other = loss(rng, 4, True), loss(rng, 4, True)
    other = other.replace(x=other.x[:1], weight=other.weight[:1])
    with pytest.raises(ValueError, match="shards"):
        combine([one, other], jnp.ones((V, D)), [1.0, 1.0])
    with pytest.raises(ValueError, match="2 losses and 1 factors"):
        combine([one, one], jnp.ones((V, D)), [1.0])
