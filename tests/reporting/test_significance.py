"""Tests of difference, on data whose answer is known."""

import numpy as np
import pytest
import scipy.stats

from mqsa_jax.reporting.significance import bootstrap, compare, holm, wilcoxon


def test_holm_by_hand():
    # Ascending: 0.005 × 4, 0.01 × 3, 0.03 × 2, then 0.04 × 1 raised to the 0.06 before it.
    corrected = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(corrected, [0.03, 0.06, 0.06, 0.02])


def test_holm_ends():
    np.testing.assert_allclose(holm(np.array([0.9, 0.6])), [1, 1])
    np.testing.assert_allclose(holm(np.array([0.02])), [0.02])
    assert holm(np.array([])).size == 0


def test_bootstrap_is_that_of_the_normal_approximation(rng):
    difference_U = rng.normal(0.3, 1.0, 4000)
    low, high, p = bootstrap(difference_U)
    half = 1.96 * difference_U.std() / 4000**0.5
    assert low == pytest.approx(difference_U.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(difference_U.mean() + half, abs=0.1 * half)
    assert p == 2 / 10_001  # no mean of 10,000 is below 0


def test_bootstrap_p_is_that_of_the_t_test(rng):
    difference_U = rng.normal(0.02, 1.0, 4000)
    expected = scipy.stats.ttest_1samp(difference_U, 0).pvalue
    assert 0.02 < expected < 0.9
    assert bootstrap(difference_U)[2] == pytest.approx(expected, abs=0.02)
    assert bootstrap(-difference_U)[2] == pytest.approx(expected, abs=0.02)


def test_bootstrap_is_repeatable_and_blocks_do_not_exceed(rng):
    difference_U = rng.normal(size=50)
    assert bootstrap(difference_U) == bootstrap(difference_U)
    assert bootstrap(difference_U) != bootstrap(difference_U, seed=1)
    # Of ones every resample's mean is 1, also over several blocks.
    assert bootstrap(np.ones(700_000), resamples=3) == (1.0, 1.0, 2 / 4)


def test_wilcoxon_by_hand():
    # All of 5 differences positive, no ties: 2 of the 2^5 sign patterns are as extreme.
    assert wilcoxon(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == pytest.approx(2 / 32)
    assert wilcoxon(np.zeros(9)) == 1.0


@pytest.mark.parametrize(("gain", "found"), [(0.05, True), (0.0, False)])
def test_a_true_difference_is_found_and_none_is_not(rng, gain, found):
    full_U = rng.random(3000)
    own_U = full_U + gain + rng.normal(0, 0.2, 3000)
    result = compare(own_U, full_U, -own_U, -full_U)
    low, high = result["interval"]
    assert (low > 0) == found and (low <= 0 <= high) != found
    assert (result["p_mean"] < 1e-3) == found
    assert (result["p_ndcg"] < 1e-6) == found and (result["p_rank"] < 1e-6) == found
    assert result["difference"] == pytest.approx((own_U - full_U).mean())
    assert (result["better"] > 0.55) == found


def test_ties_count_by_halves():
    same, lower, higher = [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 2.0], [1.0, 1.0, 1.0, 1.0]
    # Two ties, one better, one worse: (2 / 2 + 1) / 4.
    result = compare(*map(np.array, (same, same, lower, higher)))
    assert result["better"] == 0.5 and result["p_ndcg"] == 1.0
