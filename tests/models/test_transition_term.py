"""The sparse transition term of the scores, against counts made anew without the history scored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.data.transitions import count_transitions
from mqsa_jax.models.transition_term import (
    future_items,
    neighbours,
    normalised,
    past_items,
    term_init,
    transition_term,
)

V, K, SPAN, DECAY, BACK, POPULARITY = 12, 3, 2, 0.5, 0.5, 0.25
WEIGHTS = np.array([8.0, 4.8, 2.88])
"""8 times powers of 0.6."""


def histories(rng):
    """Histories without repetition: what one adds to M is then known."""
    return [rng.permutation(V)[: rng.integers(2, 8)] for _ in range(15)]


def counted(sequences):
    items = np.concatenate(sequences).astype(np.int32)
    segment = np.repeat(np.arange(len(sequences)), [len(each) for each in sequences])
    return count_transitions(
        jnp.asarray(items),
        jnp.asarray(segment, jnp.int32),
        V,
        time_span=SPAN,
        decay=DECAY,
        symmetric=BACK,
    ).trimmed()


def neighbours_of(counts, width):
    return neighbours(
        counts, width, popularity=POPULARITY, num_recent=K, time_span=SPAN, decay=DECAY
    )


def dense_counts(sequences):
    """[V, V] by visiting all pairs, without the diagonal."""
    counts = np.zeros((V, V))
    for sequence in sequences:
        for begin, item in enumerate(sequence):
            for steps, other in enumerate(sequence[begin + 1 : begin + 1 + SPAN]):
                counts[item, other] += DECAY**steps
                counts[other, item] += BACK * DECAY**steps
    return counts


@jax.jit
def dense_term(item, neighbours, target):
    segment = jnp.zeros_like(item)
    past = past_items(item, segment, K + SPAN)
    future = None if target is None else future_items(target, segment, SPAN)
    term = transition_term(term_init(8.0, 0.6, K), past, neighbours, future)
    return term.added_to(jnp.zeros((*term.item.shape[:-1], V)))


def term_of(inputs, neighbours, targets=None):
    targets = None if targets is None else jnp.asarray(targets, jnp.int32)
    return np.asarray(dense_term(jnp.asarray(inputs, jnp.int32), neighbours, targets))


def expected_term(past, counts, scale_from, scale_to):
    score = np.zeros(V)
    for weight, item in zip(WEIGHTS, past[::-1], strict=False):
        score += weight * counts[item] * scale_from[item] * scale_to
    score[past[::-1][: K + SPAN]] = 0
    return score


def test_in_training_a_history_does_not_see_what_it_adds(rng):
    sequences = histories(rng)
    counts = counted(sequences)
    _, scale_from, scale_to = normalised(counts, POPULARITY)
    neighbours = neighbours_of(counts, V)
    for number, sequence in enumerate(sequences):
        without = dense_counts(sequences[:number] + sequences[number + 1 :])
        actual = term_of(sequence[:-1], neighbours, sequence[1:])
        for last in range(len(sequence) - 1):
            expected = expected_term(sequence[: last + 1], without, scale_from, scale_to)
            np.testing.assert_allclose(actual[last], expected, rtol=1e-4, atol=1e-5)


def test_at_evaluation_all_counts_take_part(rng):
    sequences = histories(rng)
    counts = counted(sequences)
    matrix, scale_from, scale_to = normalised(counts, POPULARITY)
    whole = dense_counts(sequences)
    rows, columns = whole.sum(1)[:, None], whole.sum(0)
    damped = whole / np.maximum(rows, 1e-9) ** 0.5 / np.maximum(columns, 1e-9) ** POPULARITY
    np.testing.assert_allclose(matrix.toarray(), damped, rtol=1e-6, atol=1e-12)
    past = [3, 1, 7, 2]
    actual = term_of(past, neighbours_of(counts, V))[-1]
    np.testing.assert_allclose(
        actual, expected_term(np.array(past), whole, scale_from, scale_to), rtol=1e-5
    )


def test_the_strongest_neighbours_are_kept(rng):
    counts = counted(histories(rng))
    matrix = normalised(counts, POPULARITY)[0].toarray()
    neighbours = neighbours_of(counts, 3)
    for item in range(V):
        strongest = -np.sort(-matrix[item])[:3]
        np.testing.assert_allclose(neighbours.weight[item], strongest, rtol=1e-6)
        np.testing.assert_allclose(
            matrix[item, neighbours.item[item]], neighbours.weight[item], rtol=1e-6
        )


def test_past_and_future_stay_in_their_history():
    item = jnp.array([[10, 11, 12, 20, 21, 99]])
    target = jnp.array([[11, 12, 13, 21, 22, 99]])
    segment = jnp.array([[0, 0, 0, 1, 1, -1]])
    past = past_items(item, segment, 3)
    assert past[0, 2].tolist() == [12, 11, 10]
    assert past[0, 3].tolist() == [20, -1, -1]
    assert past[0, 4].tolist() == [21, 20, -1]
    assert past[0, 5].tolist() == [-1, -1, -1]
    future = future_items(target, segment, 3)
    assert future[0, 0].tolist() == [11, 12, 13]
    assert future[0, 2].tolist() == [13, -1, -1]
    assert future[0, 3].tolist() == [21, 22, -1]
    # More steps than the row is long.
    assert past_items(item, segment, 9)[0, 0].tolist() == [10] + [-1] * 8


@pytest.mark.parametrize("sequences", [[[0, 1]], [[4], [5]]], ids=["hardly any", "none"])
def test_few_transitions_give_numbers(sequences):
    neighbours = neighbours_of(counted([np.array(each) for each in sequences]), 4)
    term = term_of([0, 1, 2], neighbours, [1, 2, 3])
    assert np.isfinite(term).all()
    # 0 -> 1 is this history's own.
    assert not term.any()


def test_weights_are_learned(rng):
    neighbours = neighbours_of(counted(histories(rng)), V)
    past = past_items(jnp.array([1, 2, 3]), jnp.zeros(3, jnp.int32), K + SPAN)

    def total(params):
        return transition_term(params, past, neighbours).value.sum()

    params = term_init(8.0, 0.6, K)
    gradient = jax.grad(total)(params)["log_weight"]
    # The weights are exponentials: raising all logs by one multiplies the sum by e.
    np.testing.assert_allclose(gradient.sum(), total(params), rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(params["log_weight"]), WEIGHTS, rtol=1e-6)
