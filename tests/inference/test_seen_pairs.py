"""Pairs to leave out: each of them once, for any number of shards, in memory like the data's."""

import functools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.inference import seen_pairs
from mqsa_jax.inference.evaluation import Evaluator
from mqsa_jax.inference.evaluation_set import Protocol, build_evaluation_set
from mqsa_jax.inference.seen_pairs import SeenPairs
from mqsa_jax.ops import chunk_loop
from tests.inference.evaluation_cases import (
    HISTORIES,
    HPARAMS,
    MAX_LEN,
    RECOMMENDER,
    SEQUENCES,
    USERS,
    V,
    every_protocol,
    expected_ranks,
    params,
    seen_by,
)

pytestmark = pytest.mark.usefixtures("small_chunks")


def left_out(data, num_items):
    """Items with -inf, by user."""
    chunks, result = data.chunks, {}
    for index in range(len(chunks.target)):
        ranges = (
            jax.tree.map(lambda leaf, index=index: leaf[index], pair_range)
            for pair_range in (chunks.own_pairs, chunks.shared_pairs)
        )
        scores = jnp.zeros((*chunks.target.shape[1:], num_items))
        scores = np.asarray(jax.jit(SeenPairs.without)(data.seen, scores, *ranges))
        by_slot = scores.reshape(-1, num_items)
        for user, score_V in zip(chunks.user[index].flat, by_slot, strict=True):
            if user < data.num_users:
                result[int(user)] = set(np.flatnonzero(np.isneginf(score_V)).tolist())
    return result


@every_protocol
@pytest.mark.parametrize("num_shards", [1, 3, 8])
def test_items_left_out_are_those_consumed(split, policy, num_shards):
    data = build_evaluation_set(HISTORIES, Protocol(split, policy), MAX_LEN, num_shards)
    assert left_out(data, V) == {
        user: seen_by(SEQUENCES[user], split, policy) for user in range(USERS)
    }


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_pairs_are_left_out_some_at_a_time(monkeypatch, most):
    monkeypatch.setattr(seen_pairs, "MAX_PAIRS", most)
    for num_devices in (1, 2):
        layout = DeviceLayout.of(num_devices)
        evaluator = Evaluator(HISTORIES, Protocol("test"), RECOMMENDER, layout)
        assert evaluator.ranks(params(), HPARAMS).tolist() == expected_ranks("test", "history")


@pytest.mark.parametrize("num_devices", [2, 8])
@pytest.mark.parametrize("share", [0, 0.5, 1.5])
def test_ranks_do_not_depend_on_which_list_holds_a_pair(monkeypatch, num_devices, share):
    monkeypatch.setattr(seen_pairs, "MAX_SHARE", share)
    layout = DeviceLayout.of(num_devices)
    evaluator = Evaluator(HISTORIES, Protocol("test"), RECOMMENDER, layout)
    assert evaluator.ranks(params(), HPARAMS).tolist() == expected_ranks("test", "history")


@pytest.mark.parametrize(
    ("num_shards", "long", "shared"),
    [
        (2, [60], True),
        (8, [60], True),
        (2, [60, 50], False),
        (8, [60, 50], True),
        (2, [60] * 8, False),
        (8, [60] * 8, False),
    ],
)
def test_pairs_of_long_histories_are_shared(num_shards, long, shared):
    rng = np.random.default_rng(2)
    lengths = [*long, *[4] * 30]
    sequences = [rng.permutation(64)[:length].tolist() for length in lengths]
    histories = make_histories(range(1, len(lengths) + 1), sequences)
    data = build_evaluation_set(histories, Protocol("test"), MAX_LEN, num_shards)
    ids = [{int(item) for item in sequence[:-1]} for sequence in sequences]
    actual = left_out(data, histories.num_items)
    assert [
        {int(histories.item_ids[item]) for item in actual[user]} for user in range(len(ids))
    ] == ids
    assert (np.asarray(data.chunks.shared_pairs.end)[-1] > 0) == shared


def uneven(rng, long, short):
    """Histories of the given lengths, those of `long` among many of a length of `short`."""
    lengths = rng.permutation(np.concatenate([long, np.full(*short)])).astype(int)
    sequences = [rng.integers(1, 50_000, length) for length in lengths]
    return make_histories(np.arange(len(sequences)) + 1, sequences)


@functools.cache
def uneven_histories(long, short):
    """The histories, and their bytes in a text file `user item item ...`."""
    histories = uneven(np.random.default_rng(0), long, short)
    items = histories.item_ids[histories.items].tolist()
    return histories, sum(len(str(item)) + 1 for item in items)


@pytest.mark.parametrize("num_shards", [1, 2, 8])
@pytest.mark.parametrize(
    ("long", "short"),
    [
        ((100_000,), (50_000, 5)),  # one user with a third of all interactions
        ((), (3000, 100)),  # all alike, and longer than a row
        ((2000,) * 100, (20_000, 4)),  # many users between
        ((30_000,) * 3, (300, 3)),  # hardly anybody else
    ],
)
def test_memory_is_bounded_by_that_of_the_data(monkeypatch, long, short, num_shards):
    monkeypatch.setitem(chunk_loop.CHUNK_ROWS, "cpu", 256)
    histories, text = uneven_histories(long, short)
    tracemalloc.start()
    data = build_evaluation_set(histories, Protocol("test"), 50, num_shards)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(data)) < 3 * text
    assert peak < 3 * text
