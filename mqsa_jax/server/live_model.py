"""The model that is served, and what becomes of it when its folder changes.

Requests are answered by the model in memory. A change of the folder, or its end, takes nothing from
it: a new model is loaded and compiled beside it, and takes its place between two batches.
"""

import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from mqsa_jax.errors import UserError
from mqsa_jax.export.loading import load_model
from mqsa_jax.server.answers import Answers
from mqsa_jax.server.engine import Engine
from mqsa_jax.server.metrics import Metrics

POLL_SECONDS = 1.0
"""Between two looks at the folder. A change must be as old before the model is loaded."""
_LEFT_ALONE = (".jsonl", ".tmp", ".lock", ".md")
_RESULTS = ("_metrics.json", "ranks.npz", "recommendations.npz", "ablation.json")
"""Endings of files beside the model, which training, evaluation and users write."""

Stamp = tuple[tuple[str, int, int, int], ...]
Folder = Literal["unchanged", "changed", "missing"]


def folder_stamp(folder: Path) -> Stamp | None:
    """Names, inodes, sizes and times of the files that a model is read from; None without any."""
    try:
        found = [
            (entry.name, status.st_ino, status.st_size, status.st_mtime_ns)
            for entry in os.scandir(folder)
            if entry.is_file() and not entry.name.endswith((*_LEFT_ALONE, *_RESULTS))
            for status in [entry.stat()]
        ]
    except OSError:
        return None
    return tuple(sorted(found)) or None


class LiveModel:
    """A model that is served, and its folder."""

    def __init__(self, folder: str, max_k: int, metrics: Metrics, say: Callable[[str], None]):
        """Loads the model and compiles its programs.

        Args:
          folder: of a run or an export.
          max_k: length of the longest lists.
          metrics: where swaps are counted.
          say: takes a line of the log.

        Raises:
          UserError: if the folder holds no model, or a damaged one.
        """
        self._folder, self._max_k = Path(folder), max_k
        self._metrics, self._say = metrics, say
        self._seen = self._stamp = folder_stamp(self._folder)
        self._failed: Stamp | None = None
        self.folder_state: Folder = "unchanged"
        self.problem: str | None = None
        """Why a changed folder is not served."""
        self.answers = self._load(1)

    def _load(self, generation: int) -> Answers:
        engine = Engine(load_model(self._folder), self._max_k)
        engine.warm_up()
        # What lives as long as the model is nothing for the garbage collector to look through: its
        # pauses would be the slowest requests.
        gc.collect()
        gc.freeze()
        self.loaded_at = time.time()
        return Answers(engine, generation)

    def describe(self) -> dict[str, Any]:
        """The model and its folder, for people and monitors."""
        model = self.answers.engine.model
        return {
            "folder": str(self._folder),
            "name": model.config.model.model,
            "items": model.num_items,
            "epoch": model.epoch,
            "generation": self.answers.generation,
            "loaded_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.loaded_at)),
        }

    def watch(self, ended: threading.Event, reload: bool) -> None:
        """Looks at the folder until `ended` is set; loads a new model if `reload` is true."""
        while not ended.wait(POLL_SECONDS):
            stamp = folder_stamp(self._folder)
            settled, self._seen = stamp == self._seen, stamp
            # Whoever replaces a folder may leave none for a moment, or half of one.
            if settled:
                self._note(stamp, reload)
                if reload and stamp not in (None, self._stamp, self._failed):
                    self._swap(stamp)

    def _note(self, stamp: Stamp | None, reload: bool) -> None:
        """Says what has become of the folder, once."""
        same = "unchanged" if stamp == self._stamp else "changed"
        state: Folder = "missing" if stamp is None else same
        if state == self.folder_state:
            return
        self.folder_state = state
        if state == "unchanged":
            self._failed = self.problem = None
        next_step = {
            "missing": "is gone or empty; the model in memory is served on",
            "changed": "has changed; "
            + ("the new model is being loaded" if reload else "the model in memory is served on"),
            "unchanged": "is as it was when the model was loaded",
        }
        self._say(f"{self._folder} {next_step[state]}")

    def _swap(self, stamp: Stamp) -> None:
        """Loads the folder's model and serves it from then on; keeps the old one if it fails."""
        began = time.monotonic()
        try:
            answers = self._load(self.answers.generation + 1)
        except Exception as error:
            # Whatever is wrong with a new model must not end a server that has a good one.
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            self.problem, self._failed = f"{kind}{error}", stamp
            self._metrics.failures.inc()
            self._say(f"the new model is not served, the one in memory is: {self.problem}")
            return
        self.answers, self._stamp, self._failed, self.problem = answers, stamp, None, None
        self.folder_state = "unchanged"
        self._metrics.swaps.inc()
        took = time.monotonic() - began
        self._say(f"model {answers.generation} is served, loaded in {took:.1f} s")
