"""Runs on data whose ids are strings are those of the same data with numbers."""

import numpy as np
import pytest

import mqsa_jax
from mqsa_jax.config import Config, ModelConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.models.registry import MODELS, with_model
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.counted_runs import count_and_test
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import train

ROWS = [np.random.default_rng(user).permutation(12)[: 4 + user % 5].tolist() for user in range(9)]


def name(item):
    """Of the same order as the numbers."""
    # Of several lengths, as NumPy stores long strings otherwise than short ones.
    return f"item ,{item:02d}é" + "x" * (item % 4 * 11)


def loaded(model, histories, folder):
    config = Config(
        model=ModelConfig(dim=4, max_len=5), training=TrainingConfig(batch_size=4, epochs=1)
    )
    experiment = Experiment(with_model(config, model), histories, DeviceLayout.of(1))
    run_dir = RunDirectory(folder)
    if MODELS[model].counted:
        count_and_test(experiment, run_dir)
    else:
        train(experiment, run_dir, resume=False)
        # Its checkpoint knows its data by their strings too.
        train(experiment, run_dir, resume=True)
    with np.load(run_dir.path / "ranks.npz", allow_pickle=False) as ranks:
        return mqsa_jax.load_model(folder), ranks["user_ids"].tolist()


@pytest.mark.parametrize("model", ["mqsa-ted", "popular"])
def test_a_run_on_strings_is_that_on_numbers(model, tmp_path):
    users = [f"u{user}" for user in range(len(ROWS))]
    strings = make_histories(users, [[name(item) for item in row] for row in ROWS])
    numbers = make_histories(range(len(ROWS)), ROWS)
    run, user_ids = loaded(model, strings, tmp_path / "strings")
    expected, _ = loaded(model, numbers, tmp_path / "numbers")
    assert user_ids == users
    history, named = ROWS[4], [name(item) for item in ROWS[4]]
    np.testing.assert_array_equal(run.score([named]), expected.score([history]))
    (listed,), (by_number,) = run.recommend([named], 3), expected.recommend([history], 3)
    assert listed == [(name(item), score) for item, score in by_number]
    with pytest.raises(ValueError, match="must be strings"):
        run.score([history])
    with pytest.raises(ValueError, match="not among"):
        run.score([["item"]])
