"""Seconds and memory of `mqsa-jax prepare` for a generated log, by DuckDB and by Spark.

    python -m benchmarks.prepare [--events 20000000] [--engines duckdb spark]

The log is a CSV file of string ids: a twentieth as many users as events, a two hundredth as many
items, the popular ones much oftener than the others. Whole processes are measured from outside;
memory is that of the process and of those that it started, together at their most.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import tyro

from benchmarks.measure import report

BLOCK = 1_000_000


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of the benchmark."""

    events: int = 20_000_000
    """Rows of the log."""
    engines: tuple[Literal["duckdb", "spark"], ...] = ("duckdb",)
    """What computes; spark needs PySpark and Java."""


def write_log(path: Path, events: int) -> None:
    """Writes a log of `events` rows in no order; the same one for the same number."""
    rng = np.random.default_rng(1)
    users, items = max(events // 20, 10), max(events // 200, 10)
    fields = [("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64())]
    options = pc.WriteOptions(quoting_style="none")
    with pc.CSVWriter(path, pa.schema(fields), write_options=options) as writer:
        for begin in range(0, events, BLOCK):
            rows = min(BLOCK, events - begin)
            user = (users * rng.random(rows) ** 1.5).astype(int)
            item = (items * rng.random(rows) ** 2).astype(int)
            columns = [
                pa.array(np.char.add("U", np.char.zfill(user.astype(str), 7))),
                pa.array(np.char.add("B", np.char.zfill(item.astype(str), 6))),
                pa.array(1_500_000_000 + rng.integers(0, 10**8, rows)),
            ]
            writer.write_batch(pa.record_batch(columns, names=[name for name, _ in fields]))


def measured(command: list[str]) -> dict[str, float]:
    """Seconds of a command, and MiB of it and its children at their most."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        peak, done = [0], threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                peak[0] = max(peak[0], sum(map(_resident, _family(process.pid))))

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = process.wait()
        done.set()
        watcher.join()
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return {"seconds": time.perf_counter() - began, "peak_mib": peak[0] / 2**20}


def _family(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for parent in found:
        for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, tasks.read_text().split())
            except OSError:
                continue
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except (OSError, ValueError):
        return 0


def main() -> None:
    """Measures and reports."""
    arguments = tyro.cli(Arguments, description=__doc__.splitlines()[0])
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.csv"
        write_log(log, arguments.events)
        for engine in arguments.engines:
            output = Path(folder) / engine
            command = [sys.executable, "-m", "mqsa_jax", "prepare", str(log)]
            figures = measured([*command, "--output", str(output), "--engine", engine])
            manifest = json.loads((output / "manifest.json").read_text())
            kept = {name: manifest[name] for name in ("users", "items", "interactions")}
            rows.append({"engine": engine, "events": arguments.events, **figures, **kept})
        size = log.stat().st_size / 2**20
    report("prepare", rows, log_mib=size)


if __name__ == "__main__":
    main()
