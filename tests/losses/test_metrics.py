"""HR@K, NDCG@K and reciprocal rank of one relevant item a user."""

import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqsa_jax.losses.metrics import hit_rate, ndcg, reciprocal_rank, summarise
from tests import ranking_oracle

METRICS = {
    "hit_rate": lambda rank, **keywords: hit_rate(rank, 5, **keywords),
    "ndcg": lambda rank, **keywords: ndcg(rank, 5, **keywords),
    "reciprocal_rank": reciprocal_rank,
}
ORACLE = {
    "hit_rate": lambda rank: ranking_oracle.hit_rate(rank, 5),
    "ndcg": lambda rank: ranking_oracle.ndcg(rank, 5),
    "reciprocal_rank": ranking_oracle.reciprocal_rank,
}
JITTED = {name: jax.jit(metric, static_argnames="reduce_fn") for name, metric in METRICS.items()}
RANK = np.array([1.0, 2.0, 3.0, 5.0, 5.5, 6.0, 700.0, 4.5], np.float32)
"""Halves are ties: 5.5 is no hit at 5, 4.5 is one."""
EACH = {
    "hit_rate": [1, 1, 1, 1, 0, 0, 0, 1],
    "ndcg": [1, 1 / np.log2(3), 1 / 2, 1 / np.log2(6), 0, 0, 0, 1 / np.log2(5.5)],
    "reciprocal_rank": [1, 1 / 2, 1 / 3, 1 / 5, 1 / 5.5, 1 / 6, 1 / 700, 1 / 4.5],
}

every_metric = pytest.mark.parametrize("name", METRICS)


@every_metric
def test_values_of_users(name):
    np.testing.assert_allclose(JITTED[name](RANK, reduce_fn=None), EACH[name], rtol=1e-6)


@every_metric
def test_mean_and_sum(name):
    np.testing.assert_allclose(JITTED[name](RANK), sum(EACH[name]) / 8, rtol=1e-6)
    np.testing.assert_allclose(JITTED[name](RANK, reduce_fn=jnp.sum), sum(EACH[name]), rtol=1e-6)


@every_metric
@settings(max_examples=15, deadline=None, derandomize=True)
@given(doubled=st.lists(st.integers(2, 30), min_size=8, max_size=8))
def test_agrees_with_the_oracle(name, doubled):
    rank = np.array(doubled, np.float32) / 2
    np.testing.assert_allclose(JITTED[name](rank), ORACLE[name](rank), rtol=1e-5)


@every_metric
@pytest.mark.parametrize("keywords", [{}, {"reduce_fn": None}, {"where": RANK != 2}])
def test_ranks_on_the_host_stay_there(name, keywords):
    value = METRICS[name](RANK, **keywords)
    assert isinstance(value, np.ndarray)
    np.testing.assert_allclose(value, METRICS[name](jnp.asarray(RANK), **keywords), rtol=1e-6)


@every_metric
def test_only_some_users_count(name):
    where = np.array([1, 0, 1, 0, 1, 0, 0, 0], bool)
    kept = np.where(where, EACH[name], 0)
    np.testing.assert_allclose(JITTED[name](RANK, where=where), kept.sum() / 3, rtol=1e-6)
    total = JITTED[name](RANK, where=where, reduce_fn=jnp.sum)
    np.testing.assert_allclose(total, kept.sum(), rtol=1e-6)
    each = JITTED[name](RANK, where=where, reduce_fn=None)
    np.testing.assert_allclose(each, kept, rtol=1e-6)


@every_metric
def test_the_rank_of_a_user_who_does_not_count_may_be_nan(name):
    where = np.array([1, 0, 1, 0, 1, 0, 0, 0], bool)
    unknown = np.where(where, RANK, np.float32(np.nan))
    np.testing.assert_array_equal(
        JITTED[name](unknown, where=where), JITTED[name](RANK, where=where)
    )


@every_metric
@pytest.mark.parametrize("reduce_fn", [jnp.mean, jnp.sum])
def test_nobody_counts(name, reduce_fn):
    nobody = np.zeros(8, bool)
    metric = JITTED[name]
    value, slope = jax.value_and_grad(lambda rank: metric(rank, where=nobody, reduce_fn=reduce_fn))(
        RANK
    )
    assert value == 0
    assert not np.asarray(slope).any()


@every_metric
def test_gradients_are_finite(name):
    slope = jax.grad(JITTED[name])(RANK)
    assert np.isfinite(slope).all()


def test_gradient_of_the_reciprocal_rank():
    np.testing.assert_allclose(
        jax.grad(JITTED["reciprocal_rank"])(RANK), -1 / (8 * RANK**2), rtol=1e-5
    )


