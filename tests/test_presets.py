"""Defaults that depend on the data set, the model and the number of users."""

import math

import pytest

from mqsa_jax.data.sources import dataset_names
from mqsa_jax.presets import PATIENCE_STEPS, default_config, sized_defaults

OWN = "shop.txt"


@pytest.mark.parametrize(
    ("users", "batch_size"),
    [(1, 16), (150, 16), (600, 16), (943, 32), (1090, 32), (2500, 64), (4000, 128), (6000, 256)],
)
def test_batches_are_small_where_users_are_few(users, batch_size):
    config = sized_defaults(default_config(OWN, "mqsa-ted"), users)
    assert config.training.batch_size == batch_size


@pytest.mark.parametrize("model", ["mqsa-ted", "mqsa-ted-plus", "fmlp-ted"])
def test_many_users_change_no_setting_of_training(model):
    general = default_config(OWN, model)
    for users in (15_400, 19_412, 10**6):
        assert sized_defaults(general, users).training == general.training


@pytest.mark.parametrize("model", ["mqsa-ted", "mqsa-ted-plus"])
@pytest.mark.parametrize("users", [1, 3, 60, 150, 1000, 4000])
def test_patience_and_average_are_in_steps(model, users):
    general = default_config(OWN, model).training
    settings = sized_defaults(default_config(OWN, model), users).training
    steps = math.ceil(users / settings.batch_size)
    assert settings.patience * steps >= min(PATIENCE_STEPS, 100 * steps)
    assert settings.patience >= general.patience
    assert settings.epochs >= max(general.epochs, 4 * settings.patience)
    assert settings.ema_decay <= general.ema_decay
    if settings.ema_decay:
        assert 1 / (1 - settings.ema_decay) <= settings.patience * steps / 3 + 1e-6


def test_the_weight_of_an_untrained_term_is_chosen():
    assert sized_defaults(default_config(OWN, "mqsa-ted-plus"), 10**6).term.choose_term_weight
    assert not sized_defaults(default_config(OWN, "mqsa-ted"), 100).term.choose_term_weight


@pytest.mark.parametrize("name", dataset_names())
@pytest.mark.parametrize("model", ["mqsa-ted", "mqsa-ted-plus"])
def test_data_sets_with_a_configuration_of_their_own_keep_it(name, model):
    config = default_config(name, model)
    assert not config.term.choose_term_weight
    assert config.training.batch_size == (64 if name == "synthetic" else 256)
