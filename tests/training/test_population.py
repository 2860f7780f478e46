"""Members of a population end as they do alone: their parameters, best epochs and test metrics.

84 users in batches of 20, 5 steps an epoch. Trials differ in seed or in a scalar each."""

import dataclasses
import json
from functools import lru_cache
from operator import itemgetter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from mqsa_jax.config import Config, ModelConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.grid import SCALARS, with_flags
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.registry import with_model
from mqsa_jax.ops.linear_logsumexp import linear_logsumexp
from mqsa_jax.runs.checkpoints import Checkpoints
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training import population_loop
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import train
from mqsa_jax.training.population import (
    TrialBatches,
    compile_population,
    initial_population,
    padded,
    trial_keys,
)
from mqsa_jax.training.population_loop import train_population
from mqsa_jax.training.running_epoch import SPEED

BASE = Config(
    model=ModelConfig(dim=8, num_heads=2, max_len=6, dropout=0.4),
    training=TrainingConfig(batch_size=20, lr=3e-3, epochs=12, patience=2, seed=1),
)
CHANGES = [
    {"alpha": 0.0, "window": 1, "seed": 2**32 - 1},
    {"lambda_kd": 0.5, "tau": 0.3, "seed": 2},
    {"dropout": 0.0, "l2": 1e-2, "lr": 1e-2},
]
TRIALS = [with_flags(BASE, **changes) for changes in CHANGES]


@lru_cache
def layout(num_devices: int) -> DeviceLayout:
    """One and the same, so that programs are compiled once."""
    return DeviceLayout.of(num_devices)


def experiment(config: Config = BASE, num_devices: int = 1) -> Experiment:
    rng = np.random.default_rng(1)
    sequences = [1 + rng.permutation(24)[: rng.integers(3, 12)] for _ in range(84)]
    histories = make_histories(range(1, 85), sequences)
    return Experiment(config, histories, layout(num_devices))


def trained(folder: Path, trials=TRIALS, num_devices: int = 2):
    """The trials, trained together, on two devices: three fill up to two on each."""
    checkpoints = Checkpoints(folder)
    try:
        return train_population(experiment(num_devices=num_devices), trials, checkpoints)
    finally:
        checkpoints.close()


@dataclasses.dataclass
class Alone:
    """What `train` makes of a trial."""

    history: list[dict]
    result: dict
    after_two: dict
    """Parameters after two epochs."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> list[Alone]:
    """Each trial's run alone."""
    outcomes = []
    for index, config in enumerate(TRIALS):
        run_dir = RunDirectory(tmp_path_factory.mktemp("alone") / str(index))
        here = experiment(config)
        result = train(here, run_dir, resume=False)
        # The last epochs but one and the best ones are kept; the second is among them.
        checkpoints = Checkpoints(run_dir.checkpoints)
        state = checkpoints.restore(2, here.initial_state(), here.histories)
        checkpoints.close()
        lines = (run_dir.path / "metrics.jsonl").read_text().splitlines()
        outcomes.append(Alone(list(map(json.loads, lines)), result, state.params))
    return outcomes


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("together"))


def assert_as_alone(trials, alone):
    for trial, run in zip(trials, alone, strict=True):
        assert (trial.problem, trial.finished) == ("", True)
        assert (len(trial.history), trial.best) == (len(run.history), run.result["epoch"])
        for line, expected in zip(trial.history, run.history, strict=True):
            assert line.keys() == expected.keys() - set(SPEED)
            assert line == pytest.approx({name: expected[name] for name in line}, rel=2e-5)
        assert trial.test == pytest.approx({name: run.result[name] for name in trial.test})


def test_the_trials_are_what_the_tests_take_them_for(alone):
    """One ends early and leaves, so that the others go on in a smaller program."""
    assert [len(run.history) for run in alone] == [3, 4, 4]
    assert {run.result["epoch"] for run in alone} == {1, 2}
    assert len({run.result["NDCG@20"] for run in alone}) == len(TRIALS)


def test_each_trial_ends_as_it_does_alone(together, alone):
    assert [trial.config for trial in together] == TRIALS
    assert_as_alone(together, alone)


@pytest.mark.parametrize("num_devices", [1, 2])
def test_parameters_after_two_epochs(alone, num_devices):
    here = experiment(num_devices=num_devices)
    relations = here.relations()
    programs = compile_population(here.recommender, here.layout)
    trials = [TRIALS[index] for index in padded(range(len(TRIALS)), num_devices)]
    state = initial_population(trials, programs, here.layout).state
    source = here.batch_source()
    source = TrialBatches.of(source, [config.training.seed for config in trials])
    keys = trial_keys(trials, here.layout)
    for epoch in range(2):
        for batches in source.epoch(epoch, 512):
            batches = here.layout.shard(batches, axis=0)
            state, _ = programs.epoch(state, batches, keys, relations)
    for leaf in jax.tree.leaves(state):
        assert len(leaf.addressable_shards) == num_devices
        assert leaf.addressable_shards[0].data.shape[0] == len(trials) // num_devices
    for index, run in enumerate(alone):
        assert int(state.step[index]) == 10
        assert_close(jax.tree.map(itemgetter(index), state.params), run.after_two)


