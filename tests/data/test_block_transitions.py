"""Transition counts of a stream are those of the same data in memory."""

import numpy as np
import pytest

from mqsa_jax.data import block_transitions, streamed
from mqsa_jax.data.prepared import read_prepared
from mqsa_jax.data.streamed import StreamedHistories
from mqsa_jax.data.transitions import training_transitions
from tests import transition_oracle
from tests.data.stream_cases import V, random_histories, write_folder

HISTORIES = random_histories(80)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "log", HISTORIES)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(streamed, "BLOCK_ITEMS", 100)


@pytest.mark.parametrize("max_len", [2, 5, 50])
@pytest.mark.parametrize("time_span", [1, 3])
def test_whole_numbers_are_equal(folder, max_len, time_span):
    stream, memory = StreamedHistories.open(folder), read_prepared(folder)
    assert len(list(stream.blocks())) > 4
    here, there = (
        training_transitions(data, max_len, time_span=time_span) for data in (stream, memory)
    )
    for name in ("row_start", "successor", "count"):
        ours, theirs = getattr(here, name), getattr(there, name)
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    if time_span == 1:
        oracle = transition_oracle.count_transitions(
            [h[:-2].tolist() for h in HISTORIES], V, max_len=max_len
        )
        np.testing.assert_array_equal(here.to_scipy().toarray(), oracle)


@pytest.mark.parametrize(
    "options",
    [
        dict(time_span=4, decay=0.7),
        dict(symmetric=0.3),
        dict(popularity=0.5),
        dict(time_span=3, decay=0.5, symmetric=0.25, popularity=0.3),
    ],
)
def test_weights_are_equal_but_for_rounding(folder, options):
    here, there = (
        training_transitions(data, 9, **options)
        for data in (StreamedHistories.open(folder), read_prepared(folder))
    )
    np.testing.assert_array_equal(here.row_start, there.row_start)
    np.testing.assert_array_equal(here.successor, there.successor)
    np.testing.assert_allclose(here.count, there.count, rtol=1e-6)


def test_a_sum_keeps_few_parts(rng):
    total, expected = block_transitions._Sum(V), np.zeros((V, V))
    for _ in range(50):
        from_P, to_P = rng.integers(0, V, (2, 7))
        total.add(from_P, to_P, 0.5)
        np.add.at(expected, (from_P, to_P), 0.5)
        assert len(total._parts) <= 8
    np.testing.assert_array_equal(total.result().toarray(), expected)
