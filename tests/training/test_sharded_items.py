"""Item tables that are split over devices: models, ranks, lists and checkpoints.

V = 23 items on 8 devices: tables are filled up, and one device holds hardly a row of its own.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.config import Config, ModelConfig, RunConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import SettingError
from mqsa_jax.inference.evaluation_set import Protocol, UserQueries
from mqsa_jax.inference.lists import TrainedLists
from mqsa_jax.mesh_shape import axis_sizes, mesh_shape
from mqsa_jax.models.placement import cut, place
from mqsa_jax.models.registry import with_model
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.epoch import compile_epoch
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import restore_best, train
from mqsa_jax.training.state import run_key

USERS, V = 61, 23
CONFIG = Config(
    model=ModelConfig(dim=8, max_len=6, dropout=0.2),
    training=TrainingConfig(batch_size=20, lr=3e-3, epochs=2),
)
MESHES = {
    "4x2": ("data=4,model=2", "model"),
    "1x8": ("data=1,model=8", "model"),
    "8x1 all": ("data=8", "all"),
    "2x4 all": ("data=2,model=4", "all"),
}


def random_histories():
    rng = np.random.default_rng(3)
    # One history is so long that its pairs are dealt to all devices.
    lengths = [19, *rng.integers(3, 9, USERS - 1)]
    return make_histories(range(USERS), [rng.integers(0, V, length) for length in lengths])


HISTORIES = random_histories()
assert HISTORIES.num_items == V


def on_one_device(config=CONFIG):
    return Experiment(config, HISTORIES, DeviceLayout.of(1))


def on_mesh(name, config=CONFIG):
    return Experiment(config, HISTORIES, DeviceLayout.of(None, *MESHES[name]))


def params_with_ties(experiment):
    """Whole numbers in the item vectors and few of them: many scores are equal."""
    params = jax.device_get(cut(experiment.initial_state().params, V))
    rng = np.random.default_rng(0)
    item_VD = rng.integers(-1, 2, (V, 8)).astype(np.float32)
    item_VD[V // 2 :] = item_VD[: V - V // 2]
    return jax.tree.map(jnp.asarray, {**params, "item_embedding": item_VD})


@pytest.fixture(scope="module", params=MESHES)
def mesh(request):
    return request.param


@pytest.mark.parametrize("model", ["mqsa-ted", "mqsa-ted-plus"])
@pytest.mark.parametrize("exclude_seen", ["history", "none"])
def test_ranks_and_lists_are_those_of_one_device(mesh, model, exclude_seen):
    config = with_model(CONFIG, model)
    one, many = on_one_device(config), on_mesh(mesh, config)
    params, hparams = params_with_ties(one), one.initial_state().hparams
    protocol = Protocol("test", exclude_seen)
    ranks, lists = one.evaluator(protocol).ranks_and_lists(params, hparams, V)
    placed = many.placed(params)
    assert not placed["item_embedding"].is_fully_replicated
    hparams = many.layout.replicate(jax.device_get(hparams))
    sharded = many.evaluator(protocol).ranks_and_lists(placed, hparams, V)
    assert (ranks != ranks.round()).any()
    assert len(np.unique(lists)) == V + (exclude_seen == "history")
    np.testing.assert_array_equal(sharded[0], ranks)
    np.testing.assert_array_equal(sharded[1], lists)


def test_scores_that_are_not_numbers_are_told(mesh):
    many = on_mesh(mesh)
    params = params_with_ties(many)
    params["item_embedding"] = params["item_embedding"].at[V - 1].set(np.nan)
    state = many.initial_state()
    with pytest.raises(FloatingPointError, match=f"{USERS} users"):
        many.evaluator(Protocol("test")).ranks(many.placed(params), state.hparams)


def test_lists_leave_out_what_is_not_allowed(mesh):
    params, hparams = params_with_ties(on_one_device()), on_one_device().initial_state().hparams
    allowed_V = np.arange(V) % 3 > 0
    queries = UserQueries(HISTORIES, Protocol("test"), 6).of_users(np.arange(USERS))
    results = []
    for experiment in (on_one_device(), on_mesh(mesh)):
        model = (experiment.recommender, params, hparams, None, 5)
        maker = TrainedLists(*model, allowed_V=allowed_V, layout=experiment.layout)
        results.append(maker.start(queries).wait())
    assert allowed_V[results[0].items[results[0].items >= 0]].all()
    np.testing.assert_array_equal(results[1].items, results[0].items)
    np.testing.assert_allclose(results[1].scores, results[0].scores, rtol=1e-6, atol=1e-5)


def losses_and_params(experiment, params):
    state = experiment.initial_state()
    opt_state = experiment.optimizer.init(params)
    state = state.replace(params=experiment.placed(params), opt_state=experiment.placed(opt_state))
    source = experiment.batch_source()
    program = compile_epoch(experiment.recommender, experiment.layout)
    key = experiment.layout.replicate(run_key(0))
    (batches,) = source.batches(0, 9, source.capacity())
    state, losses = program(state, batches, key, experiment.relations())
    assert not np.asarray(state.params["item_embedding"])[V:].any()
    return losses, cut(jax.device_get(state.params), V)


@pytest.mark.parametrize(
    ("model", "flags"),
    [("gru4rec-ted", {}), ("mqsa-ted-plus", {"term_dropout": 0.3, "term_weight": 2.0})],
)
def test_other_models_train_as_on_one_device(mesh, model, flags):
    config = with_model(CONFIG, model, **flags)
    one, many = on_one_device(config), on_mesh(mesh, config)
    params = jax.device_get(one.initial_state().params)
    params = {**params, "item_embedding": 30 * params["item_embedding"]}
    expected, actual = losses_and_params(one, params), losses_and_params(many, params)
    for name in ("loss", "loss_rec", "loss_kd"):
        np.testing.assert_allclose(
            getattr(actual[0], name), getattr(expected[0], name), rtol=1e-5, err_msg=name
        )
    moved = np.abs(expected[1]["item_embedding"] - params["item_embedding"])
    assert moved.max() > 5e-3
    np.testing.assert_allclose(
        actual[1]["item_embedding"], expected[1]["item_embedding"], atol=2e-4
    )
    if "transition_term" in params:
        term = [result[1]["transition_term"]["log_weight"] for result in (actual, expected)]
        assert np.abs(term[1] - params["transition_term"]["log_weight"]).max() > 1e-3
        np.testing.assert_allclose(*term, atol=1e-5)


def test_a_run_goes_on_on_another_mesh_and_is_evaluated_on_a_third(tmp_path):
    whole, parts = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "parts")
    result = train(on_one_device(), whole, resume=False)
    shorter = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, epochs=1))
    train(on_mesh("2x4 all", shorter), parts, resume=False)
    resumed = train(on_mesh("4x2"), parts, resume=True)
    assert resumed["NDCG@20"] == pytest.approx(result["NDCG@20"], abs=0.02)
    for name in MESHES:
        state, epoch = restore_best(on_mesh(name), parts)
        assert epoch == resumed["epoch"]
        ranks = on_mesh(name).evaluator(Protocol("test")).ranks(state.eval_params, state.hparams)
        assert np.mean(1 / ranks) == pytest.approx(resumed["MRR"], rel=1e-6)
    state, _ = restore_best(on_one_device(), parts)
    assert state.params["item_embedding"].shape == (V, 8)


# Settings


@pytest.mark.parametrize(
    ("mesh", "devices", "shape"),
    [
        ("data=-1,model=1", 8, (8, 1)),
        ("model=4,data=-1", 8, (2, 4)),
        ("data=2, model=-1", 8, (2, 4)),
        ("data=8", 8, (8, 1)),
        ("model=-1", 8, (1, 8)),
    ],
)
def test_the_shape_of_a_mesh(mesh, devices, shape):
    assert mesh_shape(mesh, devices) == shape


@pytest.mark.parametrize(
    "mesh",
    ["", "data", "data=", "data=0", "data=-2", "data=2.0", "rows=8", "data=2,data=4", "data=²"],
)
def test_what_is_no_mesh(mesh):
    with pytest.raises(SettingError, match="mesh must give the devices along each axis"):
        axis_sizes(mesh)


def test_one_axis_may_be_filled():
    with pytest.raises(SettingError, match="may leave one axis"):
        axis_sizes("data=-1,model=-1")


@pytest.mark.parametrize("mesh", ["data=3,model=-1", "data=4,model=4", "data=4"])
def test_a_mesh_of_another_number_of_devices(mesh):
    with pytest.raises(SettingError, match=r"does not fit 8 device\(s\)"):
        DeviceLayout.of(None, mesh)


@pytest.mark.parametrize("run", [{"mesh": "data=2,model=4"}, {"shard_items": "all"}])
def test_pmap_splits_users_alone(run):
    with pytest.raises(SettingError, match="pmap splits users alone"):
        Config(run=RunConfig(parallel="pmap", **run)).validate()


def test_models_of_a_graph_are_refused():
    config = with_model(Config(run=RunConfig(mesh="data=4,model=2")), "ges")
    with pytest.raises(SettingError, match="ges makes item vectors of a graph"):
        Experiment.load(config, HISTORIES)


def test_tables_are_filled_up_and_split():
    layout = DeviceLayout.of(None, "data=2,model=4", "all")
    tree = {"item_embedding": np.ones((V, 2)), "kernel": np.ones((V, 2))}
    placed = place(tree, layout, V)
    assert placed["item_embedding"].shape == (24, 2)
    assert {shard.data.shape for shard in placed["item_embedding"].addressable_shards} == {(3, 2)}
    assert placed["kernel"].is_fully_replicated
    np.testing.assert_array_equal(cut(placed, V)["item_embedding"], jnp.ones((V, 2)))
