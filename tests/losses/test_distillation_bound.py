"""The bound on the bumps of the distillation loss may be left out; one too small gives NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.losses.cross_entropy import combine
from mqsa_jax.losses.distillation import distillation_cross_entropy, distillation_loss
from mqsa_jax.losses.teacher import rows_of
from tests.losses.distillation_cases import (
    LENGTH,
    TAU,
    TEACHER,
    B,
    N,
    arrays,
    assert_close,
    dense_loss,
    loss_and_gradient,
)

pytestmark = pytest.mark.usefixtures("product_path")


def test_a_bound_on_the_bumps_need_not_be_given():
    student, item_vectors, item, where = map(jnp.asarray, arrays(1))
    expected = dense_loss(*map(np.asarray, (student, item_vectors, item)), np.full((B, N), 1.0))
    inputs = student, item_vectors, item, TEACHER, TAU
    concrete = distillation_loss(*inputs, reduce_fn=jnp.sum)
    traced, _ = loss_and_gradient(*inputs, reduce_fn=jnp.sum)
    np.testing.assert_allclose(concrete, expected[0], rtol=1e-5)
    np.testing.assert_allclose(traced, expected[0], rtol=1e-5)


def by_shard(student, item_vectors, item, teacher, tau, where, max_bumps):
    """The mean as training forms it: one shard a device, each with its own bound."""
    weight = where / where.sum()
    labels = jax.vmap(rows_of, in_axes=(None, 0, 0, None))(teacher, item, where, max_bumps)
    loss = distillation_cross_entropy(student, item_vectors, weight, labels, tau)
    return combine([loss], item_vectors, [1.0])[0]


def at_once(student, item_vectors, item, teacher, tau, where, max_bumps):
    return distillation_loss(
        student, item_vectors, item, teacher, tau, where=where, max_bumps=max_bumps
    )


@pytest.mark.parametrize(
    ("loss", "max_bumps", "enough"),
    [
        (at_once, 35, True),
        (at_once, 34, False),
        (by_shard, 18, True),
        (by_shard, 17, False),
        (by_shard, 1, False),
    ],
)
def test_a_bound_too_small_gives_nan(loss, max_bumps, enough):
    student, item_vectors, _, _ = arrays(2)
    item = np.array([[0, 2, 5, 1, 5, 6], [1, 5, 7, 4, 0, 5]], np.int32)
    where = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]], bool)
    # Bumps of rows that count: 5 + 3 + 9 + 0 = 17 and 0 + 9 + 4 + 0 + 5 = 18, together 35.
    value, gradients = jax.jit(
        jax.value_and_grad(loss, argnums=(0, 1)), static_argnames="max_bumps"
    )(student, item_vectors, item, TEACHER, TAU, where, max_bumps=max_bumps)
    if enough:
        expected = dense_loss(student, item_vectors, item, where / where.sum())
        assert_close((value, gradients), expected)
    else:
        assert np.isnan(value)
        assert np.isnan(gradients[0]).any()


def test_without_a_bound_all_entries_are_read():
    student, item_vectors, item, where = arrays(5)
    value = loss_and_gradient(student, item_vectors, item, TEACHER, TAU, where=where)
    assert_close(value, dense_loss(student, item_vectors, item, where / where.sum()))


def test_a_bound_too_small_gives_nan_for_losses_of_rows():
    student, item_vectors, item, where = arrays(9)
    needed = int(LENGTH[item][where].sum())
    for max_bumps in (needed, needed - 1):
        losses = jax.jit(distillation_loss, static_argnames=("reduce_fn", "max_bumps"))(
            student,
            item_vectors,
            item,
            TEACHER,
            TAU,
            where=where,
            max_bumps=max_bumps,
            reduce_fn=None,
        )
        assert np.isnan(losses).any() == (max_bumps < needed)
