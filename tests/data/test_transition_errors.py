"""Wrong input of the transition counts is refused, or gives NaN where it is traced."""

import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.data.transitions import count_transitions
from mqsa_jax.losses.teacher import teacher_probabilities, transition_teacher
from tests.data.transition_cases import EXAMPLE, count


@pytest.mark.parametrize("capacity", [1, 4, 5])
@pytest.mark.parametrize("popularity", [0.0, 0.5])
def test_a_capacity_too_small_gives_nan(capacity, popularity):
    counts = count(*EXAMPLE, 5, capacity=capacity, popularity=popularity)
    assert np.isnan(counts.count).all()
    assert np.isnan(teacher_probabilities(transition_teacher(counts, 0.5))).all()
    for read in (counts.trimmed, counts.to_scipy):
        with pytest.raises(ValueError, match="NaN.*capacity"):
            read()


def wrong_item(wrong, at=4):
    item, segment = (array.copy() for array in EXAMPLE)
    item[at] = wrong
    return item, segment


@pytest.mark.parametrize("at", [0, 4, 8])
@pytest.mark.parametrize("wrong", [5, 999, -1])
@pytest.mark.parametrize("options", [{}, dict(time_span=3, popularity=0.5, symmetric=0.5)], ids=str)
def test_an_item_that_is_none_gives_nan_where_traced(wrong, at, options):
    counts = count(*wrong_item(wrong, at), 5, **options)
    assert np.isnan(counts.count).all()
    assert np.isnan(teacher_probabilities(transition_teacher(counts, 0.5))).all()
    with pytest.raises(ValueError, match="NaN"):
        counts.trimmed()


@pytest.mark.parametrize("wrong", [5, 999, -1])
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_an_item_that_is_none_is_refused_where_it_is_known(wrong, kind):
    item, segment = map(kind, wrong_item(wrong))
    with pytest.raises(ValueError, match=f"items must be 0 to 4, but are .*{wrong}"):
        count_transitions(item, segment, 5)


def test_items_counted_from_1_are_refused():
    item, segment = EXAMPLE
    with pytest.raises(ValueError, match="items must be 0 to 3, but are 1 to 4"):
        count_transitions(item + 1, segment, 4)


def test_a_history_of_one_wrong_item_is_refused_too():
    item, segment = jnp.array([0, 1, 7], jnp.int32), jnp.array([0, 0, 1], jnp.int32)
    with pytest.raises(ValueError, match="items must be"):
        count_transitions(item, segment, 3)
    assert np.isnan(count(item, segment, 3).count).all()


@pytest.mark.parametrize("which", [0, 1])
def test_items_and_segments_must_be_integers_of_one_length(which):
    arrays = list(EXAMPLE)
    arrays[which] = arrays[which] + 0.5
    for counter in (count, count_transitions):
        with pytest.raises((ValueError, TypeError)):
            counter(*arrays, 5)
    arrays[which] = EXAMPLE[which][:-1]
    with pytest.raises((ValueError, TypeError)):
        count(*arrays, 5)


@pytest.mark.parametrize("wrong", [2**31, 2**32, -(2**31) - 1])
def test_segment_ids_beyond_32_bits_are_refused(wrong):
    item, segment = EXAMPLE[0], EXAMPLE[1].astype(np.int64)
    segment[5:] = wrong
    with pytest.raises(ValueError, match="32 bits"):
        count_transitions(item, segment, 5)


@pytest.mark.parametrize(
    "options",
    [dict(time_span=0), dict(time_span=-1), dict(capacity=0), dict(decay=-0.5), dict(decay=1.5)]
    + [dict(symmetric=-0.1), dict(symmetric=2.0), dict(popularity=-1.0)]
    + [dict(decay=float("nan")), dict(num_items=0)],
    ids=str,
)
def test_options_outside_their_range_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        count_transitions(*map(jnp.asarray, EXAMPLE), **{"num_items": 5, **options})


@pytest.mark.parametrize(
    "option", [dict(decay=-0.5), dict(symmetric=2.0), dict(popularity=-1.0), dict(decay=np.nan)]
)
def test_traced_options_outside_their_range_give_nan(option):
    assert np.isnan(count(*EXAMPLE, 5, time_span=2, **option).count).all()
