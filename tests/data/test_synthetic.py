"""The embedded data set holds what its recipe plants."""

# ruff: noqa: D103 - a test's name says what it shows

from dataclasses import replace

import numpy as np
import pytest

from mqsa_jax.data.synthetic import Recipe, make_catalogue, synthetic_histories

RECIPE = Recipe()


@pytest.fixture(scope="module")
def histories():
    return synthetic_histories()


@pytest.fixture(scope="module")
def catalogue():
    """The structure planted in `histories`: the first thing drawn from its seed."""
    return make_catalogue(np.random.default_rng(0), RECIPE)


def planted_items(histories) -> np.ndarray:
    """[N] the catalogue's numbers, from 0, of all items taken."""
    return histories.item_ids[histories.items] - 1


def pairs(histories, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Catalogue numbers of the items `lag` steps apart in a history: the earlier, the later."""
    user = np.repeat(np.arange(histories.num_users), histories.lengths)
    same = user[lag:] == user[:-lag]
    item = planted_items(histories)
    return item[:-lag][same], item[lag:][same]


def planted_fraction(histories, catalogue, lag: int) -> float:
    """Share of the pairs `lag` apart of which the later is a planted successor of the earlier."""
    earlier, later = pairs(histories, lag)
    return (catalogue.successors[earlier] == later[:, None]).any(1).mean()


def test_equal_seeds_give_equal_data(histories):
    again = synthetic_histories(0)
    assert again.fingerprint() == histories.fingerprint()
    assert again.items.tolist() == histories.items.tolist()


def test_other_seeds_give_other_data(histories):
    assert synthetic_histories(1).fingerprint() != histories.fingerprint()


def test_format(histories):
    assert histories.user_ids.tolist() == list(range(1, RECIPE.num_users + 1))
    assert histories.item_ids[0] >= 1
    assert histories.item_ids[-1] <= RECIPE.num_items
    assert np.unique(histories.items).tolist() == list(range(histories.num_items))
    assert histories.offsets[-1] == histories.items.size
    assert histories.lengths.min() == RECIPE.min_length == 5
    assert histories.lengths.max() <= RECIPE.max_length


def test_histories_are_short_as_in_real_data(histories):
    # The standard error of the mean of 2,500 lengths, which have a deviation of about 4.5, is 0.09.
    assert histories.lengths.mean() == pytest.approx(RECIPE.mean_length, abs=0.4)


def test_even_the_shortest_recipe_can_be_split():
    recipe = replace(RECIPE, num_users=50, min_length=1, mean_length=4.0)
    assert synthetic_histories(0, recipe).lengths.min() == 3


def test_no_user_takes_an_item_twice(histories):
    user = np.repeat(np.arange(histories.num_users), histories.lengths)
    taken = user * histories.num_items + histories.items
    assert np.unique(taken).size == taken.size


def test_popularity_has_a_long_tail(histories):
    times = np.sort(np.bincount(histories.items))[::-1]
    tenth = times.size // 10
    # Equal popularity would give the most popular tenth a tenth of the events.
    assert times[:tenth].sum() > 1.5 * times.sum() / 10


def test_successors_are_spread_evenly(catalogue):
    items = np.arange(RECIPE.num_items)
    for column in range(RECIPE.num_successors):
        assert np.sort(catalogue.successors[:, column]).tolist() == items.tolist()
    assert (catalogue.successors != items[:, None]).all()


def test_planted_transitions_occur_far_above_chance(histories, catalogue):
    # A successor is drawn with probability transition_fraction. It follows the last item with
    # probability recency, but always for the second event of a history, which has no other before.
    # Draws of items already taken, mostly of the user's clusters, are made again: a little more.
    planted = planted_fraction(histories, catalogue, 1)
    steps = histories.lengths.mean() - 1
    expected = RECIPE.transition_fraction * (1 + (steps - 1) * RECIPE.recency) / steps
    assert expected < planted < 1.15 * expected
    # Chance: S successors among V items, some of them more popular than others.
    assert planted > 10 * RECIPE.num_successors / RECIPE.num_items


def test_transitions_reach_back_as_far_as_said(histories, catalogue):
    fraction = [planted_fraction(histories, catalogue, lag) for lag in range(1, RECIPE.reach + 3)]
    within, beyond = fraction[: RECIPE.reach], fraction[RECIPE.reach :]
    assert fraction[0] == max(fraction)
    assert min(within) > 3 * max(beyond)


def test_first_successor_is_the_likeliest(histories, catalogue):
    earlier, later = pairs(histories, 1)
    times = (catalogue.successors[earlier] == later[:, None]).sum(0)
    assert times[0] > times[1] > times[2]


def test_users_stay_in_their_clusters_above_chance(histories, catalogue):
    cluster = catalogue.cluster[planted_items(histories)]
    user = np.repeat(np.arange(histories.num_users), histories.lengths)

    def fraction_of_favourite(cluster: np.ndarray) -> float:
        counts = np.zeros((histories.num_users, RECIPE.num_clusters))
        np.add.at(counts, (user, cluster), 1)
        return (counts.max(1) / histories.lengths).mean()

    shuffled = np.random.default_rng(0).permutation(cluster)
    assert fraction_of_favourite(cluster) > 1.3 * fraction_of_favourite(shuffled)


def test_interest_shows_beyond_the_reach_of_transitions(histories, catalogue):
    earlier, later = pairs(histories, RECIPE.reach + 2)
    same = (catalogue.cluster[earlier] == catalogue.cluster[later]).mean()
    assert same > 2 / RECIPE.num_clusters
