"""One small run by the command line, whose compiled program all its repeats share."""

from pathlib import Path

import numpy as np

from mqsa_jax.commands.train import train_main

EPOCHS = 4
# The data teach that the held out items are the least likely, whatever is drawn.
BEST = 1
STEPS = 4  # an epoch: 60 users in batches of 16
SETTINGS = {"dim": 8, "max-len": 8, "batch-size": 16, "lr": 0.002, "devices": 1}
FLAGS = ["--dataset=histories.txt", *(f"--{name}={value}" for name, value in SETTINGS.items())]


def write_histories(path: Path, seed: int = 0):
    """60 users, each with 2 to 9 of the items 1 to 25 and then two of the items 26 to 30."""
    rng = np.random.default_rng(seed)
    lines = []
    for user in range(1, 61):
        trained, held_out = rng.integers(1, 26, rng.integers(2, 10)), rng.integers(26, 31, 2)
        lines.append(" ".join(map(str, [user, *trained, *held_out])) + "\n")
    path.write_text("".join(lines))


def arguments(run: Path, epochs: int, *more: str) -> list[str]:
    return [*FLAGS, "--run-dir", str(run), "--epochs", str(epochs), *more]


def train(run: Path, epochs: int = EPOCHS, *more: str):
    assert train_main(arguments(run, epochs, *more)) == 0
