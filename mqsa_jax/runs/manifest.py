"""Checksums of a checkpoint's files: with them it is known to be whole, without them unfinished.

Orbax commits a checkpoint atomically but does not notice bytes that change afterwards.
"""

import hashlib
import json
from pathlib import Path

from mqsa_jax.runs.files import write_json

MANIFEST = "manifest.json"


def write(folder: Path) -> None:
    """Writes the manifest of a checkpoint whose files are all there."""
    write_json(folder / MANIFEST, _checksums(folder))


def exists(folder: Path) -> bool:
    """Whether a checkpoint was finished once."""
    return (folder / MANIFEST).exists()


def delete(folder: Path) -> None:
    """Makes a checkpoint an unfinished one."""
    (folder / MANIFEST).unlink(missing_ok=True)


def problem(folder: Path) -> str:
    """What is wrong with a checkpoint, naming the file; empty if it is as it was saved."""
    if not folder.is_dir():
        return f"{folder} is missing"
    if not exists(folder):
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


def digest(folder: Path) -> str:
    """SHA-256 of the manifest, which stands for the whole checkpoint."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a checkpoint's folder, the manifest aside."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
