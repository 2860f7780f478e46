"""A small file of histories."""

from pathlib import Path

import numpy as np


def write_histories(path: Path, *more: str):
    """60 users, each with 2 to 9 of the items 1 to 25 and then two of the items 26 to 30."""
    rng = np.random.default_rng(0)
    lines = []
    for user in range(1, 61):
        trained, held_out = rng.integers(1, 26, rng.integers(2, 10)), rng.integers(26, 31, 2)
        lines.append(" ".join(map(str, [user, *trained, *held_out])))
    path.write_text("".join(f"{line}\n" for line in (*lines, *more)))
