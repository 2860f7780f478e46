"""Scores, losses, gradients and evaluation with attributes and traits, against the oracle."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from mqsa_jax.attribute_settings import AttributesConfig
from mqsa_jax.config import Config, ModelConfig, ObjectiveConfig, TrainingConfig
from mqsa_jax.data.batches import BatchSource
from mqsa_jax.data.packing import Capacity
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.data.user_traits import UserTraits
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.item_vectors import item_tables
from mqsa_jax.models.recommender import Recommender, scores
from mqsa_jax.models.relations import item_relations
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.gradients import mesh_gradients
from mqsa_jax.training.objective import ID_FOLD, objective
from mqsa_jax.training.state import init_state
from tests import attribute_oracle, oracle
from tests.attribute_oracle import ATTRIBUTES, COLD, DATA, V
from tests.data.batch_cases import SEQUENCES, SIZE, TRANSITIONS, USERS, T, steps

ROOM = Capacity(rows=SIZE, distinct=V, transitions=200)
KEY = jax.random.key(4)


def config(side="both"):
    return Config(
        model=ModelConfig(dim=4, num_heads=2, max_len=T, window=3, alpha=0.4, dropout=0.0),
        objective=ObjectiveConfig(lambda_kd=0.3, tau=0.5, l2=0.01),
        attributes=AttributesConfig("items.json", "users.json", attribute_side=side),
        training=TrainingConfig(batch_size=SIZE),
    )


HPARAMS = HParams.of(config())


def recommender(side="both", **changes):
    return dataclasses.replace(Recommender.of_data(config(side), DATA), **changes)


def relations():
    return item_relations(DATA, config())


def random_params(seed=1):
    shapes = jax.eval_shape(lambda: init_state(recommender(), HPARAMS, 0).params)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.float32(rng.normal(size=leaf.shape) / 2), shapes)


def batches(num_shards=1):
    padded = TransitionCounts.from_scipy(_wider(TRANSITIONS.to_scipy()))
    return BatchSource(DATA, padded, SIZE, T, 4, num_shards)


def _wider(matrix):
    matrix = matrix.copy()
    matrix.resize((V, V))
    return matrix


def losses_and_gradient(params, batch, model):
    (_, losses), gradient = jax.jit(
        jax.value_and_grad(objective, has_aux=True), static_argnames="recommender"
    )(params, batch, KEY, recommender=model, hparams=HPARAMS, relations=relations())
    return losses, gradient


@pytest.mark.parametrize("side", ["both", "input", "score"])
def test_losses_and_gradients_are_those_of_the_oracle(side):
    params, source = random_params(), batches()
    batch = jax.tree.map(jnp.asarray, next(steps(source, capacity=ROOM)))
    losses, gradient = losses_and_gradient(params, batch, recommender(side))
    users = [user for user in source.order(0)[0] if user >= 0]
    flat = traverse_util.flatten_dict(params, sep="/")
    expected = attribute_oracle.losses(flat, users, side)
    np.testing.assert_allclose((losses.loss, losses.loss_rec, losses.loss_kd), expected, rtol=1e-5)
    flat_gradient = traverse_util.flatten_dict(gradient, sep="/")

    def loss(params):
        return attribute_oracle.losses(params, users, side)[0]

    for name in ("attribute_embedding", "trait_embedding", "item_embedding"):
        for index in ((0, 1), (2, 3), (-1, 0)):
            wanted = oracle.partial_derivative(loss, flat, name, index)
            np.testing.assert_allclose(flat_gradient[name][index], wanted, rtol=2e-3, atol=1e-5)


def test_packing_and_sharding_change_neither_losses_nor_gradients():
    """Traits reach the positions of their own user in every layout."""
    params = random_params()
    one, three = (
        losses_and_gradient(
            params,
            jax.tree.map(jnp.asarray, list(steps(batches(shards), capacity=ROOM))[2]),
            recommender(),
        )
        for shards in (1, 3)
    )
    chex.assert_trees_all_close(one[0], three[0], rtol=1e-5)
    chex.assert_trees_all_close(one[1], three[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("id_dropout", [0.0, 0.5])
def test_devices_change_neither_losses_nor_gradients(id_dropout):
    params, layout = random_params(), DeviceLayout.of(2)
    model = recommender(id_dropout=id_dropout)
    whole = losses_and_gradient(
        params, jax.tree.map(jnp.asarray, next(steps(batches(2), capacity=ROOM))), model
    )
    batch = layout.shard(next(steps(batches(2), capacity=ROOM)), axis=0)
    gradients = jax.jit(mesh_gradients(layout), static_argnames="recommender")
    gradient, losses = gradients(
        *layout.replicate((params,)), batch, KEY, HPARAMS, relations(), recommender=model
    )
    chex.assert_trees_all_close(whole[0], losses, rtol=1e-5)
    chex.assert_trees_all_close(whole[1], gradient, rtol=1e-4, atol=1e-5)


def test_id_dropout_replaces_whole_items_by_the_mean():
    """Both tables alike, cold items always, and nothing without a key."""
    params, given, key = random_params(), relations(), jax.random.key(0)
    plain = item_tables(recommender(), params, given)
    model = recommender(id_dropout=0.3)
    chex.assert_trees_all_equal(item_tables(model, params, given), plain)
    own_VD = np.asarray(params["item_embedding"])
    mean_VD = np.where(np.arange(V)[:, None] < V - COLD, own_VD[:-COLD].mean(0) - own_VD, 0)
    mean_VD += plain.score
    dropped = jax.jit(jax.vmap(lambda key: item_tables(model, params, given, key)))(
        jax.random.split(key, 200)
    )
    np.testing.assert_array_equal(dropped.input, dropped.score)
    is_own, is_mean = (
        np.isclose(dropped.score, each_VD, atol=1e-5).all(2) for each_VD in (plain.score, mean_VD)
    )
    assert (is_own | is_mean).all() and is_mean[:, -COLD:].all()
    # 200 draws of probability .3 are 60, give or take 6.5; items without attributes are kept.
    times_N, has_N = is_mean[:, :-COLD].sum(0), ATTRIBUTES.lengths[:-COLD] > 0
    assert (times_N[~has_N] == 0).all() and not has_N.all()
    assert (np.abs(times_N[has_N] - 60) < 30).all() and abs(times_N[has_N].mean() - 60) < 9


def test_the_loss_of_dropped_ids_is_the_loss_of_the_mean():
    """And its gradient reaches the other items by their share of the mean."""
    params, model = random_params(), recommender(id_dropout=0.5)
    batch = jax.tree.map(jnp.asarray, next(steps(batches(), capacity=ROOM)))
    loss, gradient = losses_and_gradient(params, batch, model)
    own_VD = params["item_embedding"][:-COLD]
    drawn = item_tables(model, params, relations(), jax.random.fold_in(KEY, ID_FOLD))
    attributes_VD = item_tables(recommender(), params, relations()).score[:-COLD] - own_VD
    is_own_V = np.isclose(drawn.score[:-COLD] - attributes_VD, own_VD, atol=1e-5).all(1)
    assert 0 < is_own_V.sum() < len(is_own_V)

    def replaced(own_VD):
        rows_VD = jnp.where(is_own_V[:, None], own_VD, own_VD.mean(0))
        return {**params, "item_embedding": jnp.pad(rows_VD, ((0, COLD), (0, 0)))}

    expected, through = losses_and_gradient(replaced(own_VD), batch, recommender())
    np.testing.assert_allclose(loss.loss_rec, expected.loss_rec, rtol=1e-6)
    np.testing.assert_allclose(loss.loss_kd, expected.loss_kd, rtol=1e-6)
    chex.assert_trees_all_close(
        gradient["attribute_embedding"], through["attribute_embedding"], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("side", ["both", "score"])
def test_scores_are_those_of_the_oracle_cold_items_among_them(side):
    params = random_params()
    flat = oracle.as_float64(traverse_util.flatten_dict(params, sep="/"))
    users = np.array([3, 0, 7])
    sequences = Sequences.of([SEQUENCES[user] for user in users], T)
    # One history a row: the number of the row is that of the segment.
    traits = jax.tree.map(jnp.asarray, UserTraits.of(DATA.traits, users))
    score_BV = scores(
        recommender(side),
        params,
        sequences,
        window=3,
        alpha=0.4,
        relations=relations(),
        traits=traits,
    )
    for user, score_V in zip(users, score_BV, strict=True):
        expected = attribute_oracle.scores(flat, SEQUENCES[user], user, side)
        np.testing.assert_allclose(score_V, expected, rtol=1e-4, atol=1e-5)


def test_evaluation_ranks_by_the_oracle_s_scores():
    params = random_params()
    flat = oracle.as_float64(traverse_util.flatten_dict(params, sep="/"))
    experiment = Experiment(config(), DATA, DeviceLayout.of(1))
    rank_U = experiment.evaluator(experiment.protocol("test")).ranks(params, HPARAMS)
    for user in range(USERS):
        *history, target = SEQUENCES[user]
        score_V = attribute_oracle.scores(flat, history, user, "both")
        if target in history:
            assert np.isinf(rank_U[user])
            continue
        score_V[list(set(history))] = -np.inf
        assert rank_U[user] == 1 + (score_V > score_V[target]).sum()


def test_parameters_are_drawn_as_without_attributes():
    with_both = init_state(recommender(), HPARAMS, 7).params
    sizes = dataclasses.replace(recommender(), num_attributes=0, num_traits=0)
    without = init_state(sizes, HPARAMS, 7).params
    added = {"attribute_embedding", "trait_embedding"}
    assert with_both.keys() - without.keys() == added
    chex.assert_trees_all_equal({k: v for k, v in with_both.items() if k not in added}, without)
    for name in added:
        assert 0.003 < float(with_both[name].std()) < 0.03


def test_missing_attributes_are_named():
    params, blank = random_params(), Sequences.of([[1]], T)
    with pytest.raises(ValueError, match="needs `relations` with `attributes`"):
        scores(recommender(), params, blank, window=3, alpha=0.4)
    with pytest.raises(ValueError, match="lack attributes that the settings name"):
        Experiment.load(config(), dataclasses.replace(DATA, attributes=None))
