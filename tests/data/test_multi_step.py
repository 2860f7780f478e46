"""Paths of several transitions."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from mqsa_jax.data import multi_step as module
from mqsa_jax.data.multi_step import multi_step
from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.losses.teacher import teacher_probabilities, transition_teacher
from tests import transition_oracle

V = 9


def sparse(rows) -> TransitionCounts:
    return TransitionCounts.from_scipy(scipy.sparse.csr_array(np.asarray(rows, float)))


def dense(counts: TransitionCounts) -> np.ndarray:
    return counts.to_scipy().toarray()


def random_counts(rng) -> np.ndarray:
    """[V, V] with empty rows and items followed by themselves."""
    counts_VV = rng.integers(1, 6, (V, V)) * (rng.random((V, V)) < 0.3) * 0.5
    counts_VV[3] = 0
    counts_VV[5, 5] = 2
    return counts_VV


@pytest.mark.parametrize("block", [1, 4, 256])
@pytest.mark.parametrize(("steps", "decay"), [(2, 1.0), (2, 0.5), (3, 0.7), (5, 0.9)])
def test_agrees_with_the_oracle(rng, monkeypatch, steps, decay, block):
    monkeypatch.setattr(module, "BLOCK", block)
    for _ in range(5):
        counts_VV = random_counts(rng)
        paths = multi_step(sparse(counts_VV), steps, decay)
        expected = transition_oracle.multi_step(counts_VV, steps, decay)
        np.testing.assert_allclose(dense(paths), expected, rtol=1e-6)
        assert paths.to_scipy().has_canonical_format
        assert paths.successor.shape == paths.count.shape == (np.count_nonzero(expected),)


def test_paths_of_an_example():
    # 0 goes to 1; 1 to 2 in three of four cases, else back to 0; 2 to 0.
    counts = sparse([[0, 8, 0], [1, 0, 3], [2, 0, 0]])
    # Of 8 paths from 0, 6 reach 2, and 2 come back. Of 4 from 1, the 3 by way of 2 reach 0,
    # the one by way of 0 comes back. The 2 from 2 reach 1.
    assert dense(multi_step(counts, 2)).tolist() == [[0, 8, 6], [4, 0, 3], [2, 2, 0]]
    half = dense(multi_step(counts, 2, decay=0.5))
    assert half.tolist() == [[0, 8, 3], [2.5, 0, 3], [2, 1, 0]]
    # A third step leads back from 0 and 1; of 2 paths from 2, one of four goes on to 0.
    assert dense(multi_step(counts, 3)).tolist() == [[0, 8, 6], [4, 0, 3], [2.5, 2, 0]]


def test_a_chain_decays_with_every_step():
    chain = np.diag([1.0, 1.0, 1.0], k=1)
    paths = dense(multi_step(sparse(chain), 3, decay=0.5))
    assert paths.tolist() == [[0, 1, 0.5, 0.25], [0, 0, 1, 0.5], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_the_largest_entries_of_a_row_are_kept():
    # 0 goes to 1 alone; from there 2 is least, 3 and 5 are most probable.
    rows = np.zeros((6, 6))
    rows[0, 1], rows[1, 2:6] = 10, [1, 3, 2, 4]
    counts = sparse(rows)
    assert dense(multi_step(counts, 2, keep=9))[0].tolist() == [0, 10, 1, 3, 2, 4]
    assert dense(multi_step(counts, 2, keep=2))[0].tolist() == [0, 10, 0, 3, 0, 4]
    assert dense(multi_step(counts, 2, keep=1))[0].tolist() == [0, 10, 0, 0, 0, 4]
    # The transitions themselves all stay.
    assert dense(multi_step(counts, 2, keep=1))[1].tolist() == rows[1].tolist()


def test_of_equal_entries_the_first_are_kept():
    rows = np.zeros((6, 6))
    rows[0, 1], rows[1, 2:6] = 8, [2, 1, 2, 2]
    paths = dense(multi_step(sparse(rows), 2, keep=2))
    np.testing.assert_allclose(paths[0], [0, 8, 16 / 7, 0, 16 / 7, 0], rtol=1e-6)


def test_a_term_is_formed_from_what_was_kept_of_the_one_before():
    # 0 > 1, then 2 (more probable) or 3; 2 > 4, 3 > 5.
    rows = np.zeros((6, 6))
    rows[0, 1], rows[1, 2], rows[1, 3], rows[2, 4], rows[3, 5] = 4, 3, 1, 1, 1
    assert dense(multi_step(sparse(rows), 3))[0].tolist() == [0, 4, 3, 1, 3, 1]
    assert dense(multi_step(sparse(rows), 3, keep=1))[0].tolist() == [0, 4, 3, 0, 3, 0]


def test_one_step_changes_nothing(rng):
    counts = sparse(random_counts(rng))
    assert multi_step(counts, 1, 0.5) is counts


def test_no_transitions():
    paths = multi_step(sparse(np.zeros((3, 3))), 3)
    assert paths.row_start.tolist() == [0, 0, 0, 0]
    assert paths.count.tolist() == [0]


def test_unused_capacity_is_dropped():
    counts = TransitionCounts(
        jnp.array([0, 1, 2]), jnp.array([1, 0, 0, 0]), jnp.array([2.0, 1, 0, 0])
    )
    chex.assert_trees_all_equal(multi_step(counts, 3), counts.trimmed())


def test_the_teacher_learns_from_paths(rng):
    counts_VV = random_counts(rng)
    teacher = transition_teacher(multi_step(sparse(counts_VV), 3, 0.6), 0.2)
    expected = transition_oracle.teacher_probabilities(
        transition_oracle.multi_step(counts_VV, 3, 0.6), tau=0.2
    )
    np.testing.assert_allclose(teacher_probabilities(teacher), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "keep"), [((0,), 64), ((-1,), 64), ((2,), 0), ((2,), -3), ((1,), 0)]
)
def test_sizes_below_1_are_refused(rng, arguments, keep):
    with pytest.raises(ValueError, match="at least 1"):
        multi_step(sparse(random_counts(rng)), *arguments, keep=keep)


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.5, float("nan")])
def test_a_decay_outside_its_range_is_refused(rng, decay):
    with pytest.raises(ValueError, match="decay must be above 0"):
        multi_step(sparse(random_counts(rng)), 2, decay)


def test_counts_that_are_nan_are_refused():
    counts = TransitionCounts(jnp.array([0, 1, 1]), jnp.array([1]), jnp.array([jnp.nan]))
    with pytest.raises(ValueError, match="NaN"):
        multi_step(counts, 2)
