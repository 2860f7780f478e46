"""Packing and sharding of a batch change neither its losses nor their gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from mqsa_jax.config import Config, ModelConfig, ObjectiveConfig
from mqsa_jax.data.batches import Batch
from mqsa_jax.data.packing import Capacity
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Recommender
from mqsa_jax.training.objective import objective
from mqsa_jax.training.state import init_state
from tests import oracle, transition_oracle
from tests.data.batch_cases import (
    COUNTS,
    NUM_SUCCESSORS,
    SEQUENCES,
    SIZE,
    T,
    V,
    expected_contents,
    source,
    steps,
)

CONFIG = Config(
    model=ModelConfig(dim=16, num_heads=2, max_len=T, window=3, alpha=0.4),
    objective=ObjectiveConfig(lambda_kd=0.3, tau=0.5, l2=0.01),
)
RECOMMENDER = Recommender.of(CONFIG, V)


def one_history_a_row(order_of_step):
    """The batch of a step without packing, made by hand."""
    shape = 1, SIZE, T
    item, target, position = (np.zeros(shape, np.int32) for _ in range(3))
    segment = np.full(shape, -1, np.int32)
    for number, (inputs, targets, positions) in expected_contents(order_of_step).items():
        columns = slice(T - len(inputs), T)
        item[0, number, columns], target[0, number, columns] = inputs, targets
        position[0, number, columns], segment[0, number, columns] = positions, number
    distinct, count = np.unique(item[segment >= 0], return_counts=True)
    spare = 0, V - len(distinct)
    return Batch(
        inputs=Sequences(item, position, segment),
        target=target,
        distinct_item=np.pad(distinct, spare)[None].astype(np.int32),
        distinct_count=np.pad(count, spare)[None].astype(np.float32),
        num_positions=np.float32((segment >= 0).sum()),
        **transitions_of(distinct),
    )


def transitions_of(distinct):
    """Those of the items in each column, and as many zeros as make room for those of all items."""
    column, successor = np.nonzero(COUNTS[distinct])
    spare = 0, int(NUM_SUCCESSORS.sum()) - len(column)
    return dict(
        successor_row=np.pad(column, spare, constant_values=V - 1)[None].astype(np.int32),
        successor=np.pad(successor, spare)[None].astype(np.int32),
        successor_count=np.pad(COUNTS[distinct][column, successor], spare)[None].astype(np.float32),
    )


@pytest.fixture(scope="module")
def params():
    hparams = HParams.of(CONFIG)
    shapes = jax.eval_shape(lambda: init_state(RECOMMENDER, hparams, 0).params)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.float32(rng.normal(size=leaf.shape) / 2), shapes)


@jax.jit
def losses_and_gradient(params, batch, dropout):
    """Losses and gradient at a step's key."""
    hparams = HParams.of(CONFIG).replace(dropout=dropout)
    (_, losses), gradient = jax.value_and_grad(objective, has_aux=True)(
        params, batch, jax.random.key(4), recommender=RECOMMENDER, hparams=hparams
    )
    return losses, gradient


def on_device(batch):
    return jax.tree.map(jnp.asarray, batch)


LIKE_BY_HAND = Capacity(rows=SIZE, distinct=V, transitions=int(NUM_SUCCESSORS.sum()))
"""Sizes of `one_history_a_row`: both share a compiled program, and packing leaves rows empty."""


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("step", [0, 2])
@pytest.mark.parametrize("num_shards", [1, 3])
def test_packing_and_sharding_change_neither_losses_nor_gradients(
    params, dropout, step, num_shards
):
    packed = list(steps(source(num_shards), capacity=LIKE_BY_HAND))[step]
    by_hand = one_history_a_row(source().order(0)[step])
    rows_used = (packed.inputs.segment_ids >= 0).any(-1).sum()
    assert rows_used < (by_hand.inputs.segment_ids >= 0).any(-1).sum() or num_shards > 1
    one = losses_and_gradient(params, on_device(packed), jnp.float32(dropout))
    other = losses_and_gradient(params, on_device(by_hand), jnp.float32(dropout))
    chex.assert_trees_all_close(one[0], other[0], rtol=1e-5)
    chex.assert_trees_all_close(one[1], other[1], rtol=1e-4, atol=1e-5)


def test_losses_of_a_packed_batch_agree_with_the_oracle(params):
    batch, users = next(steps(source(), capacity=LIKE_BY_HAND)), source().order(0)[0]
    losses, _ = losses_and_gradient(params, on_device(batch), jnp.float32(0))
    expected_teacher = transition_oracle.teacher_probabilities(COUNTS, tau=0.5)
    expected = oracle.total_loss(
        traverse_util.flatten_dict(params, sep="/"),
        [SEQUENCES[user][:-2] for user in users],
        expected_teacher,
        max_len=T,
        lambda_kd=0.3,
        tau=0.5,
        l2=0.01,
        window=3,
        alpha=0.4,
        num_blocks=1,
        num_heads=2,
    )
    actual = losses.loss, losses.loss_rec, losses.loss_kd
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_dropout_changes_losses(params):
    """So that the comparison under dropout means something."""
    batch = on_device(next(steps(source(), capacity=LIKE_BY_HAND)))
    one, other = (losses_and_gradient(params, batch, jnp.float32(rate))[0] for rate in (0, 0.5))
    assert abs(one.loss_rec - other.loss_rec) > 1e-2
    assert abs(one.loss_kd - other.loss_kd) > 1e-2


def test_a_batch_without_positions_has_no_loss_but_the_penalty(params):
    empty = one_history_a_row([-1] * SIZE)
    losses, gradient = losses_and_gradient(params, on_device(empty), jnp.float32(0))
    assert losses.loss_rec == losses.loss_kd == 0
    chex.assert_trees_all_close(
        gradient, jax.tree.map(lambda leaf: 0.01 * leaf, params), rtol=1e-5, atol=1e-7
    )
