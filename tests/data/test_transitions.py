"""Counts of item-to-item transitions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from mqsa_jax.data.transitions import TransitionCounts, count_transitions
from tests import transition_oracle
from tests.data.transition_cases import EXAMPLE, SIZES, count

N, V = 24, 6


@st.composite
def packed(draw):
    """Items [N], segments [N] and the histories in them; padding anywhere between histories."""
    item, segment, histories = np.zeros(N, np.int32), np.full(N, -1, np.int32), []
    begin = 0
    while begin < N:
        end = begin + draw(st.integers(1, min(9, N - begin)))
        values = draw(st.lists(st.integers(0, V - 1), min_size=end - begin, max_size=end - begin))
        item[begin:end] = values
        if draw(st.integers(0, 3)):
            segment[begin:end] = len(histories)
            histories.append(values)
        begin = end
    return item, segment, histories


@pytest.mark.parametrize("time_span", [1, 2, 30])
def test_agrees_with_the_oracle(time_span):
    @settings(max_examples=20, deadline=None, derandomize=True)
    @given(packed())
    def run(case):
        item, segment, histories = case
        counts = count(item, segment, V, time_span=time_span)
        expected = transition_oracle.count_transitions(histories, V, max_len=N, time_span=time_span)
        np.testing.assert_array_equal(counts.to_scipy().toarray(), expected)

    run()


VARIANTS = [
    dict(decay=0.5),
    dict(symmetric=0.3),
    dict(symmetric=1.0),
    dict(popularity=0.5),
    dict(decay=0.7, symmetric=0.4, popularity=0.8),
]


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("time_span", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_variants_agree_with_the_oracle(variant, time_span, traced):
    static = {} if traced else dict(static_argnames=("num_items", "time_span", *variant))
    program = jax.jit(count_transitions, **(static or dict(static_argnames=SIZES)))

    @settings(max_examples=10, deadline=None, derandomize=True)
    @given(packed())
    def run(case):
        item, segment, histories = case
        counts = program(item, segment, num_items=V, time_span=time_span, **variant)
        options = dict(max_len=N, time_span=time_span, **variant)
        expected = transition_oracle.count_transitions(histories, V, **options)
        np.testing.assert_allclose(counts.to_scipy().toarray(), expected, rtol=1e-5)
        assert counts.to_scipy().nnz == np.count_nonzero(expected)
        assert counts.to_scipy().has_canonical_format

    run()


@pytest.mark.parametrize("time_span", [1, 3])
def test_variants_that_are_off_change_no_bit(rng, time_span):
    """Told while tracing or only then known."""
    item = rng.integers(0, V, N).astype(np.int32)
    segment = np.sort(rng.integers(-1, 4, N)).astype(np.int32)
    plain = count(item, segment, V, time_span=time_span)
    off = dict(decay=1.0, symmetric=0.0, popularity=0.0)
    traced = count(item, segment, V, time_span=time_span, **off)
    told = jax.jit(count_transitions, static_argnums=2, static_argnames=("time_span", *off))
    chex.assert_trees_all_equal(told(item, segment, V, time_span=time_span, **off), plain)
    chex.assert_trees_all_equal(traced.trimmed(), plain.trimmed())


def test_direct_successors_of_an_example():
    counts = count(*EXAMPLE, 5).trimmed()
    # 0>1 twice, 1>2, 2>0, then 3>3, 3>1, 1>0; not 1>3, which lies between two histories.
    assert counts.row_start.tolist() == [0, 1, 3, 4, 6, 6]
    assert counts.successor.tolist() == [1, 0, 2, 0, 1, 3]
    assert counts.count.tolist() == [2, 1, 1, 1, 1, 1]
    assert counts.row().tolist() == [0, 1, 1, 2, 3, 3]
    assert counts.num_items == 5


def test_two_steps_of_an_example():
    counts = count(np.array([0, 1, 2], np.int32), np.zeros(3, np.int32), 3, time_span=2)
    assert counts.to_scipy().toarray().tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0]]


def counted(**options) -> list[list[float]]:
    """Of the histories 0 1 2 and 0 1, padding between them."""
    item, segment = np.array([0, 1, 2, 0, 0, 1], np.int32), np.array([0, 0, 0, -1, 1, 1], np.int32)
    return count(item, segment, 3, **options).to_scipy().toarray().tolist()


def test_decay_of_an_example():
    assert counted(time_span=2, decay=0.25) == [[0, 2, 0.25], [0, 0, 1], [0, 0, 0]]


def test_symmetric_share_of_an_example():
    assert counted(symmetric=0.5) == [[0, 2, 0], [1, 0, 1], [0, 0.5, 0]]
    assert counted(symmetric=1.0) == [[0, 2, 0], [2, 0, 1], [0, 1, 0]]
    both = counted(time_span=2, decay=0.25, symmetric=0.5)
    assert both == [[0, 2, 0.25], [1, 0, 1], [0.125, 0.5, 0]]


def test_a_symmetric_share_of_a_repeated_item_stays_with_it():
    item, segment = np.array([1, 1], np.int32), np.zeros(2, np.int32)
    assert count(item, segment, 2, symmetric=0.5).to_scipy().toarray().tolist() == [
        [0, 0],
        [0, 1.5],
    ]


def test_popularity_of_an_example():
    # Rows sum to 2, 3, 1, and so do columns: 2 / (2 3), 1 / (3 1) and back.
    third = pytest.approx(1 / 3)
    expected = [[0, third, 0], [third, 0, third], [0, third, 0]]
    assert counted(symmetric=1.0, popularity=1.0) == expected
    # Without symmetry rows sum to 2, 1, 0 and columns to 0, 2, 1.
    root = pytest.approx(2 / (2 * 2) ** 0.5)
    assert counted(popularity=0.5) == [[0, root, 0], [0, 0, 1], [0, 0, 0]]


def test_the_normalisation_of_a_symmetric_graph_is_symmetric(rng):
    item = rng.integers(0, V, N).astype(np.int32)
    options = dict(time_span=3, symmetric=1.0, popularity=0.5)
    matrix_VV = count(item, np.zeros(N, np.int32), V, **options).to_scipy().toarray()
    np.testing.assert_allclose(matrix_VV, matrix_VV.T, rtol=1e-6)
    # Its largest eigenvalue is 1, of the vector of square roots of the sums.
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix_VV).max(), 1, rtol=1e-5)


def test_gradients_of_traced_weights_are_finite(rng):
    item = jnp.asarray(rng.integers(0, V, N), jnp.int32)
    segment = jnp.asarray(np.sort(rng.integers(-1, 4, N)), jnp.int32)

    @jax.grad
    def gradient(weights):
        return count_transitions(item, segment, V, time_span=3, **weights).count.sum()

    point = dict(decay=0.5, symmetric=0.25, popularity=0.5)
    slopes = gradient(jax.tree.map(jnp.float32, point))
    assert all(np.isfinite(slope) and slope != 0 for slope in slopes.values())


def test_what_weighs_nothing_is_no_transition():
    counts = count(*EXAMPLE, 5, time_span=2, decay=0.0, symmetric=0.0)
    chex.assert_trees_all_equal(counts.trimmed(), count(*EXAMPLE, 5).trimmed())


def test_scipy_and_back():
    for counts in (count(*EXAMPLE, 5), count(*EXAMPLE, 5, capacity=6), count(*EXAMPLE, 9)):
        back = TransitionCounts.from_scipy(counts.to_scipy())
        assert back.num_items == counts.num_items
        chex.assert_trees_all_equal(back, counts.trimmed())


def test_agrees_with_scipy(rng):
    item = rng.integers(0, V, N).astype(np.int32)
    segment = np.sort(rng.integers(0, 4, N)).astype(np.int32)
    inside = segment[1:] == segment[:-1]
    pairs = item[:-1][inside], item[1:][inside]
    expected = scipy.sparse.coo_array((np.ones(inside.sum()), pairs), shape=(V, V)).tocsr()
    counts = count(item, segment, V).to_scipy()
    assert (counts != expected).nnz == 0
    assert counts.has_canonical_format


def test_unused_capacity_is_empty_and_can_be_trimmed():
    counts = count(*EXAMPLE, 5, capacity=8)
    assert counts.count.tolist() == [2, 1, 1, 1, 1, 1, 0, 0]
    assert (counts.row() < 5).all()
    assert counts.trimmed().successor.shape == counts.trimmed().count.shape == (6,)
    chex.assert_trees_all_equal(counts.trimmed(), count(*EXAMPLE, 5).trimmed())


def test_an_exact_capacity_is_enough():
    chex.assert_trees_all_equal(count(*EXAMPLE, 5, capacity=6), count(*EXAMPLE, 5).trimmed())


def test_padding_may_hold_anything():
    item, segment = np.array([0, 1, -9, 999, 1], np.int32), np.array([0, 0, -1, -1, 1], np.int32)
    for counter in (count, count_transitions):
        assert counter(item, segment, 2).to_scipy().toarray().tolist() == [[0, 1], [0, 0]]


def test_a_matrix_of_counts_must_be_square_and_is_made_canonical():
    with pytest.raises(ValueError, match=r"\[V, V\]"):
        TransitionCounts.from_scipy(scipy.sparse.csr_array(np.ones((2, 3))))
    parts = np.array([1.0, 2.0, 4.0]), np.array([1, 0, 1]), np.array([0, 3, 3])
    counts = TransitionCounts.from_scipy(scipy.sparse.csr_array(parts, shape=(2, 2)))
    assert counts.successor.tolist() == [0, 1]
    assert counts.count.tolist() == [2, 5]


@pytest.mark.parametrize("length", [0, 1, 4])
@pytest.mark.parametrize("time_span", [1, 3])
@pytest.mark.parametrize("variant", [{}, VARIANTS[-1]], ids=str)
def test_no_transitions(length, time_span, variant):
    """Nothing, one item, and padding alone."""
    item, segment = np.zeros(length, np.int32), np.full(length, -1, np.int32)
    counts = count(item, segment, 3, time_span=time_span, **variant)
    assert counts.row_start.tolist() == [0, 0, 0, 0]
    assert not counts.count.any()
    assert counts.to_scipy().shape == (3, 3)
    assert counts.to_scipy().nnz == 0


def test_vmap_and_pmap_agree_with_the_oracle(rng):
    item = rng.integers(0, V, (8, N)).astype(np.int32)
    segment = np.sort(rng.integers(-1, 3, (8, N)), axis=1).astype(np.int32)

    def one(item, segment):
        return count_transitions(item, segment, V, time_span=2, capacity=V * V)

    mapped = jax.jit(jax.vmap(one))(item, segment)
    chex.assert_trees_all_equal(mapped, jax.pmap(one)(item, segment))
    assert mapped.num_items == V
    for lane in range(8):
        histories = [item[lane, segment[lane] == number] for number in range(3)]
        expected = transition_oracle.count_transitions(histories, V, max_len=N, time_span=2)
        alone = jax.tree.map(lambda leaf, lane=lane: leaf[lane], mapped)
        np.testing.assert_array_equal(alone.to_scipy().toarray(), expected)


def test_the_same_pair_again_and_again():
    counts = count(np.full(6, 2, np.int32), np.zeros(6, np.int32), 3)
    assert counts.to_scipy().toarray().tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 5]]
    assert jnp.sum(counts.count) == 5
