"""Counts of item-to-item transitions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from mqsa_jax.objectives.transitions import count_transitions
from tests import oracle

N, V = 24, 6

count = jax.jit(count_transitions, static_argnums=2, static_argnames=("time_span", "capacity"))


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
        expected = oracle.count_transitions(histories, V, max_len=N, time_span=time_span)
        np.testing.assert_array_equal(counts.to_scipy().toarray(), expected)

    run()


EXAMPLE = np.array([0, 1, 2, 0, 1, 3, 3, 1, 0], np.int32), np.array([0] * 5 + [1] * 4, np.int32)


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


def test_a_small_capacity_drops_the_last_pairs():
    counts = count(*EXAMPLE, 5, capacity=4)
    assert counts.row_start.tolist() == [0, 1, 3, 4, 4, 4]
    assert counts.successor.tolist() == [1, 0, 2, 0]
    assert counts.count.tolist() == [2, 1, 1, 1]


@pytest.mark.parametrize("length", [0, 1, 4])
@pytest.mark.parametrize("time_span", [1, 3])
def test_no_transitions(length, time_span):
    """Nothing, one item, and padding alone."""
    item, segment = np.zeros(length, np.int32), np.full(length, -1, np.int32)
    counts = count(item, segment, 3, time_span=time_span)
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
        expected = oracle.count_transitions(histories, V, max_len=N, time_span=2)
        alone = jax.tree.map(lambda leaf, lane=lane: leaf[lane], mapped)
        np.testing.assert_array_equal(alone.to_scipy().toarray(), expected)


def test_the_same_pair_again_and_again():
    counts = count(np.full(6, 2, np.int32), np.zeros(6, np.int32), 3)
    assert counts.to_scipy().toarray().tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 5]]
    assert jnp.sum(counts.count) == 5
