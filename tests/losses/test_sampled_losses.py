"""Sampled losses: what is unbiased, in the mean over many draws, and what the full loss is near."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.losses.distillation import distillation_loss
from mqsa_jax.losses.negatives import (
    ItemFrequency,
    Negatives,
    popularity_negatives,
    uniform_negatives,
    with_in_batch,
)
from mqsa_jax.losses.ranking import ranking_loss
from mqsa_jax.losses.sampled_distillation import distillation_losses, sampled_distillation_loss
from mqsa_jax.losses.sampled_ranking import gbce_loss, sampled_ranking_loss
from mqsa_jax.losses.teacher import rows_of
from mqsa_jax.ops import row_chunks
from tests import oracle, transition_oracle
from tests.losses.distillation_cases import DENSE, TAU, TEACHER, M, V

N, D, K, DRAWS = 5, 4, 4, 20_000
rng = np.random.default_rng(0)
USER, ITEMS = rng.normal(size=(N, D)), 0.7 * rng.normal(size=(V, D))
TARGET = np.array([3, 0, 8, 8, 1])
COUNT = np.array([0, 5, 1, 3, 0, 2, 9, 1, 4])
FREQUENCY = ItemFrequency.of(COUNT)
BATCH = np.array([6, 3, 8, 0, 6])
"""Targets of a batch; item 0 is one by chance alone: the counts do not know of it."""
WHERE = np.array([True, True, True, False, True])


def uniform(key):
    return uniform_negatives(key, V, K)


def popularity(key):
    return popularity_negatives(key, FREQUENCY, K)


def mixed(key):
    """Targets of a batch drawn by how often each item is one, and uniform draws."""
    batch_key, key = jax.random.split(key)
    target_N = jax.random.choice(batch_key, V, (N,), p=jnp.asarray(COUNT / COUNT.sum()))
    return with_in_batch(uniform_negatives(key, V, K), target_N, jnp.asarray(WHERE), FREQUENCY)


def over_draws(function):
    """Mean of a function of a key, and its standard error."""
    values = jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(1), DRAWS))
    values = np.asarray(values, np.float64)
    return values.mean(0), values.std(0) / DRAWS**0.5


def assert_within_error(actual, expected):
    mean, error = actual
    assert (np.abs(mean - expected) < 4.5 * error + 1e-6).all()
    # An estimate, and a test that could tell a bias of one part in ten.
    assert (error > 0).all()
    assert (error < 0.1 * np.abs(expected) + 0.05).all()


DRAWN = pytest.mark.parametrize("draw", [uniform, popularity, mixed])


@DRAWN
def test_partition_function_of_the_ranking_loss_is_unbiased(draw):
    expected = 1 + np.exp(USER @ ITEMS.T).sum(1)
    target_logit = (USER * ITEMS[TARGET]).sum(1)

    def partition(key):
        loss = sampled_ranking_loss(
            jnp.float32(USER), jnp.float32(ITEMS), jnp.asarray(TARGET), draw(key), reduce_fn=None
        )
        return jnp.exp(loss + jnp.float32(target_logit))

    assert_within_error(over_draws(partition), expected)


@DRAWN
def test_parts_of_the_distillation_loss_are_unbiased(draw):
    """The partition function, and what the teacher expects, which is linear in the draws."""
    item = np.array([0, 1, 4, 5, 7])  # of 5, 0, 0, 9 and 4 successors
    logit = USER @ ITEMS.T / TAU / 4
    teacher_VV = transition_oracle.teacher_probabilities(DENSE, TAU)
    partition, expected = np.exp(logit).sum(1), (teacher_VV[item] * logit).sum(1)
    rows = rows_of(TEACHER, jnp.asarray(item), jnp.ones(N, bool), M)

    def parts(key):
        items, negatives = jnp.float32(ITEMS), draw(key)
        vectors = jnp.float32(USER / 4), items[rows.successor], items[negatives.item]
        loss = distillation_losses(*vectors, rows, TAU, negatives)
        # Without the teacher's probabilities outside the logarithm, only log Z is left.
        blank = rows.replace(base=0 * rows.base, bump=jnp.sign(rows.bump) * 1e-30)
        log_z = distillation_losses(*vectors, blank, TAU, negatives)
        return jnp.stack([jnp.exp(log_z), log_z - loss])

    mean, error = over_draws(parts)
    # The support of item 5 is the whole catalogue: nothing is left to draw.
    np.testing.assert_allclose(mean[:, 3], [partition[3], expected[3]], rtol=1e-4)
    rest = [0, 1, 2, 4]
    assert_within_error((mean[0, rest], error[0, rest]), partition[rest])
    assert (np.abs(mean[1] - expected) < 4.5 * error[1] + 1e-5).all()


def test_gradient_of_the_partition_function_is_unbiased():
    softmax_sum = np.exp(USER @ ITEMS.T)
    expected = softmax_sum.T @ USER

    def gradient(key):
        def total(items):
            target_logit = (jnp.float32(USER) * items[TARGET]).sum(1)
            loss = sampled_ranking_loss(
                jnp.float32(USER), items, jnp.asarray(TARGET), uniform(key), reduce_fn=None
            )
            return jnp.exp(loss + target_logit).sum()

        return jax.grad(total)(jnp.float32(ITEMS))

    mean, error = over_draws(gradient)
    assert (np.abs(mean - expected) < 4.5 * error + 1e-5).all()


@pytest.mark.parametrize("kind", ["ranking", "distillation"])
def test_bias_of_the_loss_and_its_gradient_vanishes_as_one_over_k(kind):
    user, items = jnp.float32(USER), jnp.float32(ITEMS)
    item = jnp.array([0, 1, 4, 5, 7])

    def of(negatives):
        if kind == "ranking":
            return lambda items: sampled_ranking_loss(user, items, jnp.asarray(TARGET), negatives)
        return lambda items: sampled_distillation_loss(
            user / 4, items, item, TEACHER, TAU, negatives, max_bumps=M
        )

    full = {
        "ranking": lambda items: ranking_loss(user, items, jnp.asarray(TARGET)),
        "distillation": lambda items: distillation_loss(user / 4, items, item, TEACHER, TAU),
    }[kind]
    loss, gradient = jax.value_and_grad(full)(items)
    bias, slope_bias = [], []
    for num in (4, 16, 64):
        keys = jax.random.split(jax.random.key(2), 4000)
        draw = jax.vmap(
            lambda key, num=num: jax.value_and_grad(of(uniform_negatives(key, V, num)))(items)
        )
        value, slope = jax.jit(draw)(keys)
        bias.append(float(loss - value.mean()))
        slope_bias.append(float(jnp.abs(slope.mean(0) - gradient).max()))
    assert bias[0] > bias[1] > bias[2] > 0  # Jensen: below the full loss.
    assert bias[2] < bias[0] / 6
    assert slope_bias[2] < slope_bias[0] / 3


def assert_alike(one, other):
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, one, other)


def every_item():
    """Each item once, weight 1: nothing is sampled."""
    return Negatives(jnp.arange(V), jnp.zeros(V))


def test_with_every_item_once_the_losses_are_the_full_ones():
    user, items, where = jnp.float32(USER), jnp.float32(ITEMS), jnp.asarray(WHERE)
    arguments = (user, items, jnp.asarray(TARGET))
    np.testing.assert_allclose(
        sampled_ranking_loss(*arguments, every_item(), where=where),
        ranking_loss(*arguments, where=where),
        rtol=1e-6,
    )
    item = jnp.array([0, 1, 4, 5, 7])
    sampled, full = [
        jax.value_and_grad(loss, argnums=(0, 1))(user, items)
        for loss in (
            lambda user, items: sampled_distillation_loss(
                user, items, item, TEACHER, TAU, every_item(), where=where, max_bumps=M
            ),
            lambda user, items: distillation_loss(user, items, item, TEACHER, TAU, where=where),
        )
    ]
    assert_alike(sampled, full)


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_gbce_is_its_formula(calibration):
    negatives = Negatives(jnp.array([2, 8, 5]), jnp.zeros(3))
    alpha = 3 / (V - 1)
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    sigmoid = 1 / (1 + np.exp(-USER @ ITEMS.T))
    expected = [
        -(beta * np.log(row[t]) + sum(np.log(1 - row[k]) for k in (2, 8, 5) if k != t)) / 4
        for row, t in zip(sigmoid, TARGET, strict=True)
    ]
    loss = gbce_loss(
        jnp.float32(USER),
        jnp.float32(ITEMS),
        jnp.asarray(TARGET),
        negatives,
        calibration=calibration,
        reduce_fn=None,
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        gbce_loss(
            jnp.float32(USER), jnp.float32(ITEMS), jnp.asarray(TARGET), negatives, calibration=1.1
        )


def test_logq_of_mixed_negatives_is_visible_arithmetic():
    drawn = Negatives(jnp.array([6, 0]), jnp.zeros(2))
    negatives = with_in_batch(drawn, jnp.asarray(BATCH), jnp.asarray(WHERE), FREQUENCY)
    # 4 positions count, 25 targets are known, 2 draws of 9 items: item 6 has 9 of the targets.
    mean = {6: 4 * 9 / 25 + 2 / 9, 0: 2 / 9, 3: 4 * 3 / 25 + 2 / 9, 8: 4 * 4 / 25 + 2 / 9}
    expected = [-np.log(mean[j]) for j in (6, 0, 6, 3, 8)] + [-np.inf, -np.log(mean[6])]
    np.testing.assert_allclose(negatives.log_weight, expected, rtol=1e-6)
    alone = with_in_batch(
        Negatives(jnp.zeros(0, int), jnp.zeros(0)), jnp.asarray(BATCH), jnp.ones(5, bool), FREQUENCY
    )
    assert alone.log_weight[3] == -jnp.inf  # not known as a target: no weight


def test_popularity_draws_each_item_as_often_as_it_is_a_target_and_once():
    item = np.asarray(FREQUENCY.draw(jax.random.key(0), 100_000))
    share = np.bincount(item, minlength=V) / item.size
    np.testing.assert_allclose(share, (COUNT + 1) / (COUNT.sum() + V), atol=0.005)
    np.testing.assert_allclose(FREQUENCY.probability(jnp.arange(V)).sum(), 1, rtol=1e-6)


def test_chunks_of_rows_change_nothing(monkeypatch):
    user, items = jnp.float32(USER), jnp.float32(ITEMS)
    item = jnp.array([0, 1, 4, 5, 7])

    def both(user, items):
        negatives = uniform(jax.random.key(3))
        ranking = sampled_ranking_loss(user, items, jnp.asarray(TARGET), negatives)
        return ranking + sampled_distillation_loss(
            user, items, item, TEACHER, TAU, negatives, max_bumps=M
        )

    whole = jax.value_and_grad(both, argnums=(0, 1))(user, items)
    monkeypatch.setattr(row_chunks, "CHUNK_ELEMENTS", 2 * K)
    in_chunks = jax.value_and_grad(both, argnums=(0, 1))(user, items)
    assert_alike(whole, in_chunks)


def test_rows_that_do_not_count_may_hold_anything_and_wrong_indices_are_nan():
    user = jnp.float32(USER).at[1].set(jnp.nan)
    target, where = jnp.asarray(TARGET).at[1].set(V), jnp.arange(N) != 1
    negatives = uniform(jax.random.key(0))
    for loss in (sampled_ranking_loss, gbce_loss):
        value, gradient = jax.value_and_grad(loss)(
            user, jnp.float32(ITEMS), target, negatives, where=where
        )
        assert jnp.isfinite(value)
        assert jnp.isfinite(gradient).all()
        assert (gradient[1] == 0).all()
        assert jnp.isnan(loss(jnp.float32(USER), jnp.float32(ITEMS), target, negatives))
    value, gradient = jax.value_and_grad(sampled_distillation_loss)(
        user, jnp.float32(ITEMS), target, TEACHER, TAU, negatives, where=where, max_bumps=M
    )
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()
    assert jnp.isnan(
        sampled_distillation_loss(
            jnp.float32(USER), jnp.float32(ITEMS), target, TEACHER, TAU, negatives, max_bumps=M
        )
    )


def test_too_few_bumps_are_nan():
    arguments = (jnp.float32(USER), jnp.float32(ITEMS), jnp.asarray(TARGET), TEACHER, TAU)
    negatives = uniform(jax.random.key(0))
    assert jnp.isfinite(sampled_distillation_loss(*arguments, negatives, max_bumps=6))
    assert jnp.isnan(sampled_distillation_loss(*arguments, negatives, max_bumps=5))


def test_a_row_of_the_whole_support_needs_no_draws():
    """Item 5 was followed by all 9 items: the loss is the full one, whatever is drawn."""
    user = jnp.float32(USER)[:1]
    loss = sampled_distillation_loss(
        user,
        jnp.float32(ITEMS),
        jnp.array([5]),
        TEACHER,
        TAU,
        uniform(jax.random.key(0)),
        max_bumps=M,
    )
    teacher_VV = transition_oracle.teacher_probabilities(DENSE, TAU)
    expected = -teacher_VV[5] @ oracle.log_softmax(ITEMS @ USER[0] / TAU)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
