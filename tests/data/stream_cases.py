"""A small prepared folder of several shards, each of several row groups."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mqsa_jax.prepare import folder_writer
from mqsa_jax.prepare.folder_writer import HistoryWriter, write_manifest, write_vocabularies

V = 30


def random_histories(users: int, seed: int = 0, shortest: int = 3) -> list[np.ndarray]:
    """Items of each user; items of small index are frequent."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(shortest, 14, users)
    histories = [(V * rng.random(n) ** 1.5).astype(np.int64) for n in lengths]
    histories[0] = np.arange(V)  # All items occur.
    return histories


def write_folder(
    folder: Path,
    histories: list[np.ndarray],
    shard_events: int = 300,
    group_events: int = 60,
    cuts: tuple[int, ...] = (),
) -> Path:
    """A prepared folder; the time of an event is its number in its history."""
    folder.mkdir(parents=True)
    users, items = np.arange(len(histories)), np.arange(V)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_writer, "SHARD_EVENTS", shard_events)
        patch.setattr(folder_writer, "GROUP_EVENTS", group_events)
        writer = HistoryWriter(folder, users, items, list(cuts))
        for user, row in enumerate(histories):
            writer.add(
                pa.record_batch(
                    {"user": np.full(len(row), user), "item": row, "time": np.arange(len(row))}
                )
            )
        writer.close()
    write_vocabularies(folder, pa.array(users + 100), pa.array(items + 500), writer.counts)
    content = {"interactions": writer.interactions, "users": len(users), "items": V}
    write_manifest(folder, content)
    return folder
