"""`mqsa-jax serve` in a process of its own, and how its folder is replaced."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SECONDS = 60.0
"""The longest that anything but the start may take."""


class ServerProcess:
    """A server of a folder, at a port of its own."""

    def __init__(self, folder: Path, *flags: str):
        """Starts it, and waits until it listens.

        Raises:
          RuntimeError: with what it said, if it ends instead.
        """
        self.folder = folder
        command = [sys.executable, "-m", "mqsa_jax", "serve", f"--model={folder}", "--port=0"]
        self.process = subprocess.Popen(
            [*command, *flags],
            cwd=ROOT,
            env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = self.process.stdout.readline()
        found = re.match(r"mqsa-jax serve: http://127.0.0.1:(\d+) serves ", said)
        if not found:
            raise RuntimeError(said + self.process.communicate()[1])
        self.port = int(found[1])

    def get(self, path: str) -> str:
        """What it answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=SECONDS) as got:
            return got.read().decode()

    def wait_for(self, what: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """What it says of its health, once that is as it should be.

        Raises:
          TimeoutError: if it does not become so.
        """
        deadline = time.monotonic() + SECONDS
        while not what(health := json.loads(self.get("/health"))):
            if time.monotonic() > deadline:
                raise TimeoutError(str(health))
            time.sleep(0.2)
        return health

    def memory_mib(self) -> float:
        """Memory that the process holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024

    def cpu_seconds(self) -> float:
        """Time that its threads have run."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, signal_number: int) -> tuple[int, str, str]:
        """Exit code, output and errors, once it has ended after a signal."""
        self.process.send_signal(signal_number)
        printed, errors = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, printed, errors


def replace_folder(folder: Path, by: Path) -> None:
    """A copy of another folder in its place, in the way that an export replaces another."""
    draft, former = folder.with_name("draft"), folder.with_name("former")
    shutil.copytree(by, draft)
    folder.rename(former)
    draft.rename(folder)
    shutil.rmtree(former)
