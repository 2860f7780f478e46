"""Orbax checkpoints that are verified before they are trusted.

Orbax commits a checkpoint atomically but does not notice bytes that change afterwards. So each gets
a manifest of checksums once it is committed; one that is missing or does not match is passed over.
"""

import contextlib
import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import struct

from mqsa_jax.data.histories import Histories
from mqsa_jax.errors import UserError
from mqsa_jax.runs.run_directory import write_json

MANIFEST = "manifest.json"
State = TypeVar("State")
"""A pytree of arrays: `TrainState` of a run, `Population` of many in one program."""


@struct.dataclass
class Snapshot:
    """What a checkpoint holds besides the state."""

    history: list[dict[str, Any]]
    """Lines of `metrics.jsonl` up to its epoch."""
    config: dict[str, Any]
    seed: int
    data_fingerprint: str
    trials: list[dict[str, Any]] | None = None
    """Of a population, whose `history` is empty: what each has come to, as `Trial.plain`."""
    places: list[int] | None = None
    """Of a population: index of the trial at each place of the program."""


class Checkpoints:
    """The checkpoints of a run, one an epoch; the latest two and the best are kept."""

    def __init__(self, folder: Path):
        # Orbax tells of every save and restore; only what goes wrong matters here.
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._folder = folder
        self._manager: ocp.CheckpointManager | None = None

    def _opened(self) -> ocp.CheckpointManager:
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(create=True, max_to_keep=None)
            # Named, so that a manager that has not saved yet can read metadata too.
            handlers = {
                "state": ocp.StandardCheckpointHandler(),
                "vocabulary": ocp.StandardCheckpointHandler(),
                "snapshot": ocp.JsonCheckpointHandler(),
            }
            self._manager = ocp.CheckpointManager(
                self._folder, options=options, item_handlers=handlers
            )
        return self._manager

    def close(self) -> None:
        """Waits for what is under way."""
        if self._manager is not None:
            self._manager.close()

    def save(self, epoch: int, state: State, histories: Histories, snapshot: Snapshot) -> None:
        """Saves an epoch; returns when it is on disk, with its manifest."""
        manager = self._opened()
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            vocabulary=ocp.args.StandardSave(_vocabulary(histories)),
            snapshot=ocp.args.JsonSave(
                {name: getattr(snapshot, name) for name in Snapshot.__dataclass_fields__}
            ),
        )
        manager.save(epoch, args=arguments)
        manager.wait_until_finished()
        write_json(self._folder / str(epoch) / MANIFEST, _checksums(self._folder / str(epoch)))

    def keep_only(self, epochs: set[int]) -> None:
        """Deletes all other checkpoints."""
        for epoch in set(self._opened().all_steps()) - epochs:
            self._opened().delete(epoch)

    def discard_after(self, epoch: int) -> None:
        """Deletes checkpoints later than `epoch`, broken ones among them."""
        for later in [step for step in self._epochs() if step > epoch]:
            shutil.rmtree(self._folder / str(later))
        if self._manager is not None:
            self._manager.reload()

    def _epochs(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())

    def latest(self) -> int | None:
        """The latest epoch whose checkpoint is whole; None if there is none."""
        return next((epoch for epoch in reversed(self._epochs()) if self.is_whole(epoch)), None)

    def is_whole(self, epoch: int) -> bool:
        """Whether every file of the checkpoint is as it was saved."""
        folder = self._folder / str(epoch)
        try:
            expected = json.loads((folder / MANIFEST).read_text())
        except (OSError, ValueError):
            return False
        return expected == _checksums(folder)

    def snapshot(self, epoch: int) -> Snapshot:
        """History, configuration and fingerprint of an epoch."""
        arguments = ocp.args.Composite(snapshot=ocp.args.JsonRestore())
        return Snapshot(**self._opened().restore(epoch, args=arguments)["snapshot"])

    def restore(self, epoch: int, like: State, histories: Histories) -> State:
        """The state of an epoch.

        Args:
          epoch: a whole checkpoint's.
          like: state of the shapes, dtypes and shardings to restore to.
          histories: the data, whose vocabulary must be the checkpoint's.

        Raises:
          UserError: naming what differs, if the shapes or the vocabulary are others.
        """
        path = self._folder / str(epoch)
        stored = self._opened().item_metadata(epoch)
        _check_shapes(path, stored["state"], like)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        vocabulary = _vocabulary(histories)
        _check_shapes(path, stored["vocabulary"], vocabulary)
        restored = self._opened().restore(
            epoch,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract),
                vocabulary=ocp.args.StandardRestore(vocabulary),
            ),
        )
        for name, ids in vocabulary.items():
            if not np.array_equal(restored["vocabulary"][name], ids):
                raise UserError(f"{path}: its {name} are not those of the data; use the same data")
        return restored["state"]


def _vocabulary(histories: Histories) -> dict[str, np.ndarray]:
    return {"item_ids": histories.item_ids}


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a checkpoint's folder, the manifest aside."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def _check_shapes(path: Path, stored: Any, expected: Any) -> None:
    """Raises UserError naming the first array whose shape differs."""
    with contextlib.suppress(AttributeError):
        stored = stored.tree
    there, here = (
        {_plain(keys): leaf.shape for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (stored, expected)
    )
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            raise UserError(
                f"{path}: {name} has shape {there.get(name)}, expected {here.get(name)}; "
                "choose another --run-dir, or --no-resume to delete that run"
            )


def _plain(keys: tuple) -> str:
    """`params/item_embedding`, whatever containers the keys lead through."""
    return "/".join(
        str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", None)))) for key in keys
    )
