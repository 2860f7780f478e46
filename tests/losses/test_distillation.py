"""The distillation loss against the dense teacher, in float64."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.losses.distillation import distillation_loss
from mqsa_jax.losses.teacher import Teacher, transition_teacher
from tests import oracle
from tests.losses.distillation_cases import (
    TAU,
    TEACHER,
    B,
    D,
    M,
    N,
    V,
    arrays,
    assert_close,
    dense_loss,
    loss_and_gradient,
)

pytestmark = pytest.mark.usefixtures("product_path")


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_mean_and_sum_agree_with_the_dense_teacher(seed):
    student, item_vectors, item, where = arrays(seed)
    inputs = student, item_vectors, item, TEACHER, TAU
    mean = loss_and_gradient(*inputs, where=where, max_bumps=M)
    weight = where / max(where.sum(), 1)
    assert_close(mean, dense_loss(student, item_vectors, item, weight))
    total = loss_and_gradient(*inputs, where=where, max_bumps=M, reduce_fn=jnp.sum)
    assert_close(total, dense_loss(student, item_vectors, item, where.astype(float)))


def test_visible_example():
    # One item that is followed by itself: p = softmax(1/tau, 0) = (3, 1) / 4 at tau = 1 / log 3.
    tau = 1 / np.log(3)
    counts = TransitionCounts(jnp.array([0, 1, 1]), jnp.array([0]), jnp.array([2.0]))
    teacher = jax.jit(transition_teacher)(counts, tau)
    # Student's logits (log 3, 0) / tau of the first item, (0, 0) of the second, taught uniformly.
    student, items = jnp.array([[1.0], [0.0]]), jnp.array([[tau * np.log(3)], [0.0]])
    loss, _ = loss_and_gradient(student, items, jnp.array([0, 1]), teacher, tau, max_bumps=1)
    first = -(3 / 4 * np.log(3 / 4) + 1 / 4 * np.log(1 / 4))
    np.testing.assert_allclose(loss, (first + np.log(2)) / 2, rtol=1e-6)


def test_equal_items_need_one_row_weighted_by_their_count():
    rng = np.random.default_rng(0)
    item_vectors = rng.normal(size=(V, D)).astype(np.float32)
    repeated = np.array([[4, 0, 5, 0, 0, 5]], np.int32)
    distinct, count = np.array([[0, 4, 5, 1, 1, 1]], np.int32), np.array([[3.0, 1, 2, 0, 0, 0]])

    def mean_of_all(values, where):
        return (values * count).sum(where=where) / 6

    @jax.jit
    @jax.value_and_grad
    def loss_of_all(item_vectors):
        student = D**0.5 * item_vectors[repeated]
        return distillation_loss(student, item_vectors, repeated, TEACHER, TAU, max_bumps=60)

    @jax.jit
    @jax.value_and_grad
    def loss_of_distinct(item_vectors):
        return distillation_loss(
            D**0.5 * item_vectors[distinct],
            item_vectors,
            distinct,
            TEACHER,
            TAU,
            where=jnp.asarray(count > 0),
            max_bumps=14,
            reduce_fn=mean_of_all,
        )

    repeated, distinct = jnp.asarray(repeated), jnp.asarray(distinct)
    chex.assert_trees_all_close(
        loss_of_all(item_vectors), loss_of_distinct(item_vectors), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("max_bumps", [None, M])
@pytest.mark.parametrize("wrong", [V, 999, -1])
def test_an_item_that_is_none_gives_nan(wrong, max_bumps):
    student, item_vectors, item, _ = arrays(7)
    item[1, 2] = wrong
    inputs = student, item_vectors, item, TEACHER, TAU
    value, (dstudent, ditem) = loss_and_gradient(*inputs, max_bumps=max_bumps)
    assert np.isnan(value)
    assert np.isnan(dstudent[1, 2]).all()
    assert np.isnan(ditem).all()
    without = np.ones((B, N), bool)
    without[1, 2] = False
    rest = loss_and_gradient(*inputs, max_bumps=max_bumps, where=without)
    item[1, 2] = 0
    assert_close(rest, dense_loss(student, item_vectors, item, without / without.sum()))


@pytest.mark.parametrize("max_bumps", [None, M])
@pytest.mark.parametrize("wrong", [V, 999, -1])
def test_of_losses_of_rows_those_of_wrong_items_alone_are_nan(wrong, max_bumps):
    student, item_vectors, item, _ = arrays(8)

    @jax.jit
    def losses(student, item):
        return distillation_loss(
            student,
            jnp.asarray(item_vectors),
            item,
            TEACHER,
            TAU,
            max_bumps=max_bumps,
            reduce_fn=None,
        )

    right = losses(student, item)
    item[0, 4] = wrong
    at = np.zeros((B, N), bool)
    at[0, 4] = True
    value, pull = jax.vjp(lambda student: losses(student, item), student)
    np.testing.assert_array_equal(np.isnan(value), at)
    np.testing.assert_allclose(value[~at], right[~at], rtol=1e-5)
    np.testing.assert_array_equal(np.isnan(pull(jnp.ones((B, N)))[0]).any(-1), at)


@pytest.mark.parametrize("reduce_fn", [jnp.mean, None])
@pytest.mark.parametrize("tau", [0.0, -0.1, float("nan")])
def test_a_temperature_that_is_not_above_0(tau, reduce_fn):
    student, item_vectors, item, _ = map(jnp.asarray, arrays(0))

    def loss(student, tau):
        inputs = student, item_vectors, item, TEACHER, tau
        return distillation_loss(*inputs, reduce_fn=reduce_fn).sum()

    with pytest.raises(ValueError, match="tau must be above 0"):
        loss(student, tau)
    value, slope = jax.jit(jax.value_and_grad(loss))(student, tau)
    assert np.isnan(value)
    assert np.isnan(slope).all()


@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float32])
def test_mixed_precision_sums_in_float32(kind):
    student, item_vectors, item, where = arrays(6)
    rounded = jnp.asarray(student, kind)
    value, gradients = loss_and_gradient(rounded, item_vectors, item, TEACHER, TAU, where=where)
    expected = dense_loss(np.asarray(rounded, np.float32), item_vectors, item, where / where.sum())[
        0
    ]
    assert value.dtype == jnp.float32
    assert gradients[0].dtype == kind
    np.testing.assert_allclose(value, expected, rtol=0.02)


def plain_mean(values, where):
    """A mean that divides by the number of values, be it 0."""
    return (values * where).sum() / where.sum()


@pytest.mark.parametrize("reduce_fn", [jnp.mean, jnp.sum, plain_mean])
def test_nothing_that_counts_gives_zero(reduce_fn):
    student, item_vectors, item, where = arrays(3)
    value, gradients = loss_and_gradient(
        student,
        item_vectors,
        item,
        TEACHER,
        TAU,
        where=np.zeros_like(where),
        max_bumps=M,
        reduce_fn=reduce_fn,
    )
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


def test_rows_that_do_not_count_change_nothing():
    student, item_vectors, item, where = arrays(4)
    assert not where.all()
    changed = np.where(where[..., None], student, np.float32(1e3))
    other_item = np.where(where, item, 5).astype(np.int32)
    one = loss_and_gradient(student, item_vectors, item, TEACHER, TAU, where=where, max_bumps=M)
    other = loss_and_gradient(
        changed, item_vectors, other_item, TEACHER, TAU, where=where, max_bumps=M
    )
    chex.assert_trees_all_close(one, other, rtol=1e-5, atol=1e-6)
    assert not one[1][0][~where].any()


def test_a_teacher_without_transitions_is_uniform():
    student, item_vectors, item, _ = map(jnp.asarray, arrays(5))
    nothing = Teacher(jnp.full(V, 1 / V), jnp.zeros(V + 1, int), jnp.zeros(0, int), jnp.zeros(0))
    loss, _ = loss_and_gradient(student, item_vectors, item, nothing, TAU, max_bumps=0)
    logits = np.asarray(student @ item_vectors.T, np.float64) / TAU
    expected = [-oracle.log_softmax(row).mean() for row in logits.reshape(-1, V)]
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-5)


def test_gradient_by_the_temperature_of_the_student():
    student, item_vectors, item, where = arrays(6)
    weight = where / where.sum()
    slope = jax.jit(
        jax.grad(
            lambda tau: distillation_loss(
                jnp.asarray(student),
                jnp.asarray(item_vectors),
                jnp.asarray(item),
                TEACHER,
                tau,
                where=jnp.asarray(where),
                max_bumps=M,
            )
        )
    )(TAU)
    high, low = (
        dense_loss(student, item_vectors, item, weight, TAU + step)[0] for step in (1e-5, -1e-5)
    )
    np.testing.assert_allclose(slope, (high - low) / 2e-5, rtol=1e-3)


def test_vmap_and_pmap_agree():
    stacks = (np.stack(each) for each in zip(*map(arrays, range(8)), strict=True))
    student, item_vectors, item, where = stacks

    def one(student, item_vectors, item, where):
        return jax.value_and_grad(distillation_loss, argnums=(0, 1))(
            student, item_vectors, item, TEACHER, TAU, where=where, max_bumps=M
        )

    mapped = jax.jit(jax.vmap(one))(student, item_vectors, item, where)
    on_devices = jax.pmap(one)(student, item_vectors, item, where)
    chex.assert_trees_all_close(mapped, on_devices, rtol=1e-4, atol=1e-5)
    for lane in (0, 7):
        weight = where[lane] / where[lane].sum()
        assert_close(
            jax.tree.map(lambda leaf, lane=lane: leaf[lane], mapped),
            dense_loss(student[lane], item_vectors[lane], item[lane], weight),
        )


@pytest.mark.parametrize("wrong", ["student", "item_vectors", "teacher", "where"])
def test_shapes_that_do_not_agree_are_refused(wrong):
    student, item_vectors, item, where = map(jnp.asarray, arrays(0))
    shapes = {"student": student, "item_vectors": item_vectors, "where": where}
    teacher = TEACHER.replace(base=TEACHER.base[:-1]) if wrong == "teacher" else TEACHER
    if wrong in shapes:
        shapes[wrong] = shapes[wrong][..., :-1]
    with pytest.raises((AssertionError, TypeError)):
        distillation_loss(
            shapes["student"], shapes["item_vectors"], item, teacher, TAU, where=shapes["where"]
        )
