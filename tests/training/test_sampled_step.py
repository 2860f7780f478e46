"""Training with sampled losses: what equals the full loss, lazy Adam, devices and populations."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.config import Config, ModelConfig, ObjectiveConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import SettingError
from mqsa_jax.grid import with_flags
from mqsa_jax.losses.negatives import Negatives
from mqsa_jax.models.placement import cut
from mqsa_jax.sampling import Sampling
from mqsa_jax.training import sampled_gradients
from mqsa_jax.training.epoch import compile_epoch, epoch_program, gradients_of, run_steps
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.population import compile_population, initial_population, trial_keys
from mqsa_jax.training.state import run_key

V = 42
BASE = Config(
    model=ModelConfig(dim=8, max_len=6, dropout=0.3),
    objective=ObjectiveConfig(ranking_loss="sampled", num_negatives=6, lambda_kd=0.5, l2=1e-3),
    training=TrainingConfig(batch_size=20, lr=3e-3),
)
ITEMS = "item_embedding"
KINDS = {
    "uniform": {},
    "popularity": {"negatives": "popularity"},
    "mixed": {"in_batch_negatives": True},
    "in batch": {"in_batch_negatives": True, "num_negatives": 0},
    "gbce": {"ranking_loss": "gbce"},
    "lazy": {"lazy_adam": True},
    "no distillation": {"lambda_kd": 0.0},
    "bfloat16": {"precision": "bfloat16"},
}


def histories():
    rng = np.random.default_rng(0)
    sequences = [rng.integers(1, V + 1, rng.integers(3, 12)) for _ in range(44)]
    sequences[0] = np.arange(1, V + 1)  # so that every item occurs
    return make_histories(range(1, 45), sequences)


def experiment_of(num_devices=1, **flags) -> Experiment:
    config = with_flags(BASE, **flags)
    layout = DeviceLayout.of(num_devices, config.run.mesh, config.run.shard_items)
    return Experiment(config, histories(), layout)


def first_epoch(experiment: Experiment, relations):
    source = experiment.batch_source()
    (batches,) = source.batches(0, 512, source.capacity())
    return batches


def trained(num_devices=1, **flags):
    """State and losses after an epoch of 3 steps, the last of 4 users."""
    experiment = experiment_of(num_devices, **flags)
    layout, relations = experiment.layout, experiment.relations()
    parallel, sampling = experiment.config.run.parallel, experiment.sampling
    program = compile_epoch(
        experiment.recommender, layout, parallel, experiment.optimizer, sampling
    )
    batches, key = first_epoch(experiment, relations), layout.replicate(run_key(0))
    return jax.device_get(program(experiment.initial_state(), batches, key, relations))


def assert_alike(one, other, **tolerance):
    jax.tree.map(partial(np.testing.assert_allclose, **tolerance), one, other)


@pytest.fixture
def every_item(monkeypatch):
    """The negatives are all items, each once: nothing is sampled."""

    def all_of_them(key, num_items, num):
        del key, num
        return Negatives(jnp.arange(num_items), jnp.zeros(num_items))

    monkeypatch.setattr(sampled_gradients, "uniform_negatives", all_of_them)
    compile_epoch.cache_clear()
    yield
    compile_epoch.cache_clear()


@pytest.mark.usefixtures("every_item")
@pytest.mark.parametrize("lazy", [False, True])
def test_with_every_item_once_training_is_that_of_the_full_loss(lazy):
    full, full_losses = trained(ranking_loss="full", num_negatives=1024)
    sampled, losses = trained(lazy_adam=lazy)
    assert_alike(losses, full_losses, rtol=2e-5)
    assert_alike(sampled.params, full.params, atol=2e-5)
    assert_alike(sampled.opt_state.mu, full.opt_state.mu, atol=1e-6)


LAYOUTS = {
    "jit": {"mesh": "data=4,model=1"},
    "pmap": {"mesh": "data=4,model=1", "parallel": "pmap"},
    "items split": {"mesh": "data=2,model=2"},
    "items split over all": {"mesh": "data=2,model=2", "shard_items": "all"},
}


@pytest.fixture(scope="module", params=["popularity", "lazy"])
def on_one_device(request):
    return request.param, trained(**KINDS[request.param])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_devices_change_nothing(on_one_device, layout):
    kind, expected = on_one_device
    state, losses = trained(4, **LAYOUTS[layout], **KINDS[kind])
    for part in ("params", "opt_state"):
        own = cut(getattr(state, part), V)
        assert_alike(own, getattr(expected[0], part), rtol=1e-4, atol=1e-5)
    assert_alike(losses, expected[1], rtol=1e-4, atol=1e-5)


def test_in_batch_negatives_are_those_of_a_device():
    """By jit and pmap alike."""
    state, losses = trained(4, **KINDS["mixed"])
    other, other_losses = trained(4, parallel="pmap", **KINDS["mixed"])
    assert_alike((state.params, losses), (other.params, other_losses), rtol=1e-4, atol=1e-5)
    assert np.abs(losses.loss - trained(1, **KINDS["mixed"])[1].loss).max() > 1e-3


@pytest.mark.parametrize("kind", ["in batch", "gbce", "no distillation", "bfloat16"])
def test_losses_are_finite(kind):
    state, losses = trained(**KINDS[kind])
    assert (losses.loss_rec > 0).all()
    assert (losses.loss_kd > 0).all() == (kind != "no distillation")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((losses, state.params)))


def test_devices_exchange_nothing_of_the_size_of_the_table():
    rng, num_items = np.random.default_rng(0), 5002
    sequences = [np.arange(1, num_items + 1), *(rng.integers(1, num_items, 5) for _ in range(19))]
    many = make_histories(range(1, 21), sequences)
    config = with_flags(BASE, batch_size=8, lazy_adam=True)
    experiment = Experiment(config, many, DeviceLayout.of(4, "data=2,model=2", "all"))
    source, layout = experiment.batch_source(), experiment.layout
    (batches,) = source.batches(0, 512, source.capacity())
    program = epoch_program(
        experiment.recommender, layout, experiment.optimizer, experiment.sampling
    )
    arguments = layout.shard(batches, axis=1), layout.replicate(run_key(0)), experiment.relations()
    text = program.lower(experiment.initial_state(), *arguments).compile().as_text()
    kinds = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
    results = re.findall(rf"= (.*?) (?:{kinds})(?:-start)?\(", text)
    sizes = [int(size) for result in results for size in re.findall(r"\[(\d+)", result)]
    assert sizes
    assert max(sizes) < num_items / 4


def one_step(**flags):
    """State before and after the first step of 4 users, and the items that it reads."""
    experiment = experiment_of(batch_size=4, **flags)
    relations, state = experiment.relations(), experiment.initial_state()
    batches = jax.tree.map(lambda leaf: leaf[:1], first_epoch(experiment, relations))
    steps = partial(
        run_steps,
        recommender=experiment.recommender,
        optimizer=experiment.optimizer,
        gradients=gradients_of(experiment.sampling),
    )
    after, losses = jax.jit(steps)(state, batches, run_key(0), relations)
    return jax.device_get((state, after, losses)), batches


def test_lazy_adam_leaves_other_items_alone():
    # Distillation reads what followed an item too, which is nearly every item here.
    flags = {"lambda_kd": 0.0, "time_span": 1, "num_negatives": 2}
    (before, lazy, lazy_losses), batches = one_step(lazy_adam=True, **flags)
    (_, dense, losses), _ = one_step(**flags)
    real = batches.inputs.segment_ids >= 0
    own = np.unique([*batches.inputs.item[real], *batches.target[real]])
    changed = (lazy.params[ITEMS] != before.params[ITEMS]).any(1)
    assert changed[own].all()
    assert not changed.all()
    moved = (dense.params[ITEMS] != before.params[ITEMS]).any(1)
    assert moved.all()  # by l2
    assert (lazy.opt_state.mu[ITEMS][~changed] == 0).all()
    # Rows of the step are updated as by Adam, for they have no past; so is all else.
    np.testing.assert_allclose(lazy.params[ITEMS][changed], dense.params[ITEMS][changed], atol=1e-6)
    rest = [{k: v for k, v in state.params.items() if k != ITEMS} for state in (lazy, dense)]
    assert_alike(*rest, atol=1e-6)
    l2 = BASE.objective.l2 / 2 * np.square(before.params[ITEMS][~changed]).sum()
    np.testing.assert_allclose(losses.loss - lazy_losses.loss, l2, rtol=0.05)


def test_draws_differ_from_step_to_step_and_are_repeated():
    experiment = experiment_of()
    relations = experiment.relations()
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), first_epoch(experiment, relations))

    def draw(key):
        items = sampled_gradients.step_items(
            batch, key, experiment.recommender, experiment.sampling
        )
        return items.index[items.own[items.negatives.item]]

    one, again, other = draw(run_key(0)), draw(run_key(0)), draw(run_key(1))
    assert (one == again).all()
    assert (one != other).any()


@pytest.mark.parametrize("kind", ["lazy", "mixed"])
def test_a_population_trains_as_its_trials_do(kind):
    experiment = experiment_of(**KINDS[kind])
    configs = [with_flags(experiment.config, lr=lr) for lr in (1e-3, 5e-3)]
    relations, layout = experiment.relations(), experiment.layout
    programs = compile_population(
        experiment.recommender, layout, False, experiment.optimizer, experiment.sampling
    )
    state = initial_population(configs, programs, layout).state
    batches = first_epoch(experiment, relations)
    stacked = jax.tree.map(lambda leaf: np.stack([leaf] * 2), batches)
    together, _ = programs.epoch(state, stacked, trial_keys(configs, layout), relations)
    steps = partial(
        run_steps,
        recommender=experiment.recommender,
        optimizer=experiment.optimizer,
        gradients=gradients_of(experiment.sampling),
    )
    for index in range(2):
        own = jax.tree.map(lambda leaf, index=index: leaf[index], state)
        alone, _ = jax.jit(steps)(own, batches, trial_keys(configs, layout)[index], relations)
        mine = jax.tree.map(lambda leaf, index=index: leaf[index], together.params)
        assert_alike(mine, alone.params, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"ranking_loss": "full", "num_negatives": 6}, "--num-negatives is of sampled losses"),
        ({"ranking_loss": "full", "num_negatives": 1024, "lazy_adam": True}, "--lazy-adam needs"),
        ({"num_negatives": 0}, "needs --num-negatives above 0"),
        ({"ranking_loss": "gbce", "in_batch_negatives": True}, "of uniform negatives"),
        ({"model": "ges", "lambda_kd": 0.0}, "a graph of all items"),
        ({"model": "popular"}, "is counted"),
        ({"term_items": 2, "term_dropout": 0.5}, "cannot train the term"),
        ({"lazy_adam": True, "ema_decay": 0.9}, "use --ema-decay 0"),
    ],
)
def test_settings_that_contradict_each_other(flags, message):
    with pytest.raises(SettingError) as error:
        Sampling.of(with_flags(BASE, **flags))
    assert message in error.value.with_flags
    assert "\n" not in str(error.value)
