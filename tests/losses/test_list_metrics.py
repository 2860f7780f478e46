"""Metrics of lists, against hand-computed values and plain loops."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from mqsa_jax.losses import list_metrics
from mqsa_jax.losses.list_metrics import (
    coverage,
    diversity,
    gini,
    list_counts,
    novelty,
    popularity,
    self_information,
)

LISTS = np.array([[0, 1, 2], [1, 3, -1], [-1, -1, -1], [1, 0, 4]], np.int32)
"""Of six items; one list ends early, one is empty."""
USERS_V = np.array([8, 4, 1, 0, 2, 16])
NUM_USERS = 16
ITEM_VD = np.array([[1, 0], [0, 2], [-3, 0], [0, 0], [1, 1], [5, 5]], np.float32)


def random_case(rng, users=50, num_items=17, width=6):
    lists = np.stack([rng.permutation(num_items)[:width] for _ in range(users)]).astype(np.int32)
    for row, kept in zip(lists, rng.integers(0, width + 1, users), strict=True):
        row[kept:] = -1
    return lists, rng.integers(0, 30, num_items), rng.normal(size=(num_items, 4))


def items_of(row, k):
    return [item for item in row[:k].tolist() if item >= 0]


def test_hand_computed_values():
    assert list_counts(LISTS, 2, 6).tolist() == [2, 3, 0, 1, 0, 0]
    assert list_counts(LISTS, 3, 6).tolist() == [2, 3, 1, 1, 1, 0]
    assert coverage(LISTS, 1, 6) == 2 / 6 and coverage(LISTS, 3, 6) == 5 / 6
    # Lists without an item do not count: ((8 + 4 + 1) / 3 + (4 + 0) / 2 + (4 + 8 + 2) / 3) / 3.
    assert popularity(LISTS, 3, USERS_V) == pytest.approx((13 / 3 + 2 + 14 / 3) / 3)
    # Bits 1, 2, 4, 4, 3 and 0; the item that nobody consumed has those of one user.
    assert self_information(USERS_V, NUM_USERS).tolist() == [1, 2, 4, 4, 3, 0]
    expected = ((1 + 2 + 4) / 3 + (2 + 4) / 2 + (2 + 1 + 3) / 3) / 3
    assert novelty(LISTS, 3, USERS_V, NUM_USERS) == pytest.approx(expected)
    # Distances: 0-1 is 1, 0-2 is 2, 1-2 is 1; a vector of zeros is at 1; 0-4 and 1-4 are 1 - .5^.5.
    expected = ((1 + 2 + 1) / 3 + 1 + (1 + 2 * (1 - 0.5**0.5)) / 3) / 3
    assert diversity(LISTS, 3, ITEM_VD) == pytest.approx(expected)
    assert diversity(LISTS, 1, ITEM_VD) == 0


def test_hand_computed_gini():
    assert gini(np.array([2, 2, 2])) == 0 and gini(np.zeros(3)) == 0
    assert gini(np.array([5, 0, 0, 0, 0])) == pytest.approx(1 - 1 / 5)
    # Ascending 1, 3: (-1 · 1 + 1 · 3) / (2 · 4).
    assert gini(np.array([3, 1])) == 0.25


@pytest.mark.parametrize("block", [1, 7, 4096])
@pytest.mark.parametrize("k", [1, 2, 6])
def test_values_of_users_agree_with_loops(rng, monkeypatch, k, block):
    monkeypatch.setattr(list_metrics, "BLOCK_USERS", block)
    lists, users_V, item_VD = random_case(rng)
    arps, bits, distances = [], [], []
    for row in lists:
        items = items_of(row, k)
        share = [max(users_V[item], 1) / 40 for item in items]
        arps.append(np.mean(users_V[items]) if items else 0)
        bits.append(np.mean([-np.log2(p) for p in share]) if items else 0)
        pairs = [
            1 - item_VD[i] @ item_VD[j] / np.linalg.norm(item_VD[i]) / np.linalg.norm(item_VD[j])
            for i, j in itertools.combinations(items, 2)
        ]
        distances.append(np.mean(pairs) if pairs else 0)
    calls = {
        "popularity": (popularity, (users_V,), arps, 1),
        "novelty": (novelty, (users_V, 40), bits, 1),
        "diversity": (diversity, (item_VD,), distances, 2),
    }
    sizes = np.array([len(items_of(row, k)) for row in lists])
    for fn, arguments, expected, fewest in calls.values():
        each = fn(lists, k, *arguments, reduce_fn=None)
        np.testing.assert_allclose(each, expected, rtol=1e-9, atol=1e-12)
        counts = sizes >= fewest
        mean = np.mean(np.array(expected)[counts]) if counts.any() else 0
        assert fn(lists, k, *arguments) == pytest.approx(mean)
        where = rng.random(len(lists)) < 0.5
        total = fn(lists, k, *arguments, where=where, reduce_fn=np.sum)
        assert total == pytest.approx(np.array(expected)[where & counts].sum())
    shown = [item for row in lists for item in items_of(row, k)]
    assert coverage(lists, k, 17) == len(set(shown)) / 17
    assert list_counts(lists, k, 17).tolist() == [shown.count(item) for item in range(17)]


def test_gini_agrees_with_mean_differences(rng):
    """The Gini coefficient is half the mean difference of two items, relative to the mean."""
    for _ in range(5):
        value_V = rng.integers(0, 9, 30)
        differences = np.abs(value_V[:, None] - value_V[None, :]).mean()
        assert gini(value_V) == pytest.approx(differences / (2 * value_V.mean()))


def test_only_some_users_count():
    where = np.array([True, False, True, False])
    assert popularity(LISTS, 3, USERS_V, where=where) == pytest.approx(13 / 3)
    assert coverage(LISTS, 3, 6, where=where) == 0.5
    nobody = np.zeros(4, bool)
    assert coverage(LISTS, 3, 6, where=nobody) == 0
    for fn, arguments in ((popularity, (USERS_V,)), (diversity, (ITEM_VD,))):
        assert fn(LISTS, 3, *arguments, where=nobody) == 0


@pytest.mark.parametrize("k", [0, -1, 4])
def test_a_cutoff_outside_the_lists_is_refused(k):
    for fn, arguments in ((coverage, (6,)), (popularity, (USERS_V,)), (diversity, (ITEM_VD,))):
        with pytest.raises(ValueError, match=f"k must be between 1 and 3, but is {k}"):
            fn(LISTS, k, *arguments)


@pytest.mark.parametrize("wrong", [-2, 6])
def test_an_item_outside_the_vocabulary_is_refused(wrong):
    lists = np.where(LISTS == 4, np.int32(wrong), LISTS)
    for fn, arguments in ((coverage, (6,)), (popularity, (USERS_V,)), (diversity, (ITEM_VD,))):
        with pytest.raises(ValueError, match="items must be -1 to 5"):
            fn(lists, 1, *arguments)


def test_not_a_number_propagates():
    item_VD = ITEM_VD.copy()
    item_VD[4] = np.nan
    assert np.isnan(diversity(LISTS, 3, item_VD)) and not np.isnan(diversity(LISTS, 2, item_VD))


def test_the_host_needs_no_jax():
    code = "import sys; from mqsa_jax.losses import list_metrics; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
