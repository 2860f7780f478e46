"""Orbax checkpoints that are verified before they are trusted.

Orbax commits a checkpoint atomically but does not notice bytes that change afterwards. So each gets
a manifest of checksums once it is committed; one that is missing or does not match is passed over.
"""

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import struct
from jax.tree_util import tree_leaves_with_path

from mqsa_jax import hosts
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.ids import from_stored, to_stored
from mqsa_jax.errors import LostPeerError, SaveError, UserError
from mqsa_jax.models.placement import is_item_table
from mqsa_jax.runs import manifest
from mqsa_jax.runs.files import reason_of

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
    epoch_losses: dict[str, list[float]] | None = None
    """Within an epoch: the losses of its steps so far, by their names in `Losses`."""

    @property
    def epoch_steps(self) -> int:
        """Steps done in the epoch after the last of `history`."""
        return len(self.epoch_losses["loss"]) if self.epoch_losses else 0


class Checkpoints:
    """The checkpoints of a run, by number: of the epoch, or of the step within one.

    They are saved in the background: `save` returns once the state is on the host. A checkpoint has
    its manifest, and counts, when all of it is on disk. Of several processes all call `save`,
    `problem` and what restores, in the same order; the first alone writes manifests and deletes.
    """

    def __init__(self, folder: Path):
        # Orbax tells of every save and restore; only what goes wrong matters here, and is told.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._folder = folder
        self._checkpointer: ocp.AsyncCheckpointer | None = None
        self._saver = ThreadPoolExecutor(1)
        self._saving: Future | None = None

    def _opened(self) -> ocp.AsyncCheckpointer:
        if self._checkpointer is None:
            processes = set(range(jax.process_count()))
            # Named processes meet at barriers of the coordination service, which a thread in the
            # background may wait at, instead of running a program on all devices.
            options = ocp.options.MultiprocessingOptions(
                active_processes=processes if len(processes) > 1 else None,
                barrier_sync_key_prefix=self._folder.name,
            )
            handler = ocp.CompositeCheckpointHandler(
                composite_options=ocp.CompositeOptions(multiprocessing_options=options),
                state=ocp.StandardCheckpointHandler(multiprocessing_options=options),
                vocabulary=ocp.StandardCheckpointHandler(multiprocessing_options=options),
                snapshot=ocp.JsonCheckpointHandler(multiprocessing_options=options),
            )
            self._checkpointer = ocp.AsyncCheckpointer(handler, multiprocessing_options=options)
        return self._checkpointer

    def wait(self) -> None:
        """Waits for the save under way; raises SaveError if it failed."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def close(self) -> None:
        """`wait`, and gives all resources back."""
        try:
            self.wait()
        finally:
            self._saver.shutdown()
            if self._checkpointer is not None:
                self._checkpointer.close()

    def save(
        self,
        number: int,
        state: State,
        histories: Dataset,
        snapshot: Snapshot,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Starts to save; waits for the save before, and for the state to be on the host.

        Args:
          number: the checkpoint's.
          state: all arrays.
          histories: whose vocabulary goes along.
          snapshot: what else goes along.
          then: called by the first process, in the background, once the checkpoint is whole.

        Raises:
          SaveError: if the save before failed, or this one does at once.
        """
        self.wait()
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            vocabulary=ocp.args.StandardSave(_vocabulary(histories)),
            snapshot=ocp.args.JsonSave(
                {name: getattr(snapshot, name) for name in Snapshot.__dataclass_fields__}
            ),
        )
        with self._save_errors(number):
            self._opened().save(self.path(number), args=arguments)
        self._saving = self._saver.submit(self._finish, number, then)

    def _finish(self, number: int, then: Callable[[], None]) -> None:
        with self._save_errors(number):
            self._opened().wait_until_finished()
            if hosts.is_first():
                manifest.write(self.path(number))
        if hosts.is_first():
            then()

    @contextlib.contextmanager
    def _save_errors(self, number: int) -> Iterator[None]:
        """Turns what orbax raises where a file cannot be written into one line."""
        try:
            yield
        except Exception as error:
            if hosts.means_lost_peer(error):
                raise LostPeerError from error
            if hosts.is_first():
                self._delete_unfinished()
            raise SaveError(
                f"{self.path(number)} could not be saved: {reason_of(error)}; the "
                "checkpoints before it are as they were: make room, and run it again to go on from "
                "the last one"
            ) from error

    def keep_only(self, numbers: set[int]) -> None:
        """Deletes all other checkpoints."""
        for number in set(self.numbers()) - numbers:
            self._delete(number)

    def discard_after(self, number: int) -> None:
        """Deletes later checkpoints, broken ones among them, and what unfinished saves left."""
        for later in [step for step in self.numbers() if step > number]:
            self._delete(later)
        self._delete_unfinished()

    def _delete(self, number: int) -> None:
        if hosts.is_first():
            # Without its manifest first: one that is half deleted is unfinished, not damaged.
            manifest.delete(self.path(number))
            shutil.rmtree(self.path(number))

    def _delete_unfinished(self) -> None:
        if hosts.is_first():
            for path in self._folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(path, ignore_errors=True)

    def path(self, number: int) -> Path:
        """Folder of a checkpoint."""
        return self._folder / str(number)

    def numbers(self) -> list[int]:
        """Of all checkpoints, whole or not, ascending."""
        if not self._folder.is_dir():
            return []
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())

    def latest(self) -> int | None:
        """The latest checkpoint that is whole; None if there is none."""
        self.wait()
        return next((number for number in reversed(self.numbers()) if self.is_whole(number)), None)

    def is_whole(self, number: int) -> bool:
        """Whether every file of the checkpoint is as it was saved."""
        return not self.problem(number)

    def was_saved(self, number: int) -> bool:
        """Whether saving came to its end; what is not whole then is damaged, not unfinished."""
        return manifest.exists(self.path(number))

    def problem(self, number: int) -> str:
        """What is wrong with a checkpoint, naming the file; empty if it is whole."""
        self.wait()
        return hosts.told_by_first(lambda: manifest.problem(self.path(number)))

    def manifest_digest(self, number: int) -> str:
        """SHA-256 of the manifest, which stands for the whole checkpoint."""
        return manifest.digest(self.path(number))

    def snapshot(self, number: int) -> Snapshot:
        """History, configuration and fingerprint of a checkpoint."""
        arguments = ocp.args.Composite(snapshot=ocp.args.JsonRestore())
        return Snapshot(**self._restore(number, arguments)["snapshot"])

    def item_ids(self, number: int) -> np.ndarray:
        """int64 or strings [V], the vocabulary of a checkpoint: ids in the data, by index."""
        stored = self._metadata(number)["vocabulary"]
        (ids,) = jax.tree.leaves(getattr(stored, "tree", stored))
        like = {"item_ids": np.zeros(ids.shape, ids.dtype)}
        arguments = ocp.args.Composite(vocabulary=ocp.args.StandardRestore(like))
        return from_stored(self._restore(number, arguments)["vocabulary"]["item_ids"])

    def restore(self, number: int, like: State, histories: Dataset | None = None) -> State:
        """The state of a checkpoint.

        Args:
          number: a whole checkpoint's.
          like: state of the shapes, dtypes and shardings to restore to.
          histories: data whose vocabulary must be the checkpoint's; None: not compared.

        Raises:
          UserError: naming what differs, if the shapes or the vocabulary are others.
        """
        path = self.path(number)
        _check_shapes(path, self._metadata(number)["state"], like)
        if histories is not None:
            item_ids = to_stored(self.item_ids(number))
            _check_shapes(path, {"item_ids": item_ids}, _vocabulary(histories))
            if not np.array_equal(item_ids, to_stored(histories.item_ids)):
                raise UserError(f"{path}: its item_ids are not those of the data; use the same")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        # On another mesh, other numbers of zeros fill item tables up: cut off or added here.
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract, strict=False))
        return self._restore(number, arguments)["state"]

    def restore_plain(self, number: int) -> dict[str, Any]:
        """The state of a checkpoint as nested dicts of arrays on the first device, of any shape."""
        stored = self._metadata(number)["state"]
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
            getattr(stored, "tree", stored),
        )
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        return self._restore(number, arguments)["state"]

    def _restore(self, number: int, arguments: ocp.args.Composite) -> Any:
        return self._opened().restore(self.path(number), args=arguments)

    def _metadata(self, number: int) -> Any:
        return self._opened().metadata(self.path(number)).item_metadata


def _vocabulary(histories: Dataset) -> dict[str, np.ndarray]:
    return {"item_ids": to_stored(histories.item_ids)}


def _check_shapes(path: Path, stored: Any, expected: Any) -> None:
    """Raises UserError naming the first array whose shape differs.

    Item tables may have other numbers of rows: the vocabularies are compared apart from this.
    """
    with contextlib.suppress(AttributeError):
        stored = stored.tree
    there, here = (
        {_plain(keys): (leaf.shape, is_item_table(keys)) for keys, leaf in leaves}
        for leaves in map(tree_leaves_with_path, (stored, expected))
    )
    for name in sorted(there.keys() | here.keys()):
        (one, is_table), (other, _) = (each.get(name, (None, False)) for each in (there, here))
        if one != other and not (is_table and other and one[1:] == other[1:]):
            raise UserError(
                f"{path}: {name} has shape {one}, expected {other}; "
                "it is of another run, or of another optimiser: resume with the one it began with"
            )


def _plain(keys: tuple) -> str:
    """`params/item_embedding`, whatever containers the keys lead through."""
    return "/".join(
        str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", None)))) for key in keys
    )
