"""Training batches, and that packing them changes nothing."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from mqsa_jax.config import Config, ModelConfig, ObjectiveConfig
from mqsa_jax.data.batches import Batch, BatchSource, Capacity
from mqsa_jax.data.histories import make_histories
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.data.transitions import count_transitions
from mqsa_jax.losses.teacher import teacher_probabilities, transition_teacher
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Recommender
from mqsa_jax.training.state import init_state
from mqsa_jax.training.step import objective
from tests import oracle

USERS, V, T, SIZE = 21, 13, 6, 8
CONFIG = Config(
    model=ModelConfig(dim=16, num_heads=2, max_len=T, window=3, alpha=0.4),
    objective=ObjectiveConfig(lambda_kd=0.3, tau=0.5, l2=0.01),
)
RECOMMENDER = Recommender.of(CONFIG, V)


def random_sequences():
    """Whole histories of 3 to 11 items; three items leave nothing to train on."""
    rng = np.random.default_rng(0)
    lengths = [3, 3, 4, 11, *rng.integers(3, 12, USERS - 4)]
    sequences = [rng.integers(0, V, length).tolist() for length in lengths]
    assert {item for sequence in sequences for item in sequence} == set(range(V))
    return sequences


SEQUENCES = random_sequences()
HISTORIES = make_histories(range(USERS), SEQUENCES)
PAIRS = [oracle.training_pair(sequence[:-2], max_len=T) for sequence in SEQUENCES]
"""Inputs and targets of each user, as plain lists."""
COUNTS = oracle.count_transitions([s[:-2] for s in SEQUENCES], V, max_len=T)
NUM_SUCCESSORS = (COUNTS > 0).sum(1)


def source(num_shards=1, seed=4, batch_size=SIZE):
    return BatchSource(HISTORIES, NUM_SUCCESSORS, batch_size, T, seed, num_shards)


def steps(source, epoch=0, steps_per_program=10, capacity=None):
    """The batches of an epoch, one by one."""
    stacks = source.batches(epoch, steps_per_program, capacity or source.capacity())
    for stack in stacks:
        for step in range(len(stack.num_positions)):
            yield jax.tree.map(lambda leaf, step=step: leaf[step], stack)


def contents(batch):
    """(inputs, targets, positions) of every history by its segment number."""
    result = {}
    segment = batch.inputs.segment_ids
    for number in np.unique(segment[segment >= 0]).tolist():
        own = segment == number
        assert own.any(-1).sum() == 1, "a history lies in one row of one shard"
        arrays = batch.inputs.item, batch.target, batch.inputs.position
        result[number] = tuple(array[own].tolist() for array in arrays)
    return result


def expected_contents(order_of_step):
    """The same, from plain lists; segment n is the n-th user of the step."""
    result = {}
    for number, user in enumerate(order_of_step):
        inputs, targets = PAIRS[user] if user >= 0 else ([], [])
        if inputs:
            result[number] = inputs, targets, list(range(T - len(inputs), T))
    return result


# Which users, when


@pytest.mark.parametrize("batch_size", [1, 8, 21, 50])
def test_an_epoch_takes_every_user_once(batch_size):
    order = source(batch_size=batch_size).order(3)
    assert order.shape == (-(-USERS // batch_size), batch_size)
    assert sorted(order[order >= 0].tolist()) == list(range(USERS))
    # What the last step lacks stands at its end.
    assert (order.ravel()[:USERS] >= 0).all()
    assert source(batch_size=batch_size).num_steps == len(order)


def test_the_order_is_a_function_of_seed_and_epoch():
    one = source(seed=1)
    first = one.order(0).tolist()
    one.order(7)
    assert one.order(0).tolist() == source(seed=1, num_shards=3).order(0).tolist() == first
    others = one.order(1), source(seed=2).order(0), source(seed=0).order(1)
    assert all(other.tolist() != first for other in others)


@pytest.mark.parametrize("num_shards", [1, 3, 8])
def test_batches_hold_the_users_in_their_order(num_shards):
    batches = source(num_shards)
    for epoch in (0, 4):
        each = list(steps(batches, epoch))
        assert len(each) == batches.num_steps == 3
        for batch, users in zip(each, batches.order(epoch), strict=True):
            assert batch.inputs.item.shape[0] == num_shards
            assert contents(batch) == expected_contents(users)
            assert batch.num_positions == sum(len(PAIRS[user][0]) for user in users if user >= 0)


def test_users_are_spread_evenly_over_the_shards():
    for batch in steps(source(3)):
        for shard in range(3):
            segment = batch.inputs.segment_ids[shard]
            assert (segment[segment >= 0] % 3 == shard).all()


def test_the_last_batch_holds_the_rest():
    last = list(steps(source()))[-1]
    users = source().order(0)[-1]
    assert (users >= 0).sum() == 21 - 2 * 8
    assert contents(last).keys() <= set(range(5))
    assert last.num_positions == sum(len(PAIRS[user][0]) for user in users[:5])


def test_stacks_of_steps_do_not_change_the_steps():
    batches = source(3)
    whole = list(batches.batches(0, 10, batches.capacity()))
    parts = list(batches.batches(0, 2, batches.capacity()))
    assert [len(stack.num_positions) for stack in whole] == [3]
    assert [len(stack.num_positions) for stack in parts] == [2, 1]
    for one, other in zip(steps(batches), steps(batches, steps_per_program=2), strict=True):
        assert contents(one) == contents(other)
        chex.assert_trees_all_equal(one.distinct_item, other.distinct_item)


def test_several_histories_share_a_row():
    batch = next(steps(source()))
    used = (batch.inputs.segment_ids >= 0).any(-1).sum()
    assert used < len(contents(batch))


@pytest.mark.parametrize("num_shards", [1, 3])
def test_padding_holds_valid_indices(num_shards):
    for batch in steps(source(num_shards)):
        padding = batch.inputs.segment_ids < 0
        for array in (batch.inputs.item, batch.target, batch.inputs.position):
            assert not array[padding].any()


# Distinct items


@pytest.mark.parametrize("num_shards", [1, 3, 8])
def test_distinct_items_count_the_inputs_of_each_shard(num_shards):
    for batch in steps(source(num_shards)):
        assert batch.distinct_count.sum() == batch.num_positions
        for shard in range(num_shards):
            real = batch.inputs.segment_ids[shard] >= 0
            item, count = np.unique(batch.inputs.item[shard][real], return_counts=True)
            used = batch.distinct_count[shard] > 0
            assert batch.distinct_item[shard][used].tolist() == item.tolist()
            assert batch.distinct_count[shard][used].tolist() == count.tolist()
            assert not batch.distinct_item[shard][~used].any()
            assert NUM_SUCCESSORS[item].sum() <= batch.max_bumps


# Capacity


def test_capacity_grows_to_what_is_needed():
    # 33 is rounded up to four leading binary digits: 36.
    assert Capacity(4, 4, 4).holding(Capacity(3, 5, 33)) == Capacity(4, 5, 36)
    assert Capacity(4, 4, 40).holding(Capacity(3, 4, 33)) == Capacity(4, 4, 40)


def test_capacity_has_a_margin_of_a_tenth():
    # 11; 110, rounded up to 112; 1100, rounded up to 1152.
    assert Capacity(10, 100, 1000).margined() == Capacity(11, 112, 1152)


def test_the_first_epoch_fits_with_room_to_spare():
    batches = source(3)
    capacity = batches.capacity()
    for stack in batches.batches(0, 10, capacity):
        assert stack.inputs.item.shape == (3, 3, capacity.rows, T)
        assert stack.distinct_item.shape == (3, 3, capacity.distinct)
        assert stack.max_bumps == capacity.bumps
    used = [(batch.distinct_count > 0).sum(-1).max() for batch in steps(batches)]
    assert max(used) <= capacity.distinct


def test_batches_beyond_the_capacity_grow():
    batches = source()
    for wide, grown in zip(steps(batches), steps(batches, capacity=Capacity(1, 1, 1)), strict=True):
        assert contents(grown) == contents(wide)
        np.testing.assert_array_equal(grown.distinct_count.sum(), wide.distinct_count.sum())
        assert grown.distinct_item.shape[-1] >= (wide.distinct_count > 0).sum()
        used = wide.distinct_item[wide.distinct_count > 0]
        assert grown.max_bumps >= NUM_SUCCESSORS[used].sum()


# Packing changes nothing


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
        max_bumps=int(NUM_SUCCESSORS.sum()),
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
    row, successor = np.nonzero(COUNTS)
    item_N = np.stack([row, successor], axis=1).repeat(COUNTS[row, successor].astype(int), axis=0)
    # Each counted transition as a history of two items: the same counts.
    counts = count_transitions(
        jnp.asarray(item_N.ravel(), jnp.int32), jnp.arange(item_N.size, dtype=jnp.int32) // 2, V
    )
    hparams = HParams.of(CONFIG).replace(dropout=dropout)
    teacher = transition_teacher(counts, hparams.tau)
    (_, losses), gradient = jax.value_and_grad(objective, has_aux=True)(
        params, batch, jax.random.key(4), recommender=RECOMMENDER, hparams=hparams, teacher=teacher
    )
    return losses, gradient, teacher_probabilities(teacher)


def on_device(batch):
    return jax.tree.map(jnp.asarray, batch)


LIKE_BY_HAND = Capacity(rows=SIZE, distinct=V, bumps=int(NUM_SUCCESSORS.sum()))
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
    losses, _, teacher_VV = losses_and_gradient(params, on_device(batch), jnp.float32(0))
    expected_teacher = oracle.teacher_probabilities(COUNTS, tau=0.5)
    np.testing.assert_allclose(teacher_VV, expected_teacher, atol=1e-6)
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
    losses, gradient, _ = losses_and_gradient(params, on_device(empty), jnp.float32(0))
    assert losses.loss_rec == losses.loss_kd == 0
    chex.assert_trees_all_close(
        gradient, jax.tree.map(lambda leaf: 0.01 * leaf, params), rtol=1e-5, atol=1e-7
    )
