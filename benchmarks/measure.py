"""How the benchmarks measure, and how they tell: tables on the terminal, JSON in a folder."""

import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from mqsa_jax.config import Config, TrainingConfig
from mqsa_jax.data.sources import load_histories
from mqsa_jax.devices import DeviceLayout, enable_compilation_cache
from mqsa_jax.errors import UserError
from mqsa_jax.ops.products import Precision
from mqsa_jax.runs.provenance import provenance, versions
from mqsa_jax.training.experiment import Experiment

RESULTS = Path(__file__).parent / "results"
"""Where the JSON files are left; docs/performance holds copies of those that its page shows."""


def load_experiment(
    dataset: str, data_dir: str | None = None, precision: Precision = "float32"
) -> Experiment:
    """The paper's settings on a data set (a name or a file), on all local devices.

    Raises:
      SystemExit: 2, after one line on stderr, if the data cannot be had.
    """
    enable_compilation_cache()
    try:
        histories = load_histories(dataset, data_dir)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    config = Config(dataset=dataset, training=TrainingConfig(precision=precision))
    return Experiment(config, histories, DeviceLayout.of(None))


Product = tuple[int, int, int]
"""Sizes (m, k, n) of a product [m, k] × [k, n]."""


def matmul_gflops(products: Sequence[Product] | None = None, repeats: int = 9) -> float:
    """This machine's rate over float32 products, each timed by its median.

    NumPy multiplies on CPU, by default 2048³; on other devices JAX does, by default 8192³.
    """
    on_cpu = jax.default_backend() == "cpu"
    products = products or [((2048,) if on_cpu else (8192,)) * 3]
    multiply, put = (np.matmul, np.asarray) if on_cpu else (jax.jit(jnp.matmul), jax.device_put)
    rng = np.random.default_rng(0)
    total = 0.0
    for m, k, n in products:
        a, b = (put(rng.random(shape, np.float32)) for shape in ((m, k), (k, n)))
        total += statistics.median(seconds(partial(multiply, a, b), repeats))
    return 2 * sum(m * k * n for m, k, n in products) / total / 1e9


def seconds(function: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each call of `function`, after one that is not counted; waits for devices."""
    jax.block_until_ready(function())
    return [one_call(function) for _ in range(repeats)]


def one_call(function: Callable[[], Any]) -> float:
    """Seconds of one call; waits for devices."""
    began = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - began


def peak_memory(function: Callable[[], Any]) -> int:
    """Bytes that the process holds at most while `function` runs.

    Where devices have memory of their own, the most that was in use there since the process began.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats is not None:
        jax.block_until_ready(function())
        return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"]
    peak, done = 0, threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        jax.block_until_ready(function())
    finally:
        done.set()
        watcher.join()
    return peak


def _resident() -> int:
    """Bytes of this process in memory; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * 4096


def report(name: str, rows: list[dict[str, Any]], dataset: str | None = None, **facts: Any) -> None:
    """Prints rows as a table and writes them, with facts and provenance, to a JSON file.

    It is results/NAME.json, or results/NAME_DATASET.json if a data set's name or file is given.
    """
    if dataset is not None:
        name = f"{name}_{Path(dataset).stem.lower()}"
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*columns, title=name)
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in columns))
    Console().print(table)
    for key, value in facts.items():
        print(f"{key}: {_cell(value)}")
    content = {
        "rows": rows,
        "dataset": dataset,
        **facts,
        "versions": versions(),
        "provenance": provenance(jax.local_devices()),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"Written to {path}")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
