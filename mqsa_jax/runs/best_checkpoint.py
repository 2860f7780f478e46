"""The checkpoint of a run's best epoch, once it is known to be what the run's files say.

Evaluation, recommendation and export use `best_checkpoint` and nothing else: it needs no data set,
writes nothing, and raises where the best epoch is not at hand. Only training may go back to an
earlier epoch, by `resume_point`.
"""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mqsa_jax.config import Config
from mqsa_jax.errors import UserError
from mqsa_jax.models.placement import cut
from mqsa_jax.runs.checkpoints import Checkpoints, Snapshot
from mqsa_jax.runs.files import differing_flags
from mqsa_jax.runs.history import best_epoch
from mqsa_jax.runs.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True, eq=False)
class BestCheckpoint:
    """A whole checkpoint, of the best epoch of a run so far."""

    folder: Path
    """Of the run's checkpoints."""
    epoch: int
    config: Config
    """The configuration that it was trained with, from the checkpoint; run flags as in the file."""
    history: list[dict[str, Any]]
    """A line an epoch, up to the latest whole checkpoint."""
    data_fingerprint: str
    """`Histories.fingerprint` of the data that it was trained on."""
    item_ids: np.ndarray
    """int64 or strings [V], ids of the items in those data, by index."""
    term_factor: float
    """Of the transition term's weight, as chosen on validation when training ended; the arrays of
    the checkpoint have the configured weight."""

    def restore_plain(self) -> dict[str, Any]:
        """The state as nested dicts of arrays on the first device; any optimiser's."""
        with _opened(self.folder) as checkpoints:
            return cut(checkpoints.restore_plain(self.epoch), len(self.item_ids))


def best_checkpoint(run_dir: RunDirectory) -> BestCheckpoint:
    """Finds the best epoch's checkpoint and checks it against the run's files.

    Raises:
      UserError: naming the file and what to do, if that checkpoint is damaged or missing, or if
        `config.json` or `metrics.jsonl` differ from what the checkpoints hold.
    """
    config = run_dir.config()
    with _opened(run_dir.checkpoints) as checkpoints:
        latest = checkpoints.latest()
        if latest is None:
            raise UserError(f"{run_dir.checkpoints}: no whole checkpoint; train first")
        snapshot = checkpoints.snapshot(latest)
        check_config(run_dir, config, snapshot, latest)
        _check_history(run_dir, snapshot.history)
        record = run_dir.best_record()
        # The record may know of an epoch whose checkpoint is damaged now; after a crash, the
        # checkpoint may know of one that is not recorded yet. The best epoch never goes back.
        best = max(record["epoch"], best_epoch(run_dir.history()), best_epoch(snapshot.history))
        problem = checkpoints.problem(best)
        recorded = record["manifest"] if best == record["epoch"] else ""
        if not problem and recorded and recorded != checkpoints.manifest_digest(best):
            problem = f"{run_dir.checkpoints / str(best)} is not the checkpoint that was saved"
        if problem:
            raise UserError(
                f"{problem}, and epoch {best} is the best; restore that folder, or train again, "
                "which goes on from an earlier epoch"
            )
        return BestCheckpoint(
            run_dir.checkpoints,
            best,
            config,
            snapshot.history,
            snapshot.data_fingerprint,
            checkpoints.item_ids(best),
            _term_factor(config, record, best),
        )


def _term_factor(config: Config, record: dict[str, Any], best: int) -> float:
    """What training chose; 1, with a warning, if it has not ended yet."""
    if not (config.term.choose_term_weight and config.term.term_items):
        return 1.0
    if record["epoch"] == best and "term_factor" in record:
        return float(record["term_factor"])
    _warn(
        ["training has not ended"],
        f"the transition term has the weight {config.term.term_weight:g}, not yet one chosen on "
        "validation",
    )
    return 1.0


def resume_point(run_dir: RunDirectory, checkpoints: Checkpoints) -> tuple[int, Snapshot | None]:
    """The epoch to train on from, and its snapshot; 0 and None to start afresh.

    It is the latest whole one whose best epoch is whole too. A warning names what is passed over.

    Raises:
      UserError: if checkpoints are damaged and there is none to go back to.
    """
    problems = []
    for epoch in reversed(checkpoints.epochs()):
        problem = checkpoints.problem(epoch)
        if not problem:
            snapshot = checkpoints.snapshot(epoch)
            problem = checkpoints.problem(best_epoch(snapshot.history))
        if not problem:
            if problems:
                _warn(problems, f"training goes on from epoch {epoch}")
            return epoch, snapshot
        problems.append(problem)
    if any(checkpoints.was_saved(epoch) for epoch in checkpoints.epochs()):
        raise UserError(
            f"{'; '.join(dict.fromkeys(problems))}; there is no earlier epoch to go on from: "
            "restore it, or delete the run and start afresh"
        )
    if problems:
        _warn(problems, "training starts afresh")
    return 0, None


def check_config(run_dir: RunDirectory, config: Config, snapshot: Snapshot, epoch: int) -> None:
    """Raises UserError if the run's configuration is not the one that the checkpoint was made with.

    Shapes alone do not show it: heads, window or alpha change the computation and no array.
    """
    trained = Config.from_stored(snapshot.config)
    differing = differing_flags(config, trained)
    if differing:
        changes = ", ".join(
            f"{name} {here}, trained with {there}" for name, here, there in differing
        )
        raise UserError(
            f"{run_dir.config_file}: not the configuration of {run_dir.checkpoints / str(epoch)} "
            f"({changes}); put the trained values back"
        )


def _check_history(run_dir: RunDirectory, history: list[dict[str, Any]]) -> None:
    """Raises UserError if `metrics.jsonl` tells of epochs other than those of the checkpoints."""
    for line, trained in zip(run_dir.history(), history, strict=False):
        names = [name for name in {**trained, **line} if line.get(name) != trained.get(name)]
        if names:
            raise UserError(
                f"{run_dir.history_file}:{trained['epoch']}: {', '.join(names)} differ from the "
                "checkpoint's; restore the file, or train again, which writes it anew"
            )


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[Checkpoints]:
    checkpoints = Checkpoints(folder)
    try:
        yield checkpoints
    finally:
        checkpoints.close()


def _warn(problems: list[str], consequence: str) -> None:
    text = f"{'; '.join(dict.fromkeys(problems))}: {consequence}"
    warnings.warn(text, UserWarning, stacklevel=3)
