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
from jax.tree_util import tree_leaves_with_path

from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.ids import from_stored, to_stored
from mqsa_jax.errors import UserError
from mqsa_jax.models.placement import is_item_table
from mqsa_jax.runs.files import write_json

MANIFEST = "manifest.json"
State = TypeVar("State")
"""`TrainState` of a run, or `Population` of many in one program."""


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
    slots: list[int] | None = None
    """Of a population: index of the trial in each slot of the program."""


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

    def save(self, epoch: int, state: State, histories: Dataset, snapshot: Snapshot) -> None:
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
        for later in [step for step in self.epochs() if step > epoch]:
            shutil.rmtree(self._folder / str(later))
        if self._manager is not None:
            self._manager.reload()

    def epochs(self) -> list[int]:
        """Epochs that have a checkpoint, whole or not, ascending."""
        if not self._folder.is_dir():
            return []
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())

    def latest(self) -> int | None:
        """The latest epoch whose checkpoint is whole; None if there is none."""
        return next((epoch for epoch in reversed(self.epochs()) if self.is_whole(epoch)), None)

    def is_whole(self, epoch: int) -> bool:
        """Whether every file of the checkpoint is as it was saved."""
        return not self.problem(epoch)

    def was_saved(self, epoch: int) -> bool:
        """Whether saving came to its end; what is not whole then is damaged, not unfinished."""
        return (self._folder / str(epoch) / MANIFEST).exists()

    def problem(self, epoch: int) -> str:
        """What is wrong with an epoch's checkpoint, naming the file; empty if it is whole."""
        folder = self._folder / str(epoch)
        if not folder.is_dir():
            return f"{folder} is missing"
        if not self.was_saved(epoch):
            return f"{folder} is unfinished (it has no {MANIFEST})"
        try:
            expected = json.loads((folder / MANIFEST).read_text())
            actual = _checksums(folder)
        except (OSError, ValueError):
            return f"{folder / MANIFEST} is damaged"
        if not isinstance(expected, dict):
            return f"{folder / MANIFEST} is damaged"
        names = {**expected, **actual}
        odd = [name for name in names if expected.get(name) != actual.get(name)]
        return f"{folder / odd[0]} is damaged" if odd else ""

    def manifest_digest(self, epoch: int) -> str:
        """SHA-256 of an epoch's manifest, which stands for the whole checkpoint."""
        return hashlib.sha256((self._folder / str(epoch) / MANIFEST).read_bytes()).hexdigest()

    def snapshot(self, epoch: int) -> Snapshot:
        """History, configuration and fingerprint of an epoch."""
        arguments = ocp.args.Composite(snapshot=ocp.args.JsonRestore())
        return Snapshot(**self._opened().restore(epoch, args=arguments)["snapshot"])

    def item_ids(self, epoch: int) -> np.ndarray:
        """int64 or strings [V], the vocabulary of an epoch: ids in the data, by index."""
        stored = self._opened().item_metadata(epoch)["vocabulary"]
        (ids,) = jax.tree.leaves(getattr(stored, "tree", stored))
        like = {"item_ids": np.zeros(ids.shape, ids.dtype)}
        arguments = ocp.args.Composite(vocabulary=ocp.args.StandardRestore(like))
        return from_stored(self._opened().restore(epoch, args=arguments)["vocabulary"]["item_ids"])

    def restore(self, epoch: int, like: State, histories: Dataset | None = None) -> State:
        """The state of an epoch.

        Args:
          epoch: a whole checkpoint's.
          like: state of the shapes, dtypes and shardings to restore to.
          histories: data whose vocabulary must be the checkpoint's; None: not compared.

        Raises:
          UserError: naming what differs, if the shapes or the vocabulary are others.
        """
        path = self._folder / str(epoch)
        _check_shapes(path, self._opened().item_metadata(epoch)["state"], like)
        if histories is not None:
            item_ids = to_stored(self.item_ids(epoch))
            _check_shapes(path, {"item_ids": item_ids}, _vocabulary(histories))
            if not np.array_equal(item_ids, to_stored(histories.item_ids)):
                raise UserError(f"{path}: its item_ids are not those of the data; use the same")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        # On another mesh, other numbers of zeros fill item tables up: cut off or added here.
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract, strict=False))
        return self._opened().restore(epoch, args=arguments)["state"]

    def restore_plain(self, epoch: int) -> dict[str, Any]:
        """The state of an epoch as nested dicts of arrays on the first device, of any shape."""
        stored = self._opened().item_metadata(epoch)["state"]
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
            getattr(stored, "tree", stored),
        )
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        return self._opened().restore(epoch, args=arguments)["state"]


def _vocabulary(histories: Dataset) -> dict[str, np.ndarray]:
    return {"item_ids": to_stored(histories.item_ids)}


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a checkpoint's folder, the manifest aside."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def _check_shapes(path: Path, stored: Any, expected: Any) -> None:
    """Raises UserError naming the first array whose shape differs.

    Item tables may have other numbers of rows: the vocabularies are compared apart from this.
    """
    with contextlib.suppress(AttributeError):
        stored = stored.tree
    there, here = (
        {_plain(keys): _shape(keys, leaf) for keys, leaf in tree_leaves_with_path(tree)}
        for tree in (stored, expected)
    )
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            raise UserError(
                f"{path}: {name} has shape {there.get(name)}, expected {here.get(name)}; "
                "it is of another run, or of another optimiser: resume with the one it began with"
            )


def _shape(keys: tuple, leaf: Any) -> tuple[int | str, ...]:
    return ("V", *leaf.shape[1:]) if is_item_table(keys) and leaf.shape else leaf.shape


def _plain(keys: tuple) -> str:
    """`params/item_embedding`, whatever containers the keys lead through."""
    return "/".join(
        str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", None)))) for key in keys
    )
