"""Real processes of one run on this machine, which share the compiled programs."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax

ROOT = Path(__file__).parents[2]
LINE = "epoch {}/"
"""How the line of an epoch begins."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def start(command: str, *arguments: str, devices: int = 1, **options) -> subprocess.Popen:
    """`train.py` or `eval.py` in a process of its own, with so many virtual devices."""
    env = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_NUM_CPU_DEVICES": str(devices),
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, str(ROOT / command), *arguments],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def start_two(*arguments: str, second: list[str] | None = None) -> list[subprocess.Popen]:
    """Two processes of one run; `second` are the arguments of the second if they are others."""
    address = f"--coordinator-address=localhost:{free_port()}"
    shared = [address, "--num-processes=2"]
    return [
        start("train.py", *own, *shared, f"--process-id={index}")
        for index, own in enumerate((arguments, second or arguments))
    ]


def wait_for_line(process: subprocess.Popen, begin: str) -> None:
    """Reads the output up to a line that begins so."""
    for line in process.stdout:
        if line.startswith(begin):
            return
    raise AssertionError(f"{begin!r} was never printed: {process.communicate()}")


def ended(process: subprocess.Popen, seconds: float = 120) -> tuple[int, str, str]:
    """Exit code, output and errors of a process that is to end by itself."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, err


def run(command: str, *arguments: str, devices: int = 1) -> str:
    """The output of a process that must succeed."""
    code, out, err = ended(start(command, *arguments, devices=devices))
    assert code == 0, err
    return out


def run_two(*arguments: str) -> str:
    """The output of the first of two processes; the second must say nothing."""
    first, second = (ended(process) for process in start_two(*arguments))
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert without_gloo(second[1]) == without_gloo(second[2]) == ""
    return first[1]


def without_gloo(text: str) -> str:
    """The text without what the transport of the devices prints by itself."""
    return "".join(line for line in text.splitlines(True) if not line.startswith("[Gloo]"))


def kill(process: subprocess.Popen) -> float:
    """Kills a process at once; returns when, by `time.monotonic`."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return time.monotonic()
