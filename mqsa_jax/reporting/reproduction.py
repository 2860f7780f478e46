"""How each result was made: command, commit, machine, versions, seconds an epoch."""

import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path

from mqsa_jax.attribute_settings import FILES
from mqsa_jax.reporting.results import Run, as_flags
from mqsa_jax.reporting.sweeps import Sweep
from mqsa_jax.reporting.tables import sweep_table, table

_FOLDERS = ("--run-dir", "--data-dir")


def command(run: Run) -> str:
    """The command without the folders of one machine.

    It names all settings that differ from today's defaults: the run may be older than they are.
    """
    words = list(run.test["provenance"]["command"])
    for flag in _FOLDERS:
        while flag in words:
            index = words.index(flag)
            del words[index : index + 2]
    words = [word for word in words if not word.startswith(tuple(f"{f}=" for f in _FOLDERS))]
    words = [_without_folder(*pair) for pair in zip(["", *words], words, strict=False)]
    if words[0].endswith("eval.py"):
        words += ["--run-dir", f"runs/{run.folder.name}"]
    else:
        given = {word.partition("=")[0].replace("_", "-") for word in words}
        for name, value in run.differs.items():
            flag = f"--{name.replace('_', '-')}"
            if flag not in given:
                words += as_flags({name: value}).split(" ", 1)
    return f"`{shlex.join(['python', *words])}`"


def _without_folder(before: str, word: str) -> str:
    """A word of a command and the one before it: of a file of attributes, the name alone."""
    flag, equals, value = word.partition("=")
    if _names_file(before):
        return Path(word).name
    return f"{flag}={Path(value).name}" if equals and _names_file(flag) else word


def _names_file(flag: str) -> bool:
    return flag.startswith("--") and flag[2:].replace("-", "_") in FILES


def runs_table(runs: Sequence[Run]) -> str:
    """A row a result, then versions and notes."""
    versions = [_versions(run) for run in runs]
    letters = {text: _letter(index) for index, text in enumerate(dict.fromkeys(versions))}
    rows = []
    for run, text in zip(runs, versions, strict=True):
        made = run.test["provenance"]
        valid = "" if run.valid is None else f"{run.valid:.4f}"
        figures = [*_training(run), valid, f"{run.test['NDCG@20']:.4f}"]
        made_by = [run.name, command(run), made["commit"], made["machine"], letters[text]]
        rows.append([*made_by, *figures])
    head = ["run", "command", "commit", "machine", "versions"]
    head += ["epochs", "best epoch", "s an epoch", "validation NDCG@20", "test NDCG@20"]
    software = [f"- {letter}: {text}" for text, letter in letters.items()]
    notes = [f"- {run.name}: {run.note}" for run in runs if run.note]
    paragraphs = [table(head, rows), "Versions:\n\n" + "\n".join(software)]
    if notes:
        paragraphs.append("Notes:\n\n" + "\n".join(notes))
    return "\n\n".join(paragraphs)


def sweep_paragraphs(sweeps: Sequence[Sweep]) -> list[str]:
    """For each sweep its command, commits and trials."""
    paragraphs = []
    for sweep in sweeps:
        commits = ", ".join(sorted({trial.commit for trial in sweep.trials}))
        paragraphs.append(f"{sweep.command}, {len(sweep.trials)} trials, commit {commits}:")
        paragraphs.append(sweep_table(sweep))
    return paragraphs


def _training(run: Run) -> tuple[str, str, str]:
    """Epochs, the tested one, and median seconds of training an epoch, as far as known."""
    if not run.epochs:
        return "not trained", "", ""
    known = [line["seconds"] for line in run.epochs if line["seconds"] is not None]
    seconds = f"{statistics.median(known):.1f}" if known else ""
    return str(len(run.epochs)), str(run.test["epoch"]), seconds


def _versions(run: Run) -> str:
    return ", ".join(f"{name} {version}" for name, version in run.test["versions"].items())


def _letter(index: int) -> str:
    """A, B, …, Z, then A1, B1, …"""
    turn, letter = divmod(index, 26)
    return chr(ord("A") + letter) + (str(turn) if turn else "")
