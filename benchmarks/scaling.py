"""Step time and peak temporary memory of training against every size: five axes and a plot.

    python -m benchmarks.scaling [--quick]

One axis varies at a time, all others stay at `BASE`. Data are random, so that any size can be
had; a step's cost hangs on sizes alone. Plotting takes matplotlib.

Shape legend: V items, N positions, R rows, T positions a row, U distinct items, M transitions.
"""

import argparse
import dataclasses
import functools
import importlib.util
import statistics
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.sparse

from benchmarks.measure import RESULTS, matmul_gflops, report, seconds
from mqsa_jax.config import Config
from mqsa_jax.data.batches import Batch
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.devices import enable_compilation_cache
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Recommender
from mqsa_jax.training.state import init_state, run_key
from mqsa_jax.training.step import train_step

HISTORY_LENGTH = 7
"""Items of each history: the benchmark data sets' average."""
REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a step's cost hangs on."""

    items: int = 12_000
    """V."""
    positions: int = 1_500
    """N, real positions of the step."""
    dim: int = 64
    """D."""
    max_len: int = 50
    """T."""
    transitions: int = 100_000
    """M, entries of the teacher in all."""


BASE = Sizes()
AXES = {
    "items": (12_000, 40_000, 120_000, 400_000, 1_000_000),
    "positions": (375, 750, 1_500, 3_000, 6_000),
    "dim": (32, 64, 128, 256),
    "max_len": (25, 50, 100, 200, 400),
    "transitions": (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000),
}
QUICK_BASE = Sizes(items=500, positions=100, dim=8, max_len=10, transitions=1_000)
QUICK_AXES = {
    "items": (500, 1_000),
    "positions": (100, 200),
    "dim": (8, 16),
    "max_len": (10, 20),
    "transitions": (1_000, 2_000),
}


