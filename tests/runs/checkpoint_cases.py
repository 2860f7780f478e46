"""Runs whose checkpoints are told by their step, and what may happen to them."""

import shutil
from pathlib import Path

import jax
import numpy as np

from mqsa_jax.config import Config, ModelConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Recommender
from mqsa_jax.runs.checkpoints import Checkpoints, Snapshot
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.state import init_state

CONFIG = Config(dataset="data.txt", model=ModelConfig(dim=4, max_len=3))
HISTORIES = make_histories([1, 2], [[5, 8, 13, 21], [34, 8, 5]])


def blank(step: int = 0):
    """A state that is told by its step."""
    recommender = Recommender.of(CONFIG, HISTORIES.num_items)
    shapes = jax.eval_shape(lambda: init_state(recommender, HParams.of(CONFIG), 0))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return DeviceLayout.of(1).replicate(zeros.replace(step=np.int32(step)))


def history(*values: float) -> list[dict]:
    return [{"epoch": e, "valid_NDCG@20": value} for e, value in enumerate(values, 1)]


def make_run(folder: Path, *values: float, config: Config = CONFIG) -> RunDirectory:
    """A run whose epochs have these values in validation, with every checkpoint."""
    run = RunDirectory(folder)
    checkpoints = Checkpoints(run.checkpoints)
    run.start(config, HISTORIES.fingerprint())
    best = 0
    for epoch in range(1, len(values) + 1):
        lines = history(*values[:epoch])
        snapshot = Snapshot(lines, config.stored(), 1, HISTORIES.fingerprint())
        checkpoints.save(epoch, blank(epoch), HISTORIES, snapshot)
        checkpoints.wait()
        best = int(np.argmax(values[:epoch])) + 1
        run.record_best(best, checkpoints.manifest_digest(best))
    run.write_history(lines)
    checkpoints.close()
    (run.path / "test_metrics.json").write_text('{"MRR": 1}')
    (run.path / "ranks.npz").write_bytes(b"ranks")
    return run


def flip_a_byte(run: RunDirectory, epoch: int):
    flip_a_byte_of(run.checkpoints / str(epoch))


def flip_a_byte_of(checkpoint: Path):
    file = max((checkpoint / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def delete(run: RunDirectory, epoch: int):
    shutil.rmtree(run.checkpoints / str(epoch))


def leave_unfinished(run: RunDirectory, epoch: int):
    (run.checkpoints / str(epoch) / "manifest.json").unlink()


def exchange(run: RunDirectory, epoch: int):
    """A whole checkpoint, but of another epoch."""
    delete(run, epoch)
    shutil.copytree(run.checkpoints / "1", run.checkpoints / str(epoch))


HARM = [flip_a_byte, delete, leave_unfinished, exchange]
