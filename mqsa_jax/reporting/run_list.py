"""How each run was made: command, commit, machine, versions, seconds an epoch."""

import shlex
import statistics

from mqsa_jax.reporting.results import Run
from mqsa_jax.reporting.sweeps import Sweep, sweep_command
from mqsa_jax.reporting.tables import table

RESULTS = ["epochs", "best epoch", "s an epoch", "validation NDCG@20", "test NDCG@20"]
"""Columns of what a run came to."""


def command(run: Run) -> str:
    """The command without the folders of one machine.

    With all settings that are not the defaults of today: the run may be older than they.
    """
    words = list(run.test["provenance"]["command"])
    for flag in ("--run-dir", "--data-dir"):
        while flag in words:
            place = words.index(flag)
            del words[place : place + 2]
    words = [word for word in words if not word.startswith(("--run-dir=", "--data-dir="))]
    if words[0].endswith("eval.py"):
        words += ["--run-dir", f"runs/{run.name}"]
    else:
        given = {word.partition("=")[0].replace("_", "-") for word in words}
        for name, value in run.differs.items():
            flag = f"--{name.replace('_', '-')}"
            if flag not in given:
                words += [flag, str(value)]
    return f"`{shlex.join(['python', *words])}`"


def runs_section(runs: list[Run]) -> str:
    """A line a run, then versions and notes."""
    versions = [_versions(run) for run in runs]
    letters = {text: _letter(place) for place, text in enumerate(dict.fromkeys(versions))}
    rows = []
    for run, text in zip(runs, versions, strict=True):
        made = run.test["provenance"]
        valid = "" if run.valid is None else f"{run.valid:.4f}"
        figures = [*_training(run), valid, f"{run.test['NDCG@20']:.4f}"]
        rows.append(
            [run.name, command(run), made["commit"], made["machine"], letters[text], *figures]
        )
    head = ["run", "command", "commit", "machine", "versions"]
    software = [f"- {letter}: {text}" for text, letter in letters.items()]
    notes = [f"- {run.name}: {run.note}" for run in runs if run.note]
    paragraphs = [
        table([*head, *RESULTS], rows),
        "Versions:\n\n" + "\n".join(software),
    ]
    if notes:
        paragraphs.append("Notes:\n\n" + "\n".join(notes))
    return "\n\n".join(paragraphs)


def sweeps_section(sweeps: list[Sweep]) -> str:
    """A line a sweep; nothing where there is none."""
    rows = [
        [sweep_command(sweep), str(len(sweep)), ", ".join(sorted({m.commit for m in sweep}))]
        for sweep in sweeps
    ]
    return "## Sweeps\n\n" + table(["command", "trials", "commit"], rows) if rows else ""


def _training(run: Run) -> tuple[str, str, str]:
    """Epochs, the tested one, and median seconds of training an epoch, as far as known."""
    if not run.epochs:
        return "not trained", "", ""
    known = [line["seconds"] for line in run.epochs if line["seconds"] is not None]
    seconds = f"{statistics.median(known):.1f}" if known else ""
    return str(len(run.epochs)), str(run.test["epoch"]), seconds


def _versions(run: Run) -> str:
    return ", ".join(f"{name} {version}" for name, version in run.test["versions"].items())


def _letter(place: int) -> str:
    """A, B, …, Z, then A1, B1, …"""
    turn, letter = divmod(place, 26)
    return chr(ord("A") + letter) + (str(turn) if turn else "")