def synthetic_counts(sizes: Sizes, rng: np.random.Generator) -> TransitionCounts:
    """M transitions between random pairs of items, all distinct, each counted 1 to 3 times."""
    num_items, wanted = sizes.items, sizes.transitions
    # Spare pairs make up for those drawn twice.
    pairs = np.unique(rng.integers(num_items**2, size=wanted + wanted // 4))
    pairs_M = np.sort(rng.permutation(pairs)[:wanted])
    if pairs_M.size < wanted:
        raise ValueError(f"{wanted} transitions are too many for {num_items} items")
    from_M, to_M = np.divmod(pairs_M, num_items)
    return TransitionCounts(
        row_start=np.searchsorted(from_M, np.arange(num_items + 1)).astype(np.int32),
        successor=to_M.astype(np.int32),
        count=rng.integers(1, 4, wanted).astype(np.float32),
    )


def synthetic_batch(sizes: Sizes, counts: TransitionCounts, rng: np.random.Generator) -> Batch:
    """A batch of N positions in ceil(N / T) rows, full but for the end of the last one.

    Histories of 7 random items stand side by side; the last of a row takes what room is left.

    Args:
      sizes: of the batch.
      counts: whose rows the batch carries.
      rng: randomness of items and targets.
    """
    length = sizes.max_len
    shape = (1, -(-sizes.positions // length), length)
    history = min(HISTORY_LENGTH, length - 1)
    row_N, column_N = np.divmod(np.arange(sizes.positions), length)
    segment_ids_N = row_N * -(-length // history) + column_N // history
    position_N = length - np.bincount(segment_ids_N)[segment_ids_N] + column_N % history
    item_N, target_N = rng.integers(sizes.items, size=(2, sizes.positions))
    distinct_U, count_U = np.unique(item_N, return_counts=True)

    def rows(value_N: np.ndarray, fill: int = 0) -> np.ndarray:
        out = np.full(shape, fill, np.int32)
        out.ravel()[: value_N.size] = value_N
        return out

    return Batch(
        inputs=Sequences(rows(item_N), rows(position_N), rows(segment_ids_N, -1)),
        target=rows(target_N),
        distinct_item=distinct_U.astype(np.int32)[None],
        distinct_count=count_U.astype(np.float32)[None],
        num_positions=np.float32(sizes.positions),
        **transitions_of(counts, distinct_U),
    )


def transitions_of(counts: TransitionCounts, distinct_U: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of the distinct items, as a batch of one shard carries them."""
    rows = scipy.sparse.csr_array(
        (counts.count, counts.successor, counts.row_start), shape=(counts.num_items,) * 2
    )[distinct_U].tocoo()
    return dict(
        successor_row=rows.row[None].astype(np.int32),
        successor=rows.col[None].astype(np.int32),
        successor_count=rows.data[None].astype(np.float32),
    )


@functools.cache
def measure_step(sizes: Sizes, repeats: int) -> dict[str, Any]:
    """Time of one compiled training step in ms, and in MiB its temporaries and its state.

    The state is what lives on from step to step, parameters and Adam's moments. Temporaries are
    all that a step holds beside the state that it is given: the one that it makes too, in whose
    buffers XLA may put what else it needs. `ratio` is temporaries over state.
    """
    rng = np.random.default_rng(0)
    counts = synthetic_counts(sizes, rng)
    batch = jax.device_put(synthetic_batch(sizes, counts, rng))
    recommender = Recommender(sizes.items, sizes.dim, sizes.max_len)
    hparams = HParams.of(Config())
    state = jax.jit(init_state, static_argnums=0)(recommender, hparams, 0)
    step = jax.jit(
        lambda state, batch, key: train_step(state, batch, key, recommender=recommender),
    )
    key = run_key(0)
    compiled = step.lower(state, batch, key).compile()
    memory = compiled.memory_analysis()
    temp_bytes = memory.temp_size_in_bytes + memory.output_size_in_bytes
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))

    def one_step():
        # As in training, which keeps the old state until it is saved: it is not given away.
        nonlocal state
        state, losses = compiled(state, batch, key)
        return state, losses

    times = seconds(one_step, repeats)
    return {
        "step_ms": 1e3 * statistics.median(times),
        "temp_mib": temp_bytes / 2**20,
        "state_mib": state_bytes / 2**20,
        "ratio": temp_bytes / state_bytes,
    }


def measure_axes(base: Sizes, axes: dict[str, tuple[int, ...]], repeats: int) -> list[dict]:
    """A row for every value of every axis; the base is measured once and stands in all axes."""
    rows = []
    for axis, values in axes.items():
        for value in values:
            sizes = dataclasses.replace(base, **{axis: value})
            rows.append({"axis": axis, "value": value, **measure_step(sizes, repeats)})
            print(f"{axis} {value:,}: {rows[-1]['step_ms']:.4g} ms", flush=True)
    return rows


def exponents(rows: list[dict[str, Any]], column: str) -> dict[str, float]:
    """For each axis the slope p of a straight line through the logarithms: cost ~ value^p."""

    def slope(axis: str) -> float:
        value, cost = np.log([(r["value"], r[column]) for r in rows if r["axis"] == axis]).T
        return round(float(np.polyfit(value, cost, 1)[0]), 3)

    return {axis: slope(axis) for axis in dict.fromkeys(row["axis"] for row in rows)}


def draw(rows: list[dict[str, Any]], base: Sizes, path: Path) -> None:
    """Plots both costs against every axis, each axis relative to its base value, and saves it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    titles = {"step_ms": "Step time (ms)", "temp_mib": "Peak temporary memory (MiB)"}
    for panel, (column, title) in zip(panels, titles.items(), strict=True):
        for axis, exponent in exponents(rows, column).items():
            at_base = getattr(base, axis)
            line = [(r["value"] / at_base, r[column]) for r in rows if r["axis"] == axis]
            label = f"{axis} ({at_base:,}): exponent {exponent:.2f}"
            panel.loglog(*zip(*line, strict=True), marker="o", markersize=4, label=label)
        panel.set(title=title, xlabel="Size relative to the base (in parentheses)")
        panel.grid(which="both", alpha=0.25)
        panel.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    print(f"Drawn to {path}")


def main() -> None:
    """Measures, fits, reports and draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two tiny sizes an axis: a smoke test")
    quick = parser.parse_args().quick
    enable_compilation_cache()
    base, axes = (QUICK_BASE, QUICK_AXES) if quick else (BASE, AXES)
    # A quick run leaves the results of a full one alone.
    name = "scaling_quick" if quick else "scaling"
    gflops = matmul_gflops([(256, 256, 256)] if quick else None)
    rows = measure_axes(base, axes, repeats=2 if quick else REPEATS)
    report(
        name,
        rows,
        base=dataclasses.asdict(base),
        step_exponent=exponents(rows, "step_ms"),
        temp_exponent=exponents(rows, "temp_mib"),
        matmul_gflops=gflops,
    )
    if importlib.util.find_spec("matplotlib") is None:
        print("No plot: matplotlib is not installed")
    else:
        draw(rows, base, RESULTS / f"{name}.png")


if __name__ == "__main__":
    main()
