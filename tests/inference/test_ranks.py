"""The rank of each user's target, counted."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqsa_jax.inference.ranks import target_ranks, top_items
from mqsa_jax.losses.metrics import hit_rate, ndcg, reciprocal_rank
from tests import ranking_oracle

B, V, D, M = 4, 10, 2, 16


def scores(user_BD, item_VD):
    return jnp.einsum("bd,vd->bv", user_BD, item_VD, precision="highest")


ranks = jax.jit(lambda user_BD, item_VD, *rest: target_ranks(scores(user_BD, item_VD), *rest))


def pairs(seen_of_user):
    """The sets of items as M pairs, with padding whose row is B or above."""
    user = np.arange(B, B + M, dtype=np.int32)
    item = np.full(M, 3, np.int32)
    flat = [(row, each) for row, items in enumerate(seen_of_user) for each in sorted(items)]
    assert len(flat) <= M
    for index, (row, each) in enumerate(flat):
        user[index], item[index] = row, each
    return user, item


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    target=st.lists(st.integers(0, V - 1), min_size=B, max_size=B),
    seen=st.lists(st.sets(st.integers(0, V - 1), max_size=4), min_size=B, max_size=B),
)
def test_agrees_with_the_oracle(seed, target, seen):
    rng = np.random.default_rng(seed)
    # Small whole numbers: products are exact and ties are frequent.
    user = rng.integers(-2, 3, (B, D)).astype(np.float32)
    item = rng.integers(-2, 3, (V, D)).astype(np.float32)
    actual = ranks(user, item, np.array(target, np.int32), *pairs(seen))
    score = user @ item.T
    expected = [ranking_oracle.rank(score[row], target[row], seen[row]) for row in range(B)]
    assert actual.tolist() == expected


SCORES = np.array([5, 4, 4, 3, 3, 3, 2, 1, 0, -1], np.float32)


def rank_of(target, seen=()):
    """The rank among `SCORES`."""
    user = np.tile(np.array([1, 0], np.float32), (B, 1))
    item = np.stack([SCORES, np.ones(V, np.float32)], axis=1)
    seen_of_user = [set(seen), set(), set(), set()]
    targets = np.full(B, target, np.int32)
    return float(ranks(user, item, targets, *pairs(seen_of_user))[0])


def test_visible_examples():
    assert rank_of(0) == 1
    assert rank_of(1) == 1 + 1 + 1 / 2
    assert rank_of(3) == 1 + 3 + 2 / 2
    assert rank_of(9) == V


def test_seen_items_leave_the_ranking():
    assert rank_of(3, seen=[0]) == 1 + 2 + 2 / 2
    assert rank_of(3, seen=[0, 1, 2]) == 1 + 2 / 2
    assert rank_of(3, seen=[4]) == 1 + 3 + 1 / 2
    assert rank_of(3, seen=[6, 7, 8]) == 1 + 3 + 2 / 2


def test_a_target_seen_before_has_no_rank():
    for target, seen in ((0, [0]), (3, [3, 0]), (9, [0, 1, 2, 9]), (4, range(V))):
        rank = rank_of(target, seen)
        assert rank == np.inf
        # A miss at every K, even one beyond the catalogue, and 0 in MRR.
        assert hit_rate(np.float32([rank]), 10 * V) == ndcg(np.float32([rank]), 10 * V) == 0
        assert reciprocal_rank(np.float32([rank])) == 0


@pytest.mark.parametrize("target", [V, V + 900, -1])
def test_a_target_that_is_no_item_has_no_rank(target):
    assert np.isnan(rank_of(target))


def test_a_score_that_is_no_number_gives_no_rank():
    rng = np.random.default_rng(0)
    user = rng.normal(size=(B, D)).astype(np.float32)
    item = rng.normal(size=(V, D)).astype(np.float32)
    target, nothing = np.zeros(B, np.int32), pairs([set()] * B)
    clean = ranks(user, item, target, *nothing)
    broken = user.copy()
    broken[1] = np.nan
    actual = np.asarray(ranks(broken, item, target, *nothing))
    assert np.isnan(actual).tolist() == [False, True, False, False]
    np.testing.assert_array_equal(actual[[0, 2, 3]], clean[np.array([0, 2, 3])])
    broken_item = item.copy()
    broken_item[7] = np.nan
    assert np.isnan(ranks(user, broken_item, target, *nothing)).all()
    # Also where the only such score belongs to an item that is not ranked, the target among them.
    for seen in ({7}, {0, 7}):
        assert np.isnan(ranks(user, broken_item, target, *pairs([seen] * B))).all()


def test_top_items_leave_out_what_was_seen():
    score = np.tile(SCORES, (B, 1))
    best = jax.jit(top_items, static_argnums=3)(score, *pairs([{0, 2}, set(), {9}, set()]), 3)
    # Ties, here of 3 and 4, go to the smaller index.
    assert best.tolist() == [[1, 3, 4], [0, 1, 2], [0, 1, 2], [0, 1, 2]]


def lists(seen, k):
    score = np.tile(SCORES, (B, 1))
    return jax.jit(top_items, static_argnums=3)(score, *pairs(seen), k).tolist()


def test_a_list_ends_where_no_item_is_left():
    nothing = [set(), set(), set()]
    assert lists([set(range(8)), *nothing], 4)[0] == [8, 9, -1, -1]
    assert lists([set(range(V)), *nothing], 2)[0] == [-1, -1]
    # Longer than the catalogue.
    assert lists([{0, 1}, *nothing], V + 3)[0] == [2, 3, 4, 5, 6, 7, 8, 9, *[-1] * 5]
    assert lists([{0, 1}, *nothing], V + 3)[1] == [*range(V), -1, -1, -1]


def test_lists_of_scores_that_are_no_numbers_are_empty():
    score = np.tile(SCORES, (B, 1))
    score[2, 7] = np.nan
    for seen in (set(), {7}):
        best = top_items(*map(jnp.asarray, (score, *pairs([seen] * B))), 3).tolist()
        assert best == [[0, 1, 2], [0, 1, 2], [-1, -1, -1], [0, 1, 2]]


def test_a_list_without_a_length_is_refused():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        top_items(jnp.zeros((B, V)), *map(jnp.asarray, pairs([set()] * B)), 0)


# What is out of range


THREE = jnp.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])


def test_nothing_need_be_left_out():
    assert target_ranks(THREE, jnp.array([1, 0])).tolist() == [2.0, 3.0]
    assert top_items(THREE, None, None, 2).tolist() == [[0, 1], [2, 1]]


@pytest.mark.parametrize("row", [-1, -2, 2, 2**31 - 1])
def test_a_pair_of_no_row_is_padding(row):
    pair = jnp.array([row]), jnp.array([0])
    assert target_ranks(THREE, jnp.array([1, 0]), *pair).tolist() == [2.0, 3.0]
    assert top_items(THREE, *pair, 1).tolist() == [[0], [2]]


@pytest.mark.parametrize("item", [-1, 3, 2**31 - 1])
def test_a_pair_of_no_item_is_not_passed_over(item):
    pair = jnp.array([1]), jnp.array([item])
    first, second = target_ranks(THREE, jnp.array([1, 0]), *pair).tolist()
    assert first == 2.0 and np.isnan(second)
    assert top_items(THREE, *pair, 1).tolist() == [[0], [-1]]


@pytest.mark.parametrize(
    ("rows", "items"), [([0, 1], [0]), ([0], [0, 1]), (None, [0]), ([0], None), (0, 0), ([[0]], 1)]
)
def test_pairs_of_other_lengths_are_refused(rows, items):
    jaxtyping.config.update("jaxtyping_disable", True)
    pair = (None if each is None else jnp.array(each) for each in (rows, items))
    try:
        with pytest.raises(ValueError, match="pairs to leave out need a row and an item each"):
            top_items(THREE, *pair, 1)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("count", [1, 3])
def test_targets_of_other_users_are_refused(count):
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match="2 rows of scores, but targets of"):
            target_ranks(THREE, jnp.zeros(count, int))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("k", [2.0, 2.5, "2", None, 0, -1])
def test_a_length_that_is_no_whole_number_is_refused_and_leaves_no_trace(k):
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match="^k must be "):
            top_items(THREE, None, None, k)
        assert top_items(THREE, None, None, 2).tolist() == [[0, 1], [2, 1]]
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_numpy_arrays_are_ranked_too():
    scores, pair = np.asarray(THREE), (np.array([0]), np.array([0]))
    assert target_ranks(scores, np.array([1, 0]), *pair).tolist() == [1.0, 3.0]
    assert top_items(scores, *pair, 2).tolist() == [[1, 2], [2, 1]]
