"""Memory of a stream does not grow with its interactions."""

import tracemalloc

import numpy as np
import pytest

from mqsa_jax.data import splits, stream_batches, streamed
from mqsa_jax.data.prepared import read_prepared
from mqsa_jax.data.stream_batches import StreamBatches
from mqsa_jax.data.streamed import StreamedHistories
from mqsa_jax.data.transitions import TransitionCounts, training_transitions
from tests.data.stream_cases import V, write_folder

EVENTS, LENGTH = 1 << 20, 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(0)
    histories = [rng.integers(0, V, LENGTH) for _ in range(EVENTS // LENGTH)]
    histories[0] = np.arange(V)
    sizes = dict(shard_events=1 << 17, group_events=1 << 13)
    return write_folder(tmp_path_factory.mktemp("data") / "log", histories, **sizes)


def peak(function) -> int:
    """Bytes that Python and NumPy hold at most while a function runs."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_batches_and_blocks_take_a_fraction_of_the_data(folder, monkeypatch):
    monkeypatch.setattr(streamed, "BLOCK_ITEMS", 1 << 14)
    monkeypatch.setattr(stream_batches, "STACK_BYTES", 1 << 18)
    data_bytes = 4 * EVENTS
    assert peak(lambda: read_prepared(folder)) > data_bytes
    counts: list[TransitionCounts] = []

    def passes():
        data = StreamedHistories.open(folder)
        counts.append(training_transitions(data, 50))
        assert splits.item_counts(data, 50).sum() > 50 * (EVENTS // LENGTH - 1)
        source = StreamBatches.of(data, 256, 0, counts[0], 16, 10, 1, 1)
        epoch = (stack for stacks in source.epochs(0, 1, 512) for stack in stacks)
        positions = sum(float(stack.num_positions.sum()) for stack in epoch)
        assert positions == 9 * (EVENTS // LENGTH)

    passes()  # So that what is imported and compiled is not measured.
    counts.clear()
    assert peak(passes) < data_bytes / 3
