"""The transition teacher's soft labels."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.losses.teacher import teacher_probabilities, transition_teacher
from tests import transition_oracle

V, M = 7, 30


@jax.jit
def probabilities(counts, tau):
    return teacher_probabilities(transition_teacher(counts, tau))


def random_counts(rng, density=0.4):
    """Dense counts [V, V] with at least one row empty, and the same with M entries of capacity."""
    dense = rng.poisson(3, (V, V)) * (rng.random((V, V)) < density)
    dense[rng.integers(V)] = 0
    row, successor = np.nonzero(dense)
    row, successor = row[:M], successor[:M]
    kept = np.zeros((V, V))
    kept[row, successor] = dense[row, successor]
    padding = (0, M - row.size)
    counts = TransitionCounts(
        row_start=jnp.asarray(np.searchsorted(row, np.arange(V + 1)), jnp.int32),
        successor=jnp.asarray(np.pad(successor, padding), jnp.int32),
        count=jnp.asarray(np.pad(kept[row, successor], padding), jnp.float32),
    )
    return kept, counts


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), tau=st.sampled_from([0.005, 0.05, 0.1, 1.0, 20.0]))
def test_agrees_with_the_oracle(seed, tau):
    dense, counts = random_counts(np.random.default_rng(seed))
    teacher_VV = np.asarray(probabilities(counts, tau))
    np.testing.assert_allclose(teacher_VV.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(
        teacher_VV, transition_oracle.teacher_probabilities(dense, tau), atol=1e-6
    )


def test_visible_example():
    counts = TransitionCounts(
        jnp.array([0, 2, 2, 2]), jnp.array([0, 1, 0]), jnp.array([2.0, 4.0, 0.0])
    )
    # Row 0: weights 1/2, 1, 0 at tau = 1/2: e, e^2, 1 over their sum; the other rows are uniform.
    total = np.e + np.e**2 + 1
    teacher = jax.jit(transition_teacher)(counts, 0.5)
    np.testing.assert_allclose(teacher.base, [1 / total, 1 / 3, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(
        teacher.bump, [(np.e - 1) / total, (np.e**2 - 1) / total, 0], rtol=1e-6
    )
    expected = [[np.e / total, np.e**2 / total, 1 / total], [1 / 3] * 3, [1 / 3] * 3]
    np.testing.assert_allclose(teacher_probabilities(teacher), expected, rtol=1e-6)


def test_the_teacher_has_the_sparsity_of_the_counts(rng):
    _, counts = random_counts(rng)
    teacher = jax.jit(transition_teacher)(counts, 0.1)
    np.testing.assert_array_equal(teacher.row_start, counts.row_start)
    np.testing.assert_array_equal(teacher.successor, counts.successor)
    assert teacher.bump.shape == counts.count.shape
    used = int(counts.row_start[-1])
    assert (teacher.bump[:used] > 0).all()
    assert not teacher.bump[used:].any()


def test_rows_without_transitions_are_uniform(rng):
    dense, counts = random_counts(rng)
    empty = ~dense.any(-1)
    assert empty.any()
    np.testing.assert_allclose(probabilities(counts, 0.005)[empty], 1 / V, rtol=1e-6)


@pytest.mark.parametrize("length", [0, 4])
def test_no_transitions_at_all(length):
    counts = TransitionCounts(jnp.zeros(4, int), jnp.zeros(length, int), jnp.zeros(length))
    np.testing.assert_allclose(probabilities(counts, 0.1), np.full((3, 3), 1 / 3), rtol=1e-6)


def test_a_tiny_temperature_leaves_the_most_frequent(rng):
    dense, counts = random_counts(rng)
    teacher_VV = np.asarray(probabilities(counts, 0.005))
    peak = dense == dense.max(-1, keepdims=True)
    # The second weight is at most 1 - 1/max: exp(-200 / max) of the first.
    expected = peak / peak.sum(-1, keepdims=True)
    np.testing.assert_allclose(teacher_VV, expected, atol=1e-6)


@pytest.mark.parametrize("tau", [0.005, 0.1, 2.0])
def test_gradient_by_the_temperature(rng, tau):
    dense, counts = random_counts(rng)
    direction = rng.normal(size=(V, V))
    slope = jax.jit(jax.grad(lambda tau: (probabilities(counts, tau) * direction).sum()))(tau)
    step = 1e-6 * tau
    high, low = (
        transition_oracle.teacher_probabilities(dense, tau + sign * step) for sign in (1, -1)
    )
    expected = ((high - low) * direction).sum() / (2 * step)
    assert np.isfinite(slope)
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-3)


def test_some_rows_alone(rng):
    _, counts = random_counts(rng)
    teacher = jax.jit(transition_teacher)(counts, 0.1)
    rows = teacher_probabilities(teacher, jnp.array([5, 0, 5]))
    np.testing.assert_array_equal(rows, teacher_probabilities(teacher)[np.array([5, 0, 5])])


def test_vmap_and_pmap_agree(rng):
    _, counts = random_counts(rng)
    tau = jnp.linspace(0.05, 1.0, 8)
    expected = jnp.stack([probabilities(counts, each) for each in tau])
    mapped = jax.jit(jax.vmap(probabilities, in_axes=(None, 0)))(counts, tau)
    on_devices = jax.pmap(probabilities, in_axes=(None, 0))(counts, tau)
    chex.assert_trees_all_close(mapped, on_devices, expected, atol=1e-6)


@pytest.mark.parametrize("tau", [0.0, -0.1, float("nan")])
def test_a_temperature_that_is_not_above_0(rng, tau):
    _, counts = random_counts(rng)
    with pytest.raises(ValueError, match="tau must be above 0"):
        transition_teacher(counts, tau)
    assert np.isnan(probabilities(counts, tau)).all()
    slope = jax.jit(jax.grad(lambda tau: probabilities(counts, tau)[0, 0]))(jnp.float32(tau))
    assert np.isnan(slope)


WRONG = {
    "count that is NaN": dict(count=[1.0, np.nan]),
    "negative count": dict(count=[1.0, -1.0]),
    "infinite count": dict(count=[1.0, np.inf]),
    "successor beyond the last item": dict(successor=[1, 3]),
    "negative successor": dict(successor=[-1, 2]),
    "rows that end behind the last entry": dict(row_start=[0, 1, 2, 5]),
    "rows that begin behind the first entry": dict(row_start=[1, 1, 2, 2]),
    "rows that end before they begin": dict(row_start=[0, 2, 1, 2]),
    "transition behind the last row": dict(row_start=[0, 1, 1, 1]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_rows_sum_to_1_or_are_nan(wrong):
    parts = dict(row_start=[0, 1, 2, 2], successor=[1, 2], count=[1.0, 3.0])
    kinds = dict(row_start=jnp.int32, successor=jnp.int32, count=jnp.float32)

    def counts(parts):
        return TransitionCounts(**{name: jnp.array(parts[name], kinds[name]) for name in parts})

    np.testing.assert_allclose(probabilities(counts(parts), 0.5).sum(-1), 1, rtol=1e-6)
    sums_V = np.asarray(probabilities(counts({**parts, **WRONG[wrong]}), 0.5).sum(-1))
    assert np.isnan(sums_V).any()
    np.testing.assert_allclose(sums_V[~np.isnan(sums_V)], 1, rtol=1e-6)


def test_rows_of_items_that_there_are_not_are_nan(rng):
    _, counts = random_counts(rng)
    teacher = jax.jit(transition_teacher)(counts, 0.1)
    rows = teacher_probabilities(teacher, jnp.array([V, 0, -1, 999, V - 1]))
    assert np.isnan(rows[jnp.array([0, 2, 3])]).all()
    np.testing.assert_allclose(rows[jnp.array([1, 4])].sum(-1), 1, rtol=1e-5)
