"""Input of the distillation loss, and its value and gradients by a dense teacher in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.losses.distillation import distillation_loss
from mqsa_jax.losses.teacher import transition_teacher
from tests import oracle, transition_oracle

B, N, D, V, M = 2, 6, 4, 9, 80
TAU = 0.3
LENGTH = np.array([5, 0, 3, 1, 0, 9, 2, 4, 0])
"""Successors of each item; three items have none."""


def counts_and_teacher(seed=0):
    """Dense counts [V, V] and the teacher of them."""
    rng = np.random.default_rng(seed)
    dense = np.zeros((V, V))
    for item, length in enumerate(LENGTH):
        dense[item, rng.permutation(V)[:length]] = rng.integers(1, 6, length)
    row, successor = np.nonzero(dense)
    counts = TransitionCounts(
        jnp.asarray(np.searchsorted(row, np.arange(V + 1)), jnp.int32),
        jnp.asarray(successor, jnp.int32),
        jnp.asarray(dense[row, successor], jnp.float32),
    )
    return dense, jax.jit(transition_teacher)(counts, TAU)


DENSE, TEACHER = counts_and_teacher()


def arrays(seed):
    rng = np.random.default_rng(seed)
    student = rng.normal(size=(B, N, D)).astype(np.float32)
    item_vectors = rng.normal(size=(V, D)).astype(np.float32)
    where = rng.integers(0, 2, (B, N)).astype(bool)
    return student, item_vectors, rng.integers(0, V, (B, N)).astype(np.int32), where


def dense_loss(student, item_vectors, item, weight, tau=TAU):
    """The weighted sum of losses and its gradients, row by row in float64."""
    teacher_VV = transition_oracle.teacher_probabilities(DENSE, TAU)
    student, item_vectors = student.astype(np.float64), item_vectors.astype(np.float64)
    value, dstudent, ditem = 0.0, np.zeros_like(student), np.zeros_like(item_vectors)
    for index in np.ndindex(item.shape):
        log_p = oracle.log_softmax(item_vectors @ student[index] / tau)
        value -= weight[index] * teacher_VV[item[index]] @ log_p
        slope = weight[index] * (np.exp(log_p) - teacher_VV[item[index]]) / tau
        dstudent[index] = slope @ item_vectors
        ditem += np.outer(slope, student[index])
    return value, dstudent, ditem


def assert_close(actual, expected):
    (value, gradients), (right, *right_gradients) = actual, expected
    np.testing.assert_allclose(value, right, rtol=1e-5, atol=1e-5)
    for one, other in zip(gradients, right_gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


loss_and_gradient = jax.jit(
    jax.value_and_grad(distillation_loss, argnums=(0, 1)),
    static_argnames=("reduce_fn", "max_bumps"),
)
