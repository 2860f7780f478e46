"""Toys with sampled losses of more and more negatives, beside the full loss.

    MQSA_DATA_DIR=DATA python -m benchmarks.sampled_toys

Every run has the same seed and few epochs. At its best epoch the full losses are computed too, over
the first steps of training and with dropout: what a run has come to, whatever it was trained on.
Results are kept one by one in docs/performance/sampled_toys.json: the command goes on where it was
stopped.
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import jax

from mqsa_jax.config import Config
from mqsa_jax.grid import with_flags
from mqsa_jax.presets import default_config
from mqsa_jax.runs.provenance import provenance, versions
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import restore_best, train
from mqsa_jax.training.objective import objective
from mqsa_jax.training.state import TrainState, run_key

RESULTS = Path(__file__).parents[1] / "docs" / "performance" / "sampled_toys.json"
EPOCHS, SEED, LOSS_STEPS = 6, 1, 16
RUNS: dict[str, dict[str, Any]] = {
    "full": {},
    **{
        f"sampled, {num}": {"ranking_loss": "sampled", "num_negatives": num}
        for num in (64, 1024, 256, 4096)
    },
    "sampled, 1024, lazy Adam": {"ranking_loss": "sampled", "lazy_adam": True},
    "gBCE, 1024": {"ranking_loss": "gbce", "num_negatives": 1024},
}
"""Flags by name, in the order in which they run."""


def full_losses(experiment: Experiment, state: TrainState) -> dict[str, float]:
    """Mean ranking and distillation loss over all items, in the first steps of training."""
    source = experiment.batch_source()
    batches = next(source.batches(0, LOSS_STEPS, source.capacity()))
    one = partial(objective, recommender=experiment.recommender, hparams=state.hparams)

    @jax.jit
    def of_steps(params, batches):
        return jax.lax.map(lambda batch: one(params, batch, run_key(0))[1], batches)

    losses = of_steps(state.params, batches)
    return {"loss_rec": float(losses.loss_rec.mean()), "loss_kd": float(losses.loss_kd.mean())}


def run(config: Config) -> dict[str, Any]:
    """Trains, tests the best epoch, and computes the full losses there."""
    experiment = Experiment.load(config)
    with tempfile.TemporaryDirectory() as folder:
        run_dir = RunDirectory(folder)
        result = train(experiment, run_dir, resume=False)
        state, best = restore_best(experiment, run_dir)
        history = run_dir.history()
    return {
        "best epoch": best,
        "valid NDCG@20": history[best - 1]["valid_NDCG@20"],
        "test": result,
        **full_losses(experiment, state),
        "versions": versions(),
        "provenance": provenance(jax.local_devices()),
    }


def main() -> None:
    """Trains what the file of results lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    base = with_flags(default_config("toys", "mqsa-ted"), epochs=EPOCHS, seed=SEED)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, flags in RUNS.items():
        if name not in results:
            print(name, flush=True)
            facts = {"flags": flags, "epochs": EPOCHS, "seed": SEED}
            results[name] = {**facts, **run(with_flags(base, **flags))}
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
