"""What training tells of its speed, and its traces."""

import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.config import Config, ModelConfig, RunConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import train
from mqsa_jax.training.running_epoch import SPEED, Work, speed_line

RNG = np.random.default_rng(0)
HISTORIES = make_histories(range(24), [RNG.integers(0, 9, 6) for _ in range(24)])


class Device:
    def __init__(self, stats):
        self.memory_stats = lambda: stats


def trained(tmp_path, **run):
    config = Config(
        model=ModelConfig(dim=4, max_len=4),
        training=TrainingConfig(batch_size=4, epochs=2),
        run=RunConfig(**run),
    )
    run_dir = RunDirectory(tmp_path / "run")
    train(Experiment(config, HISTORIES, DeviceLayout.of(1)), run_dir, resume=False)
    return run_dir


def test_speed_of_an_epoch():
    devices = [Device({"peak_bytes_in_use": 3 << 20}), Device({"peak_bytes_in_use": 5 << 20})]
    line = speed_line(Work(steps=4, positions=600.0, waited=0.5), 2.0, devices)
    assert line == dict(zip(SPEED, (2.0, 500.0, 300.0, 0.25, 5.0), strict=True))
    for silent in (None, {}):
        assert "device_memory_mib" not in speed_line(Work(), 1.0, [Device(silent)])


def test_positions_are_those_of_the_data(tmp_path):
    lines = trained(tmp_path).history()
    # Six items: three inputs before the newest training item.
    for line in lines:
        positions = line["positions_per_second"] * line["seconds"]
        assert positions == pytest.approx(24 * 3, rel=0.02)


def test_a_trace_of_some_steps(tmp_path):
    run_dir = trained(tmp_path, profile=3)
    (trace,) = run_dir.profile.rglob("perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert len(events) > 100
    assert list(run_dir.profile.rglob("*.xplane.pb"))
    assert len(run_dir.history()) == 2


def test_without_the_flag_nothing_is_traced(tmp_path):
    assert not trained(tmp_path).profile.exists()


def test_training_of_one_program_traces_nothing_and_says_so(tmp_path):
    config = Config(
        model=ModelConfig(dim=4, max_len=4),
        training=TrainingConfig(batch_size=4, epochs=1),
        run=RunConfig(profile=99),
    )
    run_dir = RunDirectory(tmp_path / "run")
    with pytest.warns(UserWarning, match="nothing was profiled"):
        train(Experiment(config, HISTORIES, DeviceLayout.of(1)), run_dir, resume=False)
    assert not run_dir.profile.exists()


def test_the_operation_that_makes_a_nan_is_named():
    config = Config(model=ModelConfig(dim=4, max_len=4), run=RunConfig(debug_nans=True, devices=1))
    try:
        Experiment.load(config, HISTORIES)
        with pytest.raises(FloatingPointError, match="nan"):
            jax.jit(jnp.log)(jnp.float32(-1))
    finally:
        jax.config.update("jax_debug_nans", False)
