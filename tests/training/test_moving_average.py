"""The moving average of parameters: its steps, and that it is what runs and sweeps evaluate."""

import json
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.config import Config, ModelConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.grid import with_flags
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.losses.metrics import summarise
from mqsa_jax.runs.checkpoints import Checkpoints
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.epoch import compile_epoch
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import restore_best, train
from mqsa_jax.training.population_loop import train_population
from mqsa_jax.training.state import moving_average, run_key

PLAIN = Config(
    model=ModelConfig(dim=8, max_len=6),
    training=TrainingConfig(batch_size=40, lr=3e-3, epochs=2, seed=1),
)
AVERAGED = with_flags(PLAIN, ema_decay=0.6)


@cache
def experiment(config: Config) -> Experiment:
    rng = np.random.default_rng(0)
    sequences = [rng.integers(1, 25, rng.integers(3, 12)) for _ in range(80)]
    return Experiment(config, make_histories(range(1, 81), sequences), DeviceLayout.of(1))


def test_a_step_of_the_average_in_float64():
    rng = np.random.default_rng(0)
    values = jnp.asarray(rng.normal(size=(30, 4)), jnp.float32)
    actual, expected = {"a": values[0]}, np.asarray(values[0], float)
    for step, value in enumerate(values[1:]):
        actual = moving_average(actual, {"a": value}, jnp.float32(0.7), jnp.int32(step))
        decay = min(0.7, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * np.asarray(value, float)
        np.testing.assert_allclose(actual["a"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_training_goes_on_as_without_it(parallel):
    states = {}
    for config in (PLAIN, AVERAGED):
        here = experiment(config)
        relations = here.relations()
        source = here.batch_source()
        (batches,) = source.batches(0, 512, source.capacity())
        program = compile_epoch(here.recommender, here.layout, parallel)
        key = here.layout.replicate(run_key(1))
        states[config], _ = program(here.initial_state(), batches, key, relations)
    plain, averaged = states[PLAIN], states[AVERAGED]
    assert plain.ema_params is None and plain.eval_params is plain.params
    chex.assert_trees_all_close(plain.params, averaged.params, rtol=1e-6, atol=1e-7)
    start = experiment(AVERAGED).initial_state().params
    # Two steps, of decay 1/10 and 2/11: the average lies between the start and the end.
    for begun, end, mean in zip(
        *map(jax.tree.leaves, (start, averaged.params, averaged.eval_params)), strict=True
    ):
        assert np.abs(mean - end).max() <= np.abs(begun - end).max() * 1.1 + 1e-6
    assert not np.array_equal(
        averaged.ema_params["item_embedding"], averaged.params["item_embedding"]
    )


def test_a_run_evaluates_the_average_and_a_population_does_too(tmp_path):
    here, run_dir = experiment(AVERAGED), RunDirectory(tmp_path / "alone")
    result = train(here, run_dir, resume=False)
    lines = (run_dir.path / "metrics.jsonl").read_text().splitlines()
    history = list(map(json.loads, lines))
    state, epoch = restore_best(here, run_dir)
    for split, figures in (("valid", history[epoch - 1]), ("test", result)):
        ranks = here.evaluator(Protocol(split)).ranks(state.ema_params, state.hparams)
        prefix = "valid_" if split == "valid" else ""
        expected = {name: figures[prefix + name] for name in ("HR@20", "NDCG@20", "MRR")}
        assert expected == pytest.approx({name: summarise(ranks)[name] for name in expected})
    checkpoints = Checkpoints(tmp_path / "population")
    (trial,) = train_population(here, [AVERAGED], checkpoints)
    checkpoints.close()
    assert trial.test == pytest.approx({name: result[name] for name in trial.test})
    plain = train(experiment(PLAIN), RunDirectory(tmp_path / "plain"), resume=False)
    assert plain["MRR"] != result["MRR"]
