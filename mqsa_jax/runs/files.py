"""Files of runs: written whole or not at all, read with an error that names the file, locked."""

import contextlib
import errno
import json
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import filelock

from mqsa_jax import hosts
from mqsa_jax.attribute_settings import FILES
from mqsa_jax.config import MAY_CHANGE, Config
from mqsa_jax.data.sources import dataset_names
from mqsa_jax.errors import FolderError, UserError
from mqsa_jax.models.registry import check_model_settings
from mqsa_jax.sampling import Sampling

LOCK = ".lock"
"""File that a process locks while it uses a folder of results; deleted at the end, or left over."""
ARRAY_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise at a damaged file of arrays, depending on which byte it is."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder of results; makes the folder if there is none.

    Of the processes of one run, the first holds the lock for all. The system drops the lock of a
    process that dies. A folder that was made here and stays empty is removed again.

    Raises:
      FolderError: if another process holds the folder, or a file is in its place.
      OSError: if it cannot be written to.
    """
    if not hosts.is_first():
        yield
        return
    if any("\ud800" <= letter <= "\udfff" for letter in str(folder)):
        shown = str(folder).encode(errors="backslashreplace").decode()
        raise FolderError(f"{shown}: the name is not Unicode text; checkpoints need one")
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise FolderError(f"{folder} is a file, not a folder") from None
    file = folder / LOCK
    lock = filelock.FileLock(file, timeout=0)
    # Opened here first: filelock takes a folder that cannot be written to for one that is in use.
    with file.open("a") as opened:
        try:
            lock.acquire()
            # Whoever held it may have deleted the file in between: then this lock keeps nobody out.
            mine = file.exists() and os.path.samestat(file.stat(), os.fstat(opened.fileno()))
        except filelock.Timeout:
            mine = False
    if not mine:
        lock.release()
        raise FolderError(f"{folder} is in use by another process; wait for its end")
    try:
        yield
    except OSError as error:
        # Of a file that is open already, the system tells no name.
        error.filename = error.filename or str(folder)
        raise
    finally:
        file.unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):
            for path in missing:
                path.rmdir()


def is_empty(folder: Path) -> bool:
    """Whether a folder is missing or holds nothing but its lock."""
    return not folder.exists() or all(path.name == LOCK for path in folder.iterdir())


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file. A reader, or a crash, sees the old content or the new, never a part.

    Of the processes of one run, only the first writes; so do all functions that use this one.
    """
    if not hosts.is_first():
        return
    draft = path.with_name(path.name + ".tmp")
    try:
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def reason_of(error: Exception) -> str:
    """The system's words in what a library makes of an error of the disk; else all, in one line."""
    text = " ".join(str(error).split())
    known = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)]
    return next((words for words in known if words in text), text or repr(error))


def write_json(path: Path, value: Any) -> None:
    """Writes readable JSON; raises ValueError at NaN."""
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads JSON; raises UserError naming the file if it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is this the folder of a run?") from None
    except NotADirectoryError:
        raise UserError(f"{path.parent} is a file; name the folder of a run") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); restore or delete it") from None


def stored_config(path: Path) -> Config:
    """The configuration in a file, of this version or an older one.

    Raises:
      UserError: naming the file, if it is missing or broken, or a value is out of range.
    """
    values = read_json(path)
    try:
        config = Config.from_stored(values)
        config.validate()
        check_model_settings(config)
        Sampling.of(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return config


def differing_flags(
    one: Config, other: Config, ignored: Set[str] = MAY_CHANGE
) -> list[tuple[str, Any, Any]]:
    """Name and both values of the flags in which two configurations differ.

    Files of data are not told apart by their paths: fingerprints tell whether they are alike.
    """
    values, others = one.flat(), other.flat()
    if not {one.dataset.lower(), other.dataset.lower()} & set(dataset_names()):
        ignored = ignored | {"dataset"}
    ignored = ignored | {name for name in FILES if values[name] and others[name]}
    return [
        (name, values[name], others[name])
        for name in values
        if values[name] != others[name] and name not in ignored
    ]
