"""Where a result comes from: command, commit, machine and versions."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax

from mqsa_jax.ops.kernels.registration import kernels_in_use

DISTRIBUTIONS = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python, this package and what the numbers depend on."""
    from mqsa_jax import __version__

    own = {"python": platform.python_version(), "mqsa_jax": __version__}
    return own | {name: metadata.version(name) for name in DISTRIBUTIONS}


def provenance(devices: list[jax.Device]) -> dict[str, str | list[str] | bool]:
    """The command, the commit of the source (`unknown` outside a checkout) and the machine."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "commit": commit_of(Path(__file__).parent),
        "machine": _machine(devices),
        "cpu_kernels": kernels_in_use(),
    }


def commit_of(folder: Path) -> str:
    """Short hash of the checkout that a folder is in; `unknown` outside of one.

    With `-dirty` if files that git knows have changed, but for results in docs.
    """
    git = ("git", "-C", str(folder))
    changes = ("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)docs")
    try:
        commit, changed = (
            subprocess.run([*git, *command], capture_output=True, text=True, check=True).stdout
            for command in (("rev-parse", "--short", "HEAD"), changes)
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.strip() + ("-dirty" if changed else "")


def _machine(devices: list[jax.Device]) -> str:
    kind = devices[0].device_kind
    return f"{len(devices)} × {kind}, {os.cpu_count()} cores of {_processor()}{_memory()}"


def _memory() -> str:
    """The machine's memory, where the system tells it."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return ""
    return f", {size / 2**30:.0f} GiB"


def _processor() -> str:
    """The processor's name; Linux alone tells it, elsewhere the architecture must do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
