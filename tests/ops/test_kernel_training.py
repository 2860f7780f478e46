"""Training on a single CPU device, where the kernels are used, against training by XLA alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from mqsa_jax.ops.kernels import build

TRAIN = Path(__file__).parents[2] / "train.py"


def trained(folder: Path, switch: str) -> tuple[list[dict], dict]:
    """Metrics of each epoch, and the provenance, of a run in a process of its own."""
    environment = {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        build.SWITCH: switch,
    }
    command = [sys.executable, TRAIN, "--dataset", "synthetic", "--epochs", "2", "--dim", "16"]
    subprocess.run([*command, "--run-dir", folder], env=environment, check=True)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    result = json.loads((folder / "test_metrics.json").read_text())
    return [json.loads(line) for line in lines], result["provenance"]


@pytest.mark.skipif(build.load() is None, reason="no C++ compiler")
def test_losses_are_the_same_but_for_rounding(tmp_path):
    (by_kernels, made), (by_xla, made_by_xla) = (
        trained(tmp_path / switch, switch) for switch in ("1", "0")
    )
    assert made["cpu_kernels"] and not made_by_xla["cpu_kernels"]
    assert len(by_kernels) == len(by_xla) == 2
    for own, expected in zip(by_kernels, by_xla, strict=True):
        for column in ("loss", "loss_rec", "loss_kd"):
            np.testing.assert_allclose(own[column], expected[column], rtol=1e-5)
