"""Runs of models that are counted, not trained."""

from typing import Any

import numpy as np

from mqsa_jax.data.dataset import Dataset
from mqsa_jax.inference.counting import (
    counting_ranks,
    counting_ranks_and_lists,
)
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.inference.stored_model import write_counted_model, write_counts
from mqsa_jax.models.counted import CountedModel, count_model
from mqsa_jax.models.relations import teacher_counts
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.beyond_accuracy import Figures
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.results import DEFAULT, record


def count_and_test(experiment: Experiment, run_dir: RunDirectory) -> dict[str, Any]:
    """Evaluates on both splits; returns the test result, as written to `test_metrics.json`."""
    experiment.check_data()
    run_dir.start(experiment.config, experiment.histories.inputs_fingerprint())
    run_dir.write_history([])
    evaluate_counted(experiment, experiment.protocol("valid"), run_dir)
    return evaluate_counted(experiment, experiment.protocol("test"), run_dir)


def evaluate_counted(
    experiment: Experiment, protocol: Protocol, run_dir: RunDirectory, figures: Figures = DEFAULT
) -> dict[str, Any]:
    """Ranks all users and writes result and model to the run's folder."""
    counted = model, histories, max_len = _counted(experiment)
    write_counted_model(run_dir, experiment.config, model, histories)
    counts = teacher_counts(histories, experiment.config)
    write_counts(run_dir, counts, histories, max_len)
    if figures.longest is None:
        ranks_U, list_UK = counting_ranks(*counted, protocol), None
    else:
        ranks_U, list_UK = counting_ranks_and_lists(*counted, protocol, figures.longest)
    return record(experiment, ranks_U, 0, protocol, run_dir, figures, list_UK)


def counted_ranks(experiment: Experiment, protocol: Protocol) -> np.ndarray:
    """`counting_ranks` of the experiment's model."""
    return counting_ranks(*_counted(experiment), protocol)


def _counted(experiment: Experiment) -> tuple[CountedModel, Dataset, int]:
    counting = count_model(experiment.config, experiment.histories)
    return counting, experiment.histories, experiment.config.model.max_len
