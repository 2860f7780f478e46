"""The checkpoint of a run's best epoch, once it is known to be what the run's files say.

Evaluation, recommendation and export use `best_checkpoint` and nothing else: it needs no data set,
writes nothing, and raises where the best epoch is not at hand. Only training may go back to an
earlier epoch, by `resume_point`.
"""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator
from operator import itemgetter
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
        check_config(run_dir, config, snapshot, run_dir.checkpoints / str(latest))
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


@dataclasses.dataclass(frozen=True, eq=False)
class ResumePoint:
    """A whole checkpoint to train on from: at the end of an epoch, or within one."""

    checkpoints: Checkpoints
    """Those of epochs, or those within an epoch."""
    number: int
    """Of the checkpoint: the epoch, or the step."""
    snapshot: Snapshot
    """Of the checkpoint."""

    @property
    def path(self) -> Path:
        """Folder of the checkpoint."""
        return self.checkpoints.path(self.number)

    def __str__(self) -> str:
        kind = "step" if self.snapshot.epoch_steps else "epoch"
        return f"{kind} {self.number}"


def resume_point(
    run_dir: RunDirectory, epochs: Checkpoints, steps: Checkpoints
) -> ResumePoint | None:
    """Where to train on from; None to start afresh.

    It is the latest whole one whose best epoch is whole too. A warning names what is passed over.

    Args:
      run_dir: the run.
      epochs: its checkpoints.
      steps: those within the epoch that was under way.

    Raises:
      UserError: if checkpoints are damaged and there is none to go back to.
    """
    problems = []
    candidates = [(epoch, 0, epochs, epoch) for epoch in epochs.numbers()]
    for number in steps.numbers():
        problem = steps.problem(number)
        if problem:
            problems.append(problem)
        else:
            snapshot = steps.snapshot(number)
            candidates.append((len(snapshot.history), snapshot.epoch_steps, steps, number))
    for *_, checkpoints, number in sorted(candidates, key=itemgetter(0, 1), reverse=True):
        problem = checkpoints.problem(number)
        if not problem:
            point = ResumePoint(checkpoints, number, checkpoints.snapshot(number))
            best = best_epoch(point.snapshot.history)
            problem = epochs.problem(best) if best else ""
        if not problem:
            if problems:
                _warn(problems, f"training goes on from {point}")
            return point
        problems.append(problem)
    if any(kind.was_saved(number) for kind in (epochs, steps) for number in kind.numbers()):
        raise UserError(
            f"{'; '.join(dict.fromkeys(problems))}; there is no earlier epoch to go on from: "
            "restore it, or delete the run and start afresh"
        )
    if problems:
        _warn(problems, "training starts afresh")
    return None


def check_config(
    run_dir: RunDirectory, config: Config, snapshot: Snapshot, checkpoint: Path
) -> None:
    """Raises UserError if the run's configuration is not the one that a checkpoint was made with.

    Shapes alone do not show it: heads, window or alpha change the computation and no array.
    """
    trained = Config.from_stored(snapshot.config)
    differing = differing_flags(config, trained)
    if differing:
        changes = ", ".join(
            f"{name} {here}, trained with {there}" for name, here, there in differing
        )
        raise UserError(
            f"{run_dir.config_file}: not the configuration of {checkpoint} "
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
