"""A prepared data set that is read block by block: memory does not grow with its interactions.

Shape legend: U users that can be split, V items, G row groups.
"""

import dataclasses
import functools
import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mqsa_jax.config import Stream
from mqsa_jax.data import splits
from mqsa_jax.data.attributes import Attributes, combined_fingerprint, joined_attributes
from mqsa_jax.data.histories import MIN_ITEMS, Histories
from mqsa_jax.data.ids import Ids
from mqsa_jax.data.prepared import ITEMS, USERS, check_file, is_prepared, read_ids, read_manifest
from mqsa_jax.data.shards import RowGroup, verified_groups
from mqsa_jax.errors import SettingError, UserError

STREAM_INTERACTIONS = 1 << 27
"""Interactions from which `--stream auto` streams: 0.5 GiB of items, and a few times that while
batches are made of them."""
BLOCK_ITEMS = 1 << 22
"""Interactions of a block, about: whole row groups."""


def streams(stream: Stream, dataset: str) -> bool:
    """Whether a data set is read block by block; `auto` goes by its size alone.

    Args:
      stream: the setting.
      dataset: name of a data set, or path of a file or prepared folder.

    Raises:
      SettingError: if a data set is to be streamed that is no prepared folder.
    """
    folder = os.path.isdir(dataset) and is_prepared(dataset)
    if stream == "always" and not folder:
        raise SettingError(
            f"{{stream}} always needs a prepared folder, which {dataset} is not: mqsa-jax prepare "
            "makes one"
        )
    if stream == "auto":
        return folder and read_manifest(dataset).get("interactions", 0) >= STREAM_INTERACTIONS
    return stream == "always"


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedHistories:
    """The histories of a prepared folder; `data.dataset.Dataset`."""

    folder: Path
    files: dict[str, str]
    """SHA-256 of each file, by name."""
    groups: tuple[RowGroup, ...]
    """[G] all row groups, in the order of the users."""
    item_ids: Ids
    """[V] the vocabulary."""
    kept: np.ndarray
    """bool, for each row of all row groups, whether its history can be split."""
    trained_U: np.ndarray
    """uint16 [U] items that a user trains on, at most 65535: inputs and targets together."""
    attributes: Attributes | None = None
    """[V] lists, of the items."""
    traits: None = None
    """They take histories in memory."""
    num_cold: int = 0
    """Likewise."""

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "StreamedHistories":
        """Verifies the files of a folder and measures its histories, in one pass.

        A history that cannot be split is skipped, as `read_prepared` does.

        Raises:
          UserError: naming the file that is missing, damaged or changed.
        """
        folder, files = Path(folder), read_manifest(folder)["files"]
        for name in (USERS, ITEMS):
            check_file(folder / name, files.get(name, ""))
        item_ids = read_ids(folder / ITEMS, "item")
        groups, kept, trained = [], [], []
        for group in verified_groups(folder, files):
            histories, kept_U = group.read(None, item_ids)
            longest = int(histories.lengths.max(initial=1))
            length_U = splits.recent(histories, "train", longest).lengths
            groups.append(group)
            kept.append(kept_U)
            trained.append(np.minimum(length_U, np.iinfo(np.uint16).max).astype(np.uint16))
        if not groups:
            raise UserError(f"{folder}: no histories; prepare the data set again")
        data = cls(folder, files, tuple(groups), item_ids, *map(np.concatenate, (kept, trained)))
        data._tell_short()
        return data

    def _tell_short(self) -> None:
        short = int((~self.kept).sum())
        if short == self.kept.size:
            raise UserError(
                f"{self.folder}: no history is left, as all {short} have fewer than {MIN_ITEMS} "
                "items"
            )
        if short:
            warnings.warn(
                f"{self.folder}: skipped {short} of {self.kept.size} histories for having fewer "
                f"than {MIN_ITEMS} items",
                UserWarning,
                stacklevel=3,
            )

    @property
    def num_users(self) -> int:
        """U."""
        return self.trained_U.size

    @property
    def num_items(self) -> int:
        """V."""
        return len(self.item_ids)

    @functools.cached_property
    def group_sizes(self) -> np.ndarray:
        """int64 [G] users of each row group that can be split."""
        bounds = [group.first_row for group in self.groups]
        return np.add.reduceat(self.kept, bounds, dtype=np.int64)

    @functools.cached_property
    def _row_ids(self) -> Ids:
        """Ids of all rows; read once they are needed."""
        check_file(self.folder / USERS, self.files[USERS])
        return read_ids(self.folder / USERS, "user")

    @property
    def user_ids(self) -> Ids:
        """[U]."""
        return self._row_ids if self.kept.all() else self._row_ids[self.kept]

    def fingerprint(self) -> str:
        """SHA-256 of the checksums of the files, which the manifest has; differs from that of the
        same histories in memory."""
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()

    def inputs_fingerprint(self) -> str:
        """See `Histories`."""
        return combined_fingerprint(self.fingerprint(), self.attributes)

    def blocks(self) -> Iterator[Histories]:
        """See `Dataset.blocks`: runs of row groups of `BLOCK_ITEMS` interactions or little more."""
        waiting: list[Histories] = []
        for group in self.groups:
            waiting.append(group.read(self._row_ids, self.item_ids)[0])
            if sum(part.items.size for part in waiting) >= BLOCK_ITEMS:
                yield joined(waiting)
                waiting = []
        if waiting:
            yield joined(waiting)


def joined(parts: list[Histories]) -> Histories:
    """Histories of one vocabulary, one after the other."""
    lengths = np.concatenate([part.lengths for part in parts])
    cuts, traits = None, None
    if parts[0].cuts is not None:
        cuts = np.concatenate([part.cuts for part in parts])
    if parts[0].traits is not None:
        traits = joined_attributes([part.traits for part in parts])
    return dataclasses.replace(
        parts[0],
        items=np.concatenate([part.items for part in parts]),
        offsets=np.append(0, np.cumsum(lengths)),
        user_ids=np.concatenate([part.user_ids for part in parts]),
        cuts=cuts,
        traits=traits,
    )
