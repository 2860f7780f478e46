"""A map of the item vectors: a projection to two dimensions, computed once and kept in the run.

Shape legend: M items on the map, D width of their vectors.
"""

import hashlib
import os
import sys
import threading
from typing import Any

import numpy as np
import openTSNE

from mqsa_jax.errors import UserError
from mqsa_jax.inference.stored_model import read_arrays
from mqsa_jax.runs.run_directory import RunDirectory

FILE = "item_map.npz"
MAX_ITEMS = 50_000
"""Items on the map, the most frequent ones."""
PERPLEXITY = 30
EARLY_STEPS, STEPS = 250, 500
"""Steps of t-SNE with and without exaggeration."""
STEPS_AT_A_TIME = 10
"""Steps between two reports of the progress."""
FEWEST = 10
"""Items from which t-SNE has neighbours to go by; fewer are projected on their main axes."""


class ItemMap:
    """t-SNE of the vectors by their cosine, in a thread of its own.

    Positions are there from the start, those of the main axes, and get better until `done`.
    """

    def __init__(self, run_dir: RunDirectory, vectors: np.ndarray, count_V: np.ndarray | None):
        """Takes the run's folder, [V, D] item vectors, and how frequent the items are."""
        items = np.arange(len(vectors), dtype=np.int32)
        if len(vectors) > MAX_ITEMS:
            order = items if count_V is None else np.argsort(-count_V, kind="stable")
            items = np.sort(order[:MAX_ITEMS]).astype(np.int32)
        self.items = items
        """[M] index of each item on the map, ascending."""
        self._run_dir = run_dir
        length_M1 = np.linalg.norm(vectors[items], axis=1, keepdims=True)
        self._unit_MD = vectors[items] / np.maximum(length_M1, np.finfo(np.float32).tiny)
        self._digest = hashlib.sha256(vectors[items].tobytes() + items.tobytes()).hexdigest()
        self._position_M2, self._steps, self._stopped = _main_axes(self._unit_MD), 0, False
        self._total = EARLY_STEPS + STEPS if len(items) >= FEWEST else 0
        self._error: str | None = None

    def start(self) -> None:
        """Takes the kept map if it is of these vectors, or starts to compute one."""
        kept = self._kept()
        if kept is not None:
            self._position_M2, self._steps = kept, self._total
        elif self._total:
            threading.Thread(target=self._compute, daemon=True).start()

    def stop(self) -> None:
        """Ends the computation at its next report."""
        self._stopped = True

    def status(self) -> dict[str, Any]:
        """`steps` done of `total`, the `count` of items, and an `error` if there was one."""
        return {
            "steps": self._steps,
            "total": self._total,
            "count": len(self.items),
            "error": self._error,
        }

    def positions(self) -> np.ndarray:
        """float32 [M, 2], each between -1 and 1."""
        position_M2 = self._position_M2 - self._position_M2.mean(axis=0)
        largest = np.abs(position_M2).max(initial=0) or 1
        return (position_M2 / largest).astype(np.float32)

    def _compute(self) -> None:
        if hasattr(os, "setpriority"):
            # Of this thread alone, on Linux: answers to the page come first.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        try:
            self._position_M2 = np.asarray(self._projected())
        except Exception as error:  # The page tells it; the other views go on.
            self._error = f"{type(error).__name__}: {error}"
            return
        if not self._stopped:
            self._steps = self._total
            self._keep()

    def _projected(self) -> np.ndarray:
        embedding = openTSNE.TSNE(
            perplexity=min(PERPLEXITY, (len(self.items) - 1) // 3),
            metric="cosine",
            initialization=openTSNE.initialization.rescale(_main_axes(self._unit_MD)),
            early_exaggeration_iter=EARLY_STEPS,
            n_iter=STEPS,
            n_jobs=max((os.cpu_count() or 2) // 2, 1),
            random_state=0,
            callbacks=self._report,
            callbacks_every_iters=STEPS_AT_A_TIME,
        )
        return embedding.fit(self._unit_MD)

    def _report(self, step: int, error: float, embedding: np.ndarray) -> bool:
        """Takes positions on the way; True ends the computation."""
        self._steps = min(self._steps + STEPS_AT_A_TIME, self._total - 1)
        self._position_M2 = np.array(embedding)
        return self._stopped

    def _kept(self) -> np.ndarray | None:
        if not (self._run_dir.path / FILE).exists():
            return None
        try:
            arrays = read_arrays(self._run_dir, FILE, ["digest", "position"])
        except UserError:
            return None  # Damaged: computed anew, which replaces it.
        return arrays["position"] if str(arrays["digest"]) == self._digest else None

    def _keep(self) -> None:
        arrays = {"digest": np.array(self._digest), "position": self.positions()}
        try:
            self._run_dir.write_arrays(FILE, arrays)
        except OSError as error:
            print(f"mqsa-jax explore: the map is not kept: {error}", file=sys.stderr)


def _main_axes(unit_MD: np.ndarray) -> np.ndarray:
    """float64 [M, 2] the vectors on their two axes of largest variance."""
    centred_MD = unit_MD.astype(np.float64) - unit_MD.mean(axis=0)
    variance_D, axis_DD = np.linalg.eigh(centred_MD.T @ centred_MD)
    axis_D2 = axis_DD[:, np.argsort(-variance_D)[:2]]
    # The sign of an axis is chance: its largest entry is made positive.
    largest = axis_D2[np.abs(axis_D2).argmax(axis=0), np.arange(axis_D2.shape[1])]
    position_M2 = centred_MD @ (axis_D2 * np.where(largest < 0, -1, 1))
    return np.pad(position_M2, ((0, 0), (0, 2 - position_M2.shape[1])))
