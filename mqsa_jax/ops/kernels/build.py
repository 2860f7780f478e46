"""Compiles the C++ of this folder for the processor at hand, once, and loads it."""

import ctypes
import functools
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax
import jaxlib
import pooch

SWITCH = "MQSA_CPU_KERNELS"
"""Variable of the environment; 0 leaves the kernels out, and XLA does all by itself."""
SYMBOLS = ("mqsa_jax_linear_logsumexp", "mqsa_jax_sparse_bilinear", "mqsa_jax_largest")
"""What the library must have: the names by which XLA calls the kernels."""
FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno")
SOURCES = Path(__file__).parent


@functools.cache
def load() -> ctypes.CDLL | None:
    """The shared library of all kernels.

    Compiled with `$CXX`, or the C++ compiler on the path, into the folder of JAX's compilation
    cache or else the user's; found there the next time, unless source, flags, jaxlib, compiler or
    processor are others, or the file is damaged.

    Returns:
      The library; None where it is switched off, there is no compiler, or compiling fails, which is
      logged: all works without, more slowly.
    """
    command = os.environ.get("CXX") or shutil.which("c++")
    if os.environ.get(SWITCH) == "0" or command is None:
        return None
    try:
        compiler = shlex.split(command)
        library = _cache_folder() / f"kernels-{_key(compiler)}.so"
        return _loaded(library) or _loaded(_compile(compiler, library), strict=True)
    except (OSError, ValueError, AttributeError, subprocess.CalledProcessError) as error:
        logging.getLogger(__name__).warning(
            "compiling or loading the kernels failed, XLA does all (%s=0 silences this): %s",
            SWITCH,
            _reason(error),
        )
        return None


def _loaded(library: Path, *, strict: bool = False) -> ctypes.CDLL | None:
    """The library of a file; None if the file is missing or damaged, an error with `strict`."""
    # An ELF file that was cut short crashes the process that loads it, so it is verified before.
    if not strict and not (library.exists() and _digest_file(library).exists()):
        return None
    try:
        if _digest_file(library).read_text() != _digest(library):
            raise OSError(f"{library} is damaged")
        loaded = ctypes.CDLL(str(library))
        for name in SYMBOLS:
            getattr(loaded, name)
    except (OSError, AttributeError):
        if strict:
            raise
        return None
    return loaded


def _digest_file(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()


def _cache_folder() -> Path:
    folder = jax.config.jax_compilation_cache_dir
    if not folder or "://" in folder:
        folder = pooch.os_cache("mqsa_jax") / "compiled"
    return Path(folder).resolve()  # a name without a folder would be sought elsewhere


def _key(compiler: list[str]) -> str:
    """Changes with all that the library depends on."""
    key = hashlib.sha256(jaxlib.__version__.encode())
    for path in sorted([*SOURCES.glob("*.cc"), *SOURCES.glob("*.h")]):
        key.update(path.read_bytes())
    # The compiler's own macros tell its version and the instructions of the processor.
    key.update(_output([*compiler, *FLAGS, "-dM", "-E", "-x", "c++", os.devnull]).encode())
    return key.hexdigest()[:16]


def _compile(compiler: list[str], library: Path) -> Path:
    """Compiles the kernels into a file, which appears whole; returns it."""
    library.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own, so that processes that start together do not write the same file.
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        built = Path(folder) / library.name
        flags = (*FLAGS, "-fPIC", "-shared", "-isystem", jax.ffi.include_dir())
        _output([*compiler, *flags, str(SOURCES / "handlers.cc"), "-o", str(built)])
        digest = Path(folder) / "digest"
        digest.write_text(_digest(built))
        built.replace(library)
        digest.replace(_digest_file(library))
    return library


def _output(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, check=True, text=True, errors="replace")
    return result.stdout


def _reason(error: Exception) -> str:
    """One line: the first error that the compiler tells, or else what became of it."""
    lines = (getattr(error, "stderr", None) or "").splitlines() or str(error).splitlines()
    return next((line for line in lines if "error" in line), (lines or [repr(error)])[0])
