"""Step time and memory of the full and the sampled losses against the number of items.

    python -m benchmarks.large_catalogues [--quick]

Data are random, as in `benchmarks.scaling`. Steps run as in training: many in one program, whose
state is updated in place.
"""

import argparse
import dataclasses
import functools
import time
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks.measure import one_call, report
from benchmarks.scaling import Sizes, synthetic_batch, synthetic_counts
from mqsa_jax.config import Config, ObjectiveConfig
from mqsa_jax.data.batches import Batch
from mqsa_jax.devices import enable_compilation_cache
from mqsa_jax.losses.negatives import ItemFrequency
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Recommender
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.sampling import Sampling
from mqsa_jax.training.epoch import gradients_of, run_steps
from mqsa_jax.training.state import init_state, run_key

LOSSES = {
    "full": None,
    "sampled": Sampling(),
    "sampled, lazy Adam": Sampling(lazy=True),
}
"""By name in the table."""
ITEMS = (1_000_000,)
QUICK_ITEMS = (200, 400)
REPEATS = 2


@functools.cache
def data_of(sizes: Sizes) -> tuple[Batch, ItemFrequency]:
    """A batch, and how often items are targets."""
    rng = np.random.default_rng(0)
    batch = synthetic_batch(sizes, synthetic_counts(sizes, rng), rng)
    return batch, ItemFrequency.of(rng.integers(0, 10, sizes.items))


def measure(sizes: Sizes, sampling: Sampling | None, steps: int) -> dict[str, Any]:
    """Time a step of `steps` in one program, the least of a few, and MiB of the program.

    `cpu_ms` is that of all processors together, which other work on the machine leaves alone.
    """
    batch, frequency = data_of(sizes)
    batches = jax.tree.map(lambda leaf: np.stack([leaf] * steps), batch)
    recommender = Recommender(sizes.items, sizes.dim, sizes.max_len)
    state = jax.jit(init_state, static_argnums=0)(recommender, HParams.of(Config()), 0)
    relations = ItemRelations(frequency=frequency)
    program = jax.jit(partial(run_steps, recommender=recommender, gradients=gradients_of(sampling)))
    arguments = (state, batches, run_key(0), relations)
    compiled = program.lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    times, cpu_times = [], []
    for _ in range(REPEATS):
        began = time.process_time()
        times.append(one_call(lambda: compiled(*arguments)))
        cpu_times.append(time.process_time() - began)
    return {
        "step_ms": 1e3 * min(times) / steps,
        "cpu_ms": 1e3 * min(cpu_times) / steps,
        "temp_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20,
    }


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a smoke test")
    quick = parser.parse_args().quick
    enable_compilation_cache()
    base = Sizes(positions=100, dim=8, max_len=10, transitions=1_000) if quick else Sizes()
    rows = []
    for num_items in QUICK_ITEMS if quick else ITEMS:
        sizes = dataclasses.replace(base, items=num_items)
        if not quick:
            # As many transitions an item as Toys has.
            sizes = dataclasses.replace(sizes, transitions=8 * num_items)
        full = 0.0
        for name, sampling in LOSSES.items():
            steps = 1 if sampling is None or quick else 10
            row = {"items": num_items, "loss": name, **measure(sizes, sampling, steps)}
            full = row["cpu_ms"] if sampling is None else full
            rows.append({**row, "times_full": row["cpu_ms"] / full})
            print(rows[-1], flush=True)
    report(
        "large_catalogues_quick" if quick else "large_catalogues",
        rows,
        sizes=dataclasses.asdict(base),
        num_negatives=ObjectiveConfig.num_negatives,
    )


if __name__ == "__main__":
    main()
