"""What an experiment makes of its configuration."""

import numpy as np
import pytest

from mqsa_jax.config import Config, ModelConfig, ObjectiveConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.losses.teacher import teacher_probabilities, transition_teacher
from mqsa_jax.training.experiment import Experiment
from tests import transition_oracle

VARIANTS = [
    {},
    dict(time_span=2, span_decay=0.5),
    dict(time_span=10**6),
    dict(symmetric=0.25),
    dict(popularity=0.5),
    dict(multi_step=2),
    dict(time_span=3, span_decay=0.8, symmetric=0.5, popularity=0.25, multi_step=3),
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_counts_and_teacher_of_a_configuration_agree_with_the_oracle(rng, variant):
    sequences = [rng.integers(1, 12, rng.integers(3, 9)) for _ in range(20)]
    histories = make_histories(range(1, 21), sequences)
    config = Config(model=ModelConfig(max_len=4), objective=ObjectiveConfig(**variant))
    counts = Experiment(config, histories, DeviceLayout.of(1)).transition_counts

    objective = config.objective
    training = np.split(histories.items, histories.offsets[1:-1])
    expected = transition_oracle.count_transitions(
        [items[:-2] for items in training],
        histories.num_items,
        max_len=4,
        time_span=objective.time_span,
        decay=objective.span_decay,
        symmetric=objective.symmetric,
        popularity=objective.popularity,
    )
    expected = transition_oracle.multi_step(expected, objective.multi_step, objective.span_decay)
    np.testing.assert_allclose(counts.to_scipy().toarray(), expected, rtol=1e-5)
    probability_VV = teacher_probabilities(transition_teacher(counts, 0.1))
    np.testing.assert_allclose(
        probability_VV, transition_oracle.teacher_probabilities(expected, tau=0.1), rtol=1e-4
    )