@every_metric
def test_more_axes_are_one_set_of_users(name):
    np.testing.assert_allclose(JITTED[name](RANK.reshape(2, 4)), sum(EACH[name]) / 8, rtol=1e-6)


@every_metric
def test_vmap_and_pmap_agree(name):
    ranks = RANK.reshape(8, 1) + np.arange(3, dtype=np.float32)
    mapped = jax.jit(jax.vmap(METRICS[name]))(ranks)
    on_devices = jax.pmap(METRICS[name])(ranks)
    expected = np.array([ORACLE[name](rank) for rank in ranks], np.float32)
    chex.assert_trees_all_close(mapped, on_devices, expected, rtol=1e-5)


def test_a_cut_off_is_inclusive():
    for k in (1, 2, 20):
        assert hit_rate(jnp.array([float(k)]), k) == 1
        assert hit_rate(jnp.array([k + 0.5]), k) == 0
        np.testing.assert_allclose(ndcg(jnp.array([float(k)]), k), 1 / np.log2(1 + k), rtol=1e-6)
        assert ndcg(jnp.array([k + 0.5]), k) == 0


@every_metric
@pytest.mark.parametrize("wrong", [0.0, -1.0, 0.5, np.nan, -np.inf])
@pytest.mark.parametrize("on_host", [False, True])
def test_a_rank_below_1_gives_nan(name, wrong, on_host):
    metric = METRICS[name] if on_host else JITTED[name]
    rank = RANK.copy()
    rank[2] = wrong
    for reduce_fn in (np.mean, np.sum) if on_host else (jnp.mean, jnp.sum):
        assert np.isnan(metric(rank, reduce_fn=reduce_fn))
    each = np.asarray(metric(rank, reduce_fn=None))
    np.testing.assert_array_equal(np.isnan(each), np.isin(np.arange(8), 2))
    others = np.arange(8) != 2
    np.testing.assert_allclose(metric(rank, where=others), np.mean(each[others]), rtol=1e-6)


@pytest.mark.parametrize("name", ["ndcg", "reciprocal_rank"])
def test_gradients_are_nan_where_a_rank_is_below_1(name):
    rank = RANK.copy()
    rank[2] = 0
    slope = jax.grad(JITTED[name])(rank)
    np.testing.assert_array_equal(np.isnan(slope), np.isin(np.arange(8), 2))


@every_metric
@pytest.mark.parametrize("on_host", [False, True])
def test_an_infinite_rank_is_a_miss(name, on_host):
    metric = METRICS[name] if on_host else JITTED[name]
    rank = np.array([1.0, np.inf], np.float32)
    np.testing.assert_array_equal(metric(rank, reduce_fn=None), [1, 0])
    assert np.isfinite(jax.grad(JITTED[name])(rank)).all()


@pytest.mark.parametrize("k", [0, -1])
@pytest.mark.parametrize("metric", [hit_rate, ndcg])
def test_a_cut_off_below_1_is_refused(metric, k):
    with pytest.raises(ValueError, match="at least 1"):
        metric(RANK, k)
    with pytest.raises(ValueError, match="at least 1"):
        jax.jit(metric, static_argnums=1)(RANK, k)


def test_the_host_needs_no_jax():
    code = (
        "import sys, numpy as np; from mqsa_jax.losses import metrics; "
        "assert metrics.ndcg(np.array([3.0]), 5) == 0.5; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@every_metric
def test_the_host_keeps_the_precision(name):
    rank = np.array([3.0, 4.0, 7.0])
    value = METRICS[name](rank)
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, ORACLE[name](rank), rtol=1e-14)


@every_metric
@pytest.mark.parametrize("on_host", [False, True])
def test_ranks_may_be_whole_numbers_and_those_below_1_are_nan(name, on_host):
    metric = METRICS[name] if on_host else JITTED[name]
    value = np.asarray(metric(np.array([0, 3, -1]), reduce_fn=None))
    assert np.isnan(value).tolist() == [True, False, True]
    np.testing.assert_allclose(value[1], METRICS[name](np.array([3.0])), rtol=1e-6)


def test_a_summary_has_the_cutoffs_that_are_asked_for():
    assert list(summarise(RANK)) == [
        *(f"{name}@{k}" for k in (5, 10, 20) for name in ("HR", "NDCG")),
        "MRR",
    ]
    values = summarise(RANK, (1, 3))
    assert list(values) == ["HR@1", "NDCG@1", "HR@3", "NDCG@3", "MRR"]
    assert (values["HR@1"], values["HR@3"]) == (1 / 8, 3 / 8)
    with pytest.raises(ValueError, match="at least 1"):
        summarise(RANK, (0,))
