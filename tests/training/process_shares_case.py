"""A process of a few: takes its shares of a stream's batches and compares them with the whole.

python -m tests.training.process_shares_case FOLDER PORT NUMBER COUNT
"""

import sys
from pathlib import Path

import jax
import numpy as np

from mqsa_jax.data.packing import Capacity
from mqsa_jax.data.stream_batches import StreamBatches
from mqsa_jax.data.streamed import StreamedHistories
from mqsa_jax.data.transitions import training_transitions
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.training.process_shares import largest_of_processes, own_shards, whole_batch


def main(folder: str, port: str, number: str, count: str) -> None:
    jax.distributed.initialize(f"localhost:{port}", int(count), int(number))
    layout = DeviceLayout.over(jax.devices())
    own = own_shards(layout)
    assert layout.num_shards == 4 and len(own) == 4 // int(count)
    data = StreamedHistories.open(Path(folder))
    counts = training_transitions(data, 6)

    def batches(**shares):
        source = StreamBatches.of(data, 48, 0, counts, 16, 6, 4, 4, **shares)
        # Too small for some stacks, and then not for all processes.
        object.__setattr__(source, "capacity", lambda: Capacity(4, 9, 60))
        return [stack for epoch in source.epochs(0, 2, 2) for stack in epoch]

    whole = batches()
    shares = batches(agree=largest_of_processes, shards=own)
    grown = 0
    for everything, share in zip(whole, shares, strict=True):
        joined = whole_batch(share, layout)
        grown += share.distinct_item.shape[2] > 9
        for expected, array in zip(*map(jax.tree.leaves, (everything, joined)), strict=True):
            assert array.shape == expected.shape
            for piece in array.addressable_shards:
                np.testing.assert_array_equal(piece.data, expected[piece.index])
    assert grown
    print("equal", own, len(shares), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