def assert_close(params, expected):
    for (keys, one), other in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(expected), strict=True
    ):
        # The same for all keys of a query, such a bias has no gradient but rounding errors.
        if "key" not in (name := jax.tree_util.keystr(keys)) or "bias" not in name:
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("mqsa-ted-plus", {"term_weight": 2.0, "term_decay": 0.9}),
        ("grareg", {"lambda_graph": 5.0}),
    ],
)
def test_trials_of_other_models_end_as_they_do_alone(tmp_path, model, changes):
    base = with_flags(with_model(BASE, model), epochs=2)
    trials = [base, with_flags(base, **changes)]
    checkpoints = Checkpoints(tmp_path / "together")
    together = train_population(experiment(base), trials, checkpoints)
    checkpoints.close()
    results = []
    for index, trial in enumerate(together):
        run_dir = RunDirectory(tmp_path / str(index))
        result = train(experiment(trial.config), run_dir, resume=False)
        assert trial.test == pytest.approx({name: result[name] for name in trial.test})
        line = json.loads((run_dir.path / "metrics.jsonl").read_text().splitlines()[-1])
        assert trial.history[-1]["loss"] == pytest.approx(line["loss"], rel=2e-5)
        results.append((line["loss"], result["MRR"]))
    assert results[0] != results[1]


def test_seeds_of_one_number_share_batches_and_others_do_not():
    here = experiment()
    source = TrialBatches.of(here.batch_source(), [5, 3, 5])
    assert len(source.sources) == 2
    (batches,) = source.epoch(0, 512)
    assert batches.target.shape[:3] == (3, 5, 1)
    np.testing.assert_array_equal(batches.target[0], batches.target[2])
    assert (batches.target[0] != batches.target[1]).any()


@pytest.mark.parametrize(
    ("lr", "problem"), [(1e30, "of step"), (1000.0, "training has diverged by step")]
)
def test_a_trial_that_diverges_ends_alone(tmp_path, together, lr, problem):
    """Its neighbours end as they do without it."""
    *others, diverged = trained(tmp_path, [*TRIALS[:2], with_flags(BASE, lr=lr)])
    assert problem in diverged.problem and diverged.test is None and diverged.finished
    for one, other in zip(others, together, strict=False):
        assert one.problem == ""
        assert_same(one, other)


def test_trials_that_differ_in_what_is_not_traced_are_refused(tmp_path):
    with pytest.raises(ValueError, match="dim"):
        trained(tmp_path, [BASE, with_flags(BASE, dim=16)])


def test_what_may_vary_is_what_is_traced():
    # At a term_dropout of 1 the program is another one, and at an ema_decay of 0.
    assert {*SCALARS, "term_dropout", "ema_decay"} == set(HParams.__dataclass_fields__)


def test_stopped_and_continued_from_the_last_checkpoint(tmp_path, together, monkeypatch):
    """In epoch 4, after a trial has ended and left."""
    monkeypatch.setattr(population_loop, "CHECKPOINT_SECONDS", 0)
    stop_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path)
    monkeypatch.undo()
    seen = []
    show = population_loop._Group._show
    monkeypatch.setattr(
        population_loop._Group,
        "_show",
        lambda group, seconds: (seen.append(group._epoch), show(group, seconds)),
    )
    trials = trained(tmp_path)
    assert seen == [4]
    for one, other in zip(trials, together, strict=True):
        assert_same(one, other)


def assert_same(trial, expected):
    """To rounding: a program of another size may have trained it for an epoch."""
    assert (trial.config, trial.best) == (expected.config, expected.best)
    assert trial.test == pytest.approx(expected.test)
    for line, other in zip(trial.history, expected.history, strict=True):
        assert line == pytest.approx(other, rel=2e-5)


def stop_after(monkeypatch, epoch: int):
    read = population_loop._Group._read

    def read_or_stop(group, running):
        if group._epoch == epoch:
            raise KeyboardInterrupt
        read(group, running)

    monkeypatch.setattr(population_loop._Group, "_read", read_or_stop)


def test_the_slots_are_filled_up():
    assert padded([4, 6, 7], 2) == [4, 6, 7, 7] and padded([4, 6], 2) == [4, 6]


def while_loops(jaxpr):
    """All loops of a program for CPUs, without kernels, those within others too."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "while":
            found.append(equation)
        if "functions" in equation.params:  # chosen by platform
            shapes = [
                jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in equation.invars
            ]
            own = jax.make_jaxpr(dict(equation.params["functions"])["cpu"])(*shapes)
            found += while_loops(own.jaxpr)
        for inner in jaxprs_in_params(equation.params):
            found += while_loops(inner)
    return found


def test_trials_share_the_number_of_turns_of_the_losses_loop():
    """Each trial alone would take as many chunks as its rows that count fill."""

    def value_and_gradient(x_SND, table_VD, weight_SN):
        return jax.value_and_grad(
            lambda *arrays: linear_logsumexp(*arrays, chunk=2)[0], argnums=(0, 1)
        )(x_SND, table_VD, weight_SN)

    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, 1, 10, 4)), jnp.float32)
    table = jnp.asarray(rng.normal(size=(3, 6, 4)), jnp.float32)
    weight = np.zeros((3, 1, 10), np.float32)
    weight[0, 0, :9], weight[1, 0, 4:6] = 1.0, 0.5  # Of the last trial, no row counts.
    weight = jnp.asarray(weight)
    together = jax.vmap(value_and_gradient)
    loops = while_loops(jax.make_jaxpr(together)(x, table, weight).jaxpr)
    assert loops
    for loop in loops:
        # The condition is a scalar: were it [3], the body would select among all that it carries.
        condition = loop.params["cond_jaxpr"].jaxpr
        assert [equation.primitive.name for equation in condition.eqns] == ["lt"]
        for equation in loop.params["body_jaxpr"].eqns:
            assert equation.primitive.name != "select_n" or not equation.outvars[0].aval.shape
    for trial, actual in enumerate(zip(*jax.tree.leaves(together(x, table, weight)), strict=True)):
        expected = value_and_gradient(x[trial], table[trial], weight[trial])
        for one, other in zip(actual, jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
