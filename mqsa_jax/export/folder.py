"""The folder of an export: names of its files, checksums, and how it appears whole or not at all.

`SHA256SUMS` has a line for every file but the card, which is the user's to edit. It is of the form
that `sha256sum -c` reads. A reader that finds its content changed has another export before it.

Imports no JAX, so that argument errors come at once.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mqsa_jax.errors import FolderError, UserError

FORMAT = "mqsa_jax export"
FORMAT_VERSION = 1
CONFIG = "config.json"
CARD = "README.md"
CHECKSUMS = "SHA256SUMS"
MODEL = "model.safetensors"
PROGRAM = "model.stablehlo"
ONNX = "model.onnx"
VOCABULARY = "vocabulary.parquet"
COUNTS = "training_counts.safetensors"
INDEXES = {"usearch": "items.usearch", "faiss": "items.faiss"}
"""File of an approximate index, by library."""


class ExportFolder:
    """Reads an export; what it gives out has the checksum that the export was written with."""

    def __init__(self, path: str | os.PathLike[str]):
        """Opens a folder.

        Raises:
          UserError: if it holds no export, or one of another format version.
        """
        self.path = Path(path).absolute()
        version = _stored(self.path).get("format_version")
        if version != FORMAT_VERSION:
            raise UserError(
                f"{self.path / CONFIG}: format version {version!r} is unknown, this is "
                f"{FORMAT_VERSION}; use the version of mqsa_jax that wrote it, or export again"
            )
        self._sums = _read_sums(self.path)

    @property
    def digest(self) -> str:
        """SHA-256 of the checksums, which stands for the whole export."""
        text = "".join(f"{digest}  {name}\n" for name, digest in sorted(self._sums.items()))
        return hashlib.sha256(text.encode()).hexdigest()

    def holds(self, name: str) -> bool:
        """Whether the export has a file."""
        return name in self._sums

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
          UserError: naming the file, if it is missing or damaged.
        """
        if not self.holds(name):
            raise UserError(f"{self.path}: the export has no {name}; export the run again")
        try:
            content = (self.path / name).read_bytes()
        except FileNotFoundError:
            raise UserError(f"{self.path / name}: missing; {_AGAIN}") from None
        if hashlib.sha256(content).hexdigest() != self._sums[name]:
            raise UserError(f"{self.path / name}: damaged (SHA-256 differs); {_AGAIN}")
        return content

    def read_json(self, name: str) -> Any:
        """The value in a file; UserError as `read`."""
        return json.loads(self.read(name))

    def check(self) -> None:
        """Raises UserError, naming the file, if any file is missing or damaged."""
        for name, digest in self._sums.items():
            try:
                with open(self.path / name, "rb") as file:
                    actual = hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                raise UserError(f"{self.path / name}: missing; {_AGAIN}") from None
            if actual != digest:
                raise UserError(f"{self.path / name}: damaged (SHA-256 differs); {_AGAIN}")


_AGAIN = "copy the folder again, or export the run again"


def is_export(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds an export, of any version, whole or not."""
    if (Path(path) / CHECKSUMS).is_file():
        return True
    try:
        _stored(Path(path))
    except UserError:
        return False
    return True


def _stored(path: Path) -> dict[str, Any]:
    """`config.json` of an export, not yet checked; UserError if there is none."""
    try:
        values = json.loads((path / CONFIG).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path / CONFIG}: no such file; name the folder of an export") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path / CONFIG}: not readable as JSON ({error}); {_AGAIN}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{path}: holds no export of mqsa_jax")
    return values


def _read_sums(path: Path) -> dict[str, str]:
    """SHA-256 by file name; UserError if the list is missing or broken."""
    try:
        lines = (path / CHECKSUMS).read_text().splitlines()
        sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except FileNotFoundError:
        raise UserError(f"{path / CHECKSUMS}: missing; {_AGAIN}") from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path / CHECKSUMS}: not a list of checksums ({error}); {_AGAIN}"
        ) from None
    if any(Path(name).name != name for name in sums):
        raise UserError(f"{path / CHECKSUMS}: names files outside the folder; {_AGAIN}")
    return sums


def write_checksums(folder: Path) -> None:
    """Writes the checksums of all files of an export but the card's."""
    names = sorted(path.name for path in folder.iterdir() if path.name != CARD)
    lines = []
    for name in names:
        with open(folder / name, "rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    (folder / CHECKSUMS).write_text("".join(lines))


def check_target(path: Path, replace: bool) -> None:
    """Raises FolderError if an export cannot be written there; writes nothing.

    Args:
      path: the folder, which may be missing or empty.
      replace: whether an export that is there may be replaced.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise FolderError(f"--output {path} is a file; name a folder")
    held = {entry.name for entry in path.iterdir()}
    if not held:
        return
    if not is_export(path):
        raise FolderError(f"--output {path} holds other things; name a new folder")
    known = {CARD, CHECKSUMS, CONFIG, MODEL, PROGRAM, ONNX, VOCABULARY, COUNTS, *INDEXES.values()}
    foreign = sorted(held - known)
    if foreign:
        raise FolderError(
            f"--output {path} holds an export and other things ({', '.join(foreign)}); name a new "
            "folder, or move them away"
        )
    if not replace:
        raise FolderError(f"--output {path} holds an export; --replace replaces it")


@contextlib.contextmanager
def new_folder(path: Path, replace: bool) -> Iterator[Path]:
    """A draft folder, which becomes `path` at the end; nothing is left of it after an error.

    An export that is replaced is moved away first: for an instant there is no folder. Whoever reads
    then must try again, and never finds parts of both.

    Raises:
      FolderError: as `check_target`.
    """
    check_target(path, replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    former = draft.with_suffix(".former")
    try:
        draft.chmod(0o777 & ~_umask())
        yield draft
        for file in draft.iterdir():
            _sync(file)
        check_target(path, replace)
        if path.exists() and any(path.iterdir()):
            os.rename(path, former)
        try:
            os.rename(draft, path)
        except OSError:
            if former.exists():
                os.rename(former, path)
            raise
        _sync(path.parent)
    finally:
        for leftover in (draft, former):
            shutil.rmtree(leftover, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
