"""Load, swaps of the model, and malformed requests: what a server answers, and how fast.

python -m benchmarks.serving --model exports/toys [--dataset toys] [--repeats 5] [--seconds 10]

The server, `mqsa-jax serve`, is a process of its own on the same machine as the load. Requests are
whole histories of the data set's users, drawn at random, and ask for 10 items. Figures of latency
are medians over the repeats of each repeat's quantile; counts are sums.
"""

import asyncio
import dataclasses
import gc
import os
import shutil
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import uvloop

from benchmarks.http_load import Load, closed_load, open_load, post
from benchmarks.malformed import KINDS, send_malformed
from benchmarks.measure import report
from benchmarks.server_process import ServerProcess, replace_folder
from mqsa_jax.data.sources import load_histories

REQUESTS = 5_000
"""Different requests."""
SUMMED = ("answers", "errors", "lost")


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured."""

    model: str
    """Folder of a run or an export, on the data set."""
    dataset: str = "toys"
    data_dir: str | None = None
    repeats: int = 5
    seconds: float = 10.0
    """Of each repeat."""
    connections: int = 32
    """Of the load that is as fast as answers come."""
    rates: tuple[int, ...] = (500, 1000, 1500)
    """Requests a second of the loads at a fixed rate."""
    swap_rate: int = 1000
    """Requests a second while a new model is swapped in."""
    malformed: int = 10_000
    seed: int = 1
    """Of the malformed requests."""


def histories_of(dataset: str, data_dir: str | None) -> list[bytes]:
    """Requests with the histories of users who are drawn at random."""
    data = load_histories(dataset, data_dir)
    users = np.random.default_rng(0).integers(0, data.num_users, REQUESTS)
    return [
        post(
            "/recommend",
            {"history": data.item_ids[data.items[slice(*data.offsets[user : user + 2])]].tolist()},
        )
        for user in users
    ]


def measured(
    what: str, server: ServerProcess, load: Callable[[], Load], repeats: int
) -> dict[str, Any]:
    """A row of the table: medians, sums, and how busy the machine was."""
    rows, busy = [], []
    for _ in range(repeats):
        began = server.cpu_seconds()
        row = load().row()
        spent = server.cpu_seconds() - began
        rows.append(row | {"cpu_ms_an_answer": 1e3 * spent / max(row["answers"], 1)})
        busy.append(os.getloadavg()[0])
        print(what, rows[-1], f"load average {busy[-1]:.1f}", flush=True)
    medians = {
        name: statistics.median(row[name] for row in rows) for name in rows[0] if name not in SUMMED
    }
    sums = {name: sum(row[name] for row in rows) for name in SUMMED}
    return {"load": what, **medians, **sums, "load_average": statistics.median(busy)}


def swapped(server: ServerProcess, requests: list[bytes], rate: float, seconds: float) -> Load:
    """Load at a fixed rate, over which the model's folder is replaced, until both have answered."""
    original = server.folder.with_name("original")
    timer = threading.Timer(seconds / 4, replace_folder, (server.folder, original))
    timer.start()
    load = uvloop.run(open_load(server.port, requests, rate, seconds))
    timer.join()
    while len(load.models) < 2:
        load.extend(uvloop.run(open_load(server.port, requests, rate, seconds)))
    return load


def refused(server: ServerProcess, number: int, seed: int) -> dict[str, Any]:
    """What became of malformed requests, and of the server's memory."""
    # Before the first figure, all that grows once.
    asyncio.run(send_malformed(server.port, min(number, 10 * len(KINDS)), seed + 1))
    before, began = server.memory_mib(), time.perf_counter()
    statuses, wrong = uvloop.run(send_malformed(server.port, number, seed))
    for line in wrong[:20]:
        print(line)
    return {
        "requests": number,
        "seed": seed,
        "kinds": len(KINDS),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "without_reason": len(wrong),
        "seconds": time.perf_counter() - began,
        "memory_mib_before": before,
        "memory_mib_after": server.memory_mib(),
    }


def run(options: Options, home: Path) -> None:
    """Measures all, and writes it."""
    requests = histories_of(options.dataset, options.data_dir)
    # A collection of what imports have left would be a pause of the load, not of the server.
    gc.freeze()
    for name in ("original", "served"):
        shutil.copytree(options.model, home / name)
    began = time.perf_counter()
    server = ServerProcess(home / "served", "--reload-on-change")
    start_seconds = time.perf_counter() - began
    try:
        uvloop.run(closed_load(server.port, requests, options.connections, 2))
        loads = loads_of(options, server, requests)
        rows = [measured(name, server, load, options.repeats) for name, load in loads.items()]
        bad = refused(server, options.malformed, options.seed)
        code, printed, errors = server.end(signal.SIGTERM)
    finally:
        server.process.kill()
    print(printed, errors)
    report(
        "serving",
        rows,
        options.dataset,
        malformed=bad,
        exit_code=code,
        start_seconds=start_seconds,
        repeats=options.repeats,
        seconds=options.seconds,
    )


def loads_of(
    options: Options, server: ServerProcess, requests: list[bytes]
) -> dict[str, Callable[[], Load]]:
    """The loads of the table, by name."""
    port, seconds = server.port, options.seconds

    def fixed(rate: int) -> Load:
        return uvloop.run(open_load(port, requests, rate, seconds))

    return {
        f"{options.connections} connections, as fast as answers come": lambda: uvloop.run(
            closed_load(port, requests, options.connections, seconds)
        ),
        **{f"{rate:,} requests/s": partial(fixed, rate) for rate in options.rates},
        f"{options.swap_rate:,} requests/s, a model swapped in": lambda: swapped(
            server, requests, options.swap_rate, seconds
        ),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        run(tyro.cli(Options, description=__doc__), Path(folder))
