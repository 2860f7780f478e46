"""The dense baseline of the benchmarks computes the same objective as the packed step."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.epoch import dense_batch, dense_objective
from mqsa_jax.config import Config, ModelConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.losses.teacher import teacher_probabilities, transition_teacher
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.objective import objective
from mqsa_jax.training.state import run_key


def test_the_dense_baseline_has_the_loss_and_gradients_of_the_packed_step(rng):
    # The batch holds all users, so that it does not matter in which order they are drawn.
    config = Config(
        model=ModelConfig(dim=8, max_len=6, dropout=0.0), training=TrainingConfig(batch_size=12)
    )
    sequences = [rng.integers(1, 25, rng.integers(3, 12)) for _ in range(12)]
    experiment = Experiment(config, make_histories(range(1, 13), sequences), DeviceLayout.of(1))
    state, counts = experiment.initial_state(), experiment.transition_counts
    # Larger embeddings than at the start, where all logits are alike.
    params = {**state.params, "item_embedding": 30 * state.params["item_embedding"]}
    teacher = transition_teacher(counts, state.hparams.tau)
    source = experiment.batch_source()
    batches = next(source.batches(0, 1, source.capacity()))
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), batches)
    inputs, target = jax.tree.map(jnp.asarray, dense_batch(experiment))
    key = run_key(0)

    def packed(params):
        return objective(
            params,
            batch,
            key,
            recommender=experiment.recommender,
            hparams=state.hparams,
        )[0]

    def dense(params):
        return dense_objective(
            params,
            inputs,
            target,
            teacher_probabilities(teacher),
            key,
            experiment=experiment,
            hparams=state.hparams,
        )

    loss, gradient = jax.jit(jax.value_and_grad(packed))(params)
    dense_loss, dense_gradient = jax.jit(jax.value_and_grad(dense))(params)
    np.testing.assert_allclose(loss, dense_loss, rtol=1e-5)
    for one, other in zip(*map(jax.tree.leaves, (gradient, dense_gradient)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
