"""The objective of a step: graphs and the transition term in it, and no target seen before."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.config import Config, ModelConfig, ObjectiveConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.grid import with_flags
from mqsa_jax.layers.item_graph import regularisation
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.registry import with_model
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.objective import Losses, objective

V = 24
BASE = Config(
    model=ModelConfig(dim=8, max_len=8, dropout=0.0),
    objective=ObjectiveConfig(l2=0.0, lambda_graph=0.7),
    training=TrainingConfig(batch_size=8),
)


def random_histories():
    rng = np.random.default_rng(0)
    sequences = [rng.integers(1, V + 1, 8) for _ in range(8)]
    sequences[0] = np.arange(1, V + 1)  # so that every item occurs
    return make_histories(range(8), sequences)


def lone_histories():
    """No item occurs in two of them: what follows what, only the history at hand tells."""
    items = np.arange(1, 49).reshape(8, 6)
    return make_histories(range(8), list(items))


def experiment_of(name: str, histories, **flags) -> Experiment:
    return Experiment(with_model(BASE, name, **flags), histories, DeviceLayout.of(1))


def params_of(experiment: Experiment):
    """Larger than at the start, so that scores tell items apart."""
    params = experiment.initial_state().params
    return {**params, "item_embedding": 30 * params["item_embedding"]}


def losses_of(experiment: Experiment, params) -> Losses:
    """Of the first step."""
    relations = experiment.relations()
    source = experiment.batch_source()
    (batches,) = source.batches(0, 1, source.capacity())
    hparams = HParams.of(experiment.config)
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), batches)
    run = jax.jit(partial(objective, recommender=experiment.recommender))
    key = jax.random.key(1)
    return run(params, batch, key, hparams=hparams, relations=relations)[1]


def test_grareg_adds_its_penalty():
    histories = random_histories()
    plain, regularised = (experiment_of(name, histories) for name in ("mqsa", "grareg"))
    params = params_of(plain)
    without, losses = losses_of(plain, params), losses_of(regularised, params)
    penalty = regularisation(params["item_embedding"], regularised.relations().graph)
    assert penalty > 1e-2
    np.testing.assert_allclose(losses.loss - without.loss, 0.7 * penalty, rtol=1e-4)
    np.testing.assert_allclose(losses.loss_rec, without.loss_rec, rtol=1e-6)


def test_ges_scores_by_smoothed_vectors():
    histories = random_histories()
    plain, smoothed = (experiment_of(name, histories) for name in ("mqsa", "ges"))
    params, graph = params_of(plain), smoothed.relations().graph
    weight_VV = np.zeros((V, V))
    weight_VV[graph.target, graph.source] = graph.weight
    item_VD = jnp.asarray(weight_VV @ np.asarray(params["item_embedding"], float), jnp.float32)
    expected = losses_of(plain, {**params, "item_embedding": item_VD}).loss_rec
    np.testing.assert_allclose(losses_of(smoothed, params).loss_rec, expected, rtol=1e-5)
    assert abs(expected - losses_of(plain, params).loss_rec) > 1e-3


@pytest.mark.parametrize(("histories", "told"), [(lone_histories(), 0), (random_histories(), 0.05)])
def test_a_trained_term_tells_nothing_of_the_history_at_hand(histories, told):
    """Where nobody else took its transitions, training is as without the term."""
    through = experiment_of("mqsa-ted-plus", histories, term_dropout=0.0)
    alone = dataclasses.replace(through, config=with_flags(through.config, term_items=0))
    params = params_of(through)
    own = {name: leaf for name, leaf in params.items() if name != "transition_term"}
    with_term, without = losses_of(through, params), losses_of(alone, own)
    difference = abs(float(with_term.loss_rec - without.loss_rec))
    assert difference > told if told else difference < 1e-5
