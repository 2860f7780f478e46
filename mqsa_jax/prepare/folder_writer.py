"""Writes a prepared data set: histories in shards, vocabularies, and a manifest."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mqsa_jax.data.prepared import FORMAT_VERSION, HISTORIES, ITEMS, MANIFEST, USERS

SHARD_EVENTS = 1 << 22
"""Events of a shard, about: whole users only."""
GROUP_EVENTS = 1 << 16
"""Events of a row group, about: what streaming reads at random, and shuffles."""


class HistoryWriter:
    """Turns sorted events into shards, and counts on the way.

    Shape legend: N events of a batch; U users, V items of the data set.
    """

    def __init__(self, folder: Path, users: np.ndarray, items: np.ndarray, cuts: list[int]):
        """Writes below `folder`.

        Args:
          folder: of the data set.
          users, items: codes that occur, ascending; a code's place is its index.
          cuts: microseconds of the validation and of the test cut; empty without a split by time.
        """
        self._folder = folder / HISTORIES
        self._folder.mkdir()
        self._user_index, self._item_index = _places(users), _places(items)
        self._cuts = cuts
        self._waiting: list[dict[str, np.ndarray]] = []
        self._shards = self._num_waiting = 0
        self.counts = np.zeros(len(items), np.int64)
        """[V] training events of each item."""
        self.interactions = self.ties = 0
        self.targets = {"valid": 0, "test": 0}
        """Users who have a target in each split; only with cuts."""

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes the next events, ordered by user, time, item."""
        user_N, item_N, time_N = (
            batch.column(name).to_numpy(zero_copy_only=False) for name in ("user", "item", "time")
        )
        events = {
            "user": self._user_index[user_N],
            "item": self._item_index[item_N],
            "time": time_N.astype(np.int64),
        }
        self._waiting.append(events)
        self._num_waiting += len(user_N)
        if self._num_waiting >= SHARD_EVENTS:
            self._write(last=False)

    def close(self) -> None:
        """Writes what is left."""
        self._write(last=True)

    def _write(self, last: bool) -> None:
        """Writes the waiting users; the newest one may go on, so it waits unless it is the last."""
        if not self._waiting:
            return
        events = {
            name: np.concatenate([part[name] for part in self._waiting])
            for name in ("user", "item", "time")
        }
        end = len(events["user"])
        if not last:
            end = int(np.searchsorted(events["user"], events["user"][-1]))
        self._waiting = [{name: values[end:] for name, values in events.items()}]
        self._num_waiting = len(events["user"]) - end
        if end:
            self._write_shard({name: values[:end] for name, values in events.items()})

    def _write_shard(self, events: dict[str, np.ndarray]) -> None:
        user_U, begin_U = np.unique(events["user"], return_index=True)
        offsets = np.append(begin_U, len(events["user"])).astype(np.int32)
        columns = {
            "user": pa.array(user_U),
            "items": pa.ListArray.from_arrays(pa.array(offsets), pa.array(events["item"])),
            "times": pa.ListArray.from_arrays(pa.array(offsets), pa.array(events["time"])),
        }
        if self._cuts:
            known = [_before(events["time"], offsets, cut) for cut in self._cuts]
            columns["before_valid"], columns["before_test"] = map(pa.array, known)
            self.targets["valid"] += int((known[1] > known[0]).sum())
            self.targets["test"] += int((np.diff(offsets) > known[1]).sum())
        self._count(events, offsets)
        path = self._folder / f"{self._shards:05}.parquet"
        pq.write_table(
            pa.table(columns),
            path,
            row_group_size=max(len(user_U) * GROUP_EVENTS // len(events["user"]), 1),
            compression="zstd",
            # A damaged page is then noticed whenever it is read, not only when all is verified.
            write_page_checksum=True,
        )
        self._shards += 1

    def _count(self, events: dict[str, np.ndarray], offsets: np.ndarray) -> None:
        item_N, time_N, length_U = events["item"], events["time"], np.diff(offsets)
        if self._cuts:
            trained_N = time_N < self._cuts[0]
        else:
            from_end_N = np.repeat(offsets[1:], length_U) - np.arange(len(item_N))
            trained_N = from_end_N > 2
        self.counts += np.bincount(item_N[trained_N], minlength=len(self.counts))
        same_N = (events["user"][1:] == events["user"][:-1]) & (time_N[1:] == time_N[:-1])
        tied_N = np.append(same_N, False) | np.insert(same_N, 0, False)
        self.ties += int(tied_N.sum())
        self.interactions += len(item_N)


def _places(codes: np.ndarray) -> np.ndarray:
    """int32, by code: its place among those that occur."""
    places = np.full(int(codes[-1]) + 1, -1, np.int32)
    places[codes] = np.arange(len(codes), dtype=np.int32)
    return places


def _before(time_N: np.ndarray, offsets: np.ndarray, cut: int) -> np.ndarray:
    """int32 [U] events of each user before a time."""
    early = np.append(0, np.cumsum(time_N < cut))
    return np.diff(early[offsets]).astype(np.int32)


def write_vocabularies(folder: Path, users: pa.Array, items: pa.Array, counts: np.ndarray) -> None:
    """Writes the ids by index, and how often training has each item."""
    pq.write_table(pa.table({"user": users}), folder / USERS, compression="zstd")
    table = pa.table({"item": items, "count": pa.array(counts)})
    pq.write_table(table, folder / ITEMS, compression="zstd")


def write_manifest(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Writes `manifest.json` with the checksums of all other files; returns it."""
    files = {str(path.relative_to(folder)): _sha256(path) for path in sorted(_files_below(folder))}
    manifest = {"format_version": FORMAT_VERSION, **content, "files": files}
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*.parquet"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
