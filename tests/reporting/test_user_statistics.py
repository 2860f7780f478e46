"""Statistics of ranks, groups of users and lists, on data small enough to count by eye."""

import numpy as np
import pytest

from mqsa_jax.data import breakdown
from mqsa_jax.data.histories import make_histories
from mqsa_jax.inference.stored_ranks import ndcg_at_20
from mqsa_jax.losses.list_metrics import gini
from mqsa_jax.reporting.user_statistics import list_statistics, log_rank

# The last two items of each history are held out: training sees 1 2, 1 2 3, 3 1 2 and 4.
HISTORIES = make_histories(
    [10, 20, 30, 40],
    [[1, 2, 1, 2], [1, 2, 3, 2, 3], [3, 1, 2, 3, 4], [4, 1, 2]],
)


def test_transitions_seen_in_training():
    # Asked for: 1→2 (seen three times), 2→3 (once), 3→4 (never), 1→2 again.
    assert breakdown.transition_counts(HISTORIES, max_len=50).tolist() == [3, 1, 0, 3]


def test_transitions_in_the_window_that_training_reads():
    # With 2 items a history: 1 2, 2 3, 1 2 and 4.
    assert breakdown.transition_counts(HISTORIES, max_len=2).tolist() == [2, 1, 0, 2]


def test_no_transition_at_all():
    histories = make_histories([1], [[1, 2, 3]])
    assert breakdown.transition_counts(histories, max_len=50).tolist() == [0]


def test_transition_groups():
    names, group_U = breakdown.transition_groups(np.array([0, 1, 2, 3, 5, 6, 99]))
    assert names == ["0", "1", "2", "3-5", ">5"]
    assert group_U.tolist() == [0, 1, 2, 3, 3, 4, 4]


def test_popularity_groups_are_of_equal_size():
    names, group_U = breakdown.popularity_groups(np.arange(10), 5)
    assert names == ["0-1", "2-3", "4-5", "6-7", "8-9"]
    assert group_U.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_equal_counts_stay_in_one_group():
    names, group_U = breakdown.popularity_groups(np.array([1, 1, 1, 1, 7]), 5)
    assert names == ["1", "7"] and group_U.tolist() == [0, 0, 0, 0, 1]


def test_means_of_ndcg_by_group():
    # Ranks 1, 3, 21: 1, 1 / log2(4), and 0 beyond the first 20.
    means = breakdown.group_means(ndcg_at_20(np.array([1.0, 3.0, 21.0])), np.array([0, 0, 2]), 3)
    assert means == [0.75, None, 0.0]


def test_list_statistics_by_hand():
    # Items 0 and 1 are shown to two users each, item 2 and 3 never; counts 3, 1, 0, 0.
    statistics = list_statistics(np.array([[0, 1], [1, 0]]), np.array([3, 1, 0, 0]))
    assert statistics["coverage"] == 0.5
    assert statistics["novelty"] == pytest.approx((1 + 2) / 2)  # -log2 of 4 / 8 and 2 / 8
    assert statistics["arp"] == 2.0
    assert statistics["gini"] == pytest.approx(0.5)
    assert statistics["filled"] == 1.0


def test_slots_without_an_item_count_for_nothing():
    count_V = np.array([3, 1, 0, 0])
    statistics = list_statistics(np.array([[0, 1], [1, -1]]), count_V)
    assert statistics["filled"] == 0.75
    assert statistics["arp"] == pytest.approx((3 + 1 + 1) / 3)
    # Shown 0, 0, 1, 2 times, ascending: (1 * (2 * 3 - 5) + 2 * (2 * 4 - 5)) / (4 * 3).
    assert statistics["gini"] == pytest.approx(7 / 12)


def test_gini_is_the_mean_difference_over_twice_the_mean(rng):
    value_V = rng.integers(0, 9, 30)
    mean_difference = np.abs(value_V[:, None] - value_V).mean()
    assert gini(value_V) == pytest.approx(mean_difference / (2 * value_V.mean()))


def test_lists_without_any_item():
    statistics = list_statistics(np.full((2, 3), -1), np.array([3, 1]))
    assert statistics == {"coverage": 0, "novelty": 0, "arp": 0, "gini": 0, "filled": 0}


def test_a_target_that_can_never_be_recommended_ranks_behind_all_items():
    rank_U = np.array([1.0, 8.0, np.inf])
    # Its rank V + 1 = 8 is within the first 20, but it is no hit.
    assert ndcg_at_20(rank_U).tolist()[::2] == [1.0, 0.0]
    assert log_rank(rank_U, num_items=7).tolist() == [0.0, 3.0, 3.0]
    assert (log_rank(rank_U, 100) < log_rank(np.array([np.inf]), 100)[0])[:2].all()
