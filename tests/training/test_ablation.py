"""What is left out of a trained recipe is left out, and nothing else."""

import dataclasses
import json

import numpy as np
import pytest

from mqsa_jax.config import Config, ModelConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import UserError
from mqsa_jax.grid import with_flags
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.losses.metrics import summarise
from mqsa_jax.models.registry import with_model
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.ablation import check_ablation, leave_out
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import restore_best, train

RECIPE = with_model(
    Config(
        model=ModelConfig(dim=8, max_len=6),
        training=TrainingConfig(batch_size=40, epochs=2, seed=1),
    ),
    "mqsa-ted-plus",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    rng = np.random.default_rng(0)
    sequences = [rng.integers(1, 25, rng.integers(4, 12)) for _ in range(80)]
    histories = make_histories(range(1, 81), sequences)
    experiment = Experiment(RECIPE, histories, DeviceLayout.of(1))
    run_dir = RunDirectory(tmp_path_factory.mktemp("run"))
    train(experiment, run_dir, resume=False)
    state, epoch = restore_best(experiment, run_dir)
    lines = (run_dir.path / "metrics.jsonl").read_text().splitlines()
    return experiment, state, json.loads(lines[epoch - 1])


def test_the_recipe_is_what_training_validated(trained):
    experiment, state, line = trained
    recipe, *others = leave_out(experiment, state, experiment.relations())
    assert (recipe["name"], recipe["flags"]) == ("the recipe", {})
    for name in ("HR@20", "NDCG@20", "MRR"):
        assert recipe[name] == pytest.approx(line[f"valid_{name}"])
    assert len(others) == 11 and all(row["flags"] for row in others)
    assert len({row["MRR"] for row in others}) > 5


@pytest.mark.parametrize(("name", "average"), [("without the term", True), ("without both", False)])
def test_the_encoder_alone(trained, name, average):
    experiment, state, _ = trained
    (row,) = (
        row for row in leave_out(experiment, state, experiment.relations()) if row["name"] == name
    )
    alone = dataclasses.replace(experiment, config=with_flags(RECIPE, term_items=0))
    params = dict(state.ema_params if average else state.params)
    del params["transition_term"]
    ranks = alone.evaluator(Protocol("valid")).ranks(params, state.hparams)
    assert row["MRR"] == pytest.approx(summarise(ranks)["MRR"])


def test_the_term_weighs_what_the_variant_says(trained):
    """Half of the weight, against parameters that were set by hand."""
    experiment, state, _ = trained
    (row,) = (
        row
        for row in leave_out(experiment, state, experiment.relations())
        if row["name"] == "half of the weight"
    )
    term = state.ema_params["transition_term"]["log_weight"] + np.log(0.5)
    params = {**state.ema_params, "transition_term": {"log_weight": term}}
    ranks = experiment.evaluator(Protocol("valid")).ranks(params, state.hparams)
    assert row["MRR"] == pytest.approx(summarise(ranks)["MRR"])


@pytest.mark.parametrize(
    "flags", [{"term_items": 0}, {"term_dropout": 0.5}, {"model": "transition-paths"}]
)
def test_runs_without_such_a_term_are_refused(flags):
    check_ablation(RECIPE)
    with pytest.raises(UserError, match="ablation needs .* model mqsa-ted-plus"):
        check_ablation(with_flags(RECIPE, **flags))
