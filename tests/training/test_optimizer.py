"""Adam with TensorFlow's epsilon, and optimisers of the user's own: trained, resumed, refused."""

import dataclasses
import json
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mqsa_jax.config import Config, ModelConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import UserError
from mqsa_jax.grid import with_flags
from mqsa_jax.runs.checkpoints import Checkpoints
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.epoch import compile_epoch
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import train
from mqsa_jax.training.objective import objective
from mqsa_jax.training.optimizer import tf_adam
from mqsa_jax.training.population_loop import train_population
from mqsa_jax.training.state import run_key

CONFIG = Config(
    model=ModelConfig(dim=8, max_len=6, dropout=0.0),
    training=TrainingConfig(batch_size=20, lr=3e-3, epochs=2, seed=1),
)
OPTIMIZERS = {
    "adamw": optax.adamw(1e-2, weight_decay=0.1),
    "clipped": optax.chain(optax.clip_by_global_norm(0.05), optax.adam(1e-2)),
    "default within a chain": optax.chain(optax.clip_by_global_norm(0.05), tf_adam()),
    "without moments": optax.sgd(0.1),
}


@cache
def histories():
    rng = np.random.default_rng(0)
    sequences = [rng.integers(1, 25, rng.integers(3, 12)) for _ in range(40)]
    return make_histories(range(1, 41), sequences)


def experiment(optimizer=None, config=CONFIG) -> Experiment:
    made = Experiment(config, histories(), DeviceLayout.of(1))
    return made if optimizer is None else dataclasses.replace(made, optimizer=optimizer)


# Adam


def test_adam_follows_its_formula_in_float64():
    rng = np.random.default_rng(0)
    # Down to gradients beside which epsilon counts.
    gradients = rng.normal(size=(40, 5)) * 10.0 ** np.array([0, -3, -6, -8, -10])
    optimizer, params = tf_adam(), {"w": jnp.zeros(5)}
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    m = v = np.zeros(5)
    for step, gradient in enumerate(np.float32(gradients).astype(float), start=1):
        rate = 0.1 / step
        updates, state = update({"w": jnp.float32(gradient)}, state, learning_rate=rate)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        scale = rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        np.testing.assert_allclose(updates["w"], -scale * m / (np.sqrt(v) + 1e-8), rtol=2e-4)
    assert int(state.count) == 40


def test_adam_is_not_that_of_optax_where_gradients_are_small():
    params, gradient = jnp.zeros(2), jnp.array([1.0, 1e-8])
    ours, _ = tf_adam().update(gradient, tf_adam().init(params), learning_rate=1.0)
    theirs, _ = optax.adam(1.0).update(gradient, optax.adam(1.0).init(params))
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    # Of the first step, sqrt(v) = sqrt(0.001) 1e-8: beside it epsilon counts 32 times as much.
    np.testing.assert_allclose(theirs[1], -1 / 2, rtol=1e-4)
    np.testing.assert_allclose(ours[1], -1 / (1 + 1 / 0.001**0.5), rtol=1e-4)


# Optimisers of the user's own

gradient_of = jax.jit(jax.grad(objective, has_aux=True), static_argnames="recommender")


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_steps_are_those_of_the_optimizer(name, parallel):
    optimizer, here = OPTIMIZERS[name], experiment(OPTIMIZERS[name])
    relations = here.relations()
    source = here.batch_source()
    (batches,) = source.batches(0, 512, source.capacity())
    program = compile_epoch(here.recommender, here.layout, parallel, optimizer)
    start = here.initial_state()
    state, _ = program(start, batches, here.layout.replicate(run_key(1)), relations)

    fixed = dict(recommender=here.recommender, hparams=start.hparams)
    params, opt_state = start.params, optimizer.init(start.params)
    rate = {"learning_rate": start.hparams.lr} if name == "default within a chain" else {}
    for step in range(source.num_steps):
        batch = jax.tree.map(lambda leaf, step=step: jnp.asarray(leaf[step]), batches)
        gradient, _ = gradient_of(params, batch, jax.random.key(0), **fixed)
        update, opt_state = optimizer.update(gradient, opt_state, params, **rate)
        params = optax.apply_updates(params, update)
    # A constant added to all keys changes nothing: what Adam makes of rounding errors is noise.
    for keys, mine in jax.tree_util.tree_leaves_with_path(state.params):
        if "['key']['bias']" not in (leaf := jax.tree_util.keystr(keys)):
            expected = dict(jax.tree_util.tree_leaves_with_path(params))[keys]
            np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5, err_msg=leaf)
    moved = state.params["item_embedding"] - start.params["item_embedding"]
    assert np.abs(moved).max() > 1e-4


@pytest.mark.parametrize("name", ["adamw", "clipped"])
def test_a_resumed_run_ends_as_one_that_went_through(name, tmp_path):
    whole, parts = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "parts")
    result = train(experiment(OPTIMIZERS[name]), whole, resume=False)
    shorter = with_flags(CONFIG, epochs=1)
    train(experiment(OPTIMIZERS[name], shorter), parts, resume=False)
    resumed = train(experiment(OPTIMIZERS[name]), parts, resume=True)
    assert resumed["MRR"] == result["MRR"]
    states = []
    for run_dir in (whole, parts):
        checkpoints, here = Checkpoints(run_dir.checkpoints), experiment(OPTIMIZERS[name])
        states.append(checkpoints.restore(2, here.initial_state(), here.histories))
        checkpoints.close()
    chex.assert_trees_all_equal(*states)


@pytest.mark.parametrize(
    ("first", "second"),
    [("adamw", None), (None, "clipped"), ("clipped", "adamw"), ("without moments", None)],
)
def test_another_optimizer_cannot_resume_a_run(first, second, tmp_path):
    run_dir = RunDirectory(tmp_path)
    train(experiment(OPTIMIZERS.get(first), with_flags(CONFIG, epochs=1)), run_dir, resume=False)
    lines = (run_dir.path / "metrics.jsonl").read_text()
    with pytest.raises(UserError, match="opt_state") as refusal:
        train(experiment(OPTIMIZERS.get(second)), run_dir, resume=True)
    assert "\n" not in str(refusal.value)
    assert (run_dir.path / "metrics.jsonl").read_text() == lines


def test_a_population_trains_by_it_as_a_run_does(tmp_path):
    here, run_dir = experiment(OPTIMIZERS["clipped"]), RunDirectory(tmp_path / "alone")
    train(here, run_dir, resume=False)
    checkpoints = Checkpoints(tmp_path / "population")
    trials = train_population(here, [CONFIG, with_flags(CONFIG, seed=2)], checkpoints)
    checkpoints.close()
    lines = map(json.loads, (run_dir.path / "metrics.jsonl").read_text().splitlines())
    for line, expected in zip(trials[0].history, lines, strict=True):
        assert line == pytest.approx({name: expected[name] for name in line}, rel=2e-5)
    by_default = RunDirectory(tmp_path / "default")
    train(experiment(), by_default, resume=False)
    first = json.loads((by_default.path / "metrics.jsonl").read_text().splitlines()[-1])
    assert first["loss"] != pytest.approx(trials[0].history[-1]["loss"], rel=1e-4)
