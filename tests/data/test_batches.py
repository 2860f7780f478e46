"""The users, the distinct items and the capacity of training batches."""

import chex
import numpy as np
import pytest

from mqsa_jax.data.packing import Capacity
from tests.data.batch_cases import (
    COUNTS,
    NUM_SUCCESSORS,
    PAIRS,
    USERS,
    T,
    V,
    expected_contents,
    source,
    steps,
)


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


@pytest.mark.parametrize("num_shards", [1, 3, 8])
def test_transitions_are_those_of_the_distinct_items(num_shards):
    for batch in steps(source(num_shards)):
        for shard in range(num_shards):
            row, successor = batch.successor_row[shard], batch.successor[shard]
            assert (np.diff(row) >= 0).all()
            count_IV = np.zeros((batch.distinct_item.shape[-1], V))
            np.add.at(count_IV, (row, successor), batch.successor_count[shard])
            used = batch.distinct_count[shard] > 0
            np.testing.assert_array_equal(count_IV[used], COUNTS[batch.distinct_item[shard][used]])
            assert not count_IV[~used].any()


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
        assert stack.successor.shape == (3, 3, capacity.transitions)
    used = [(batch.distinct_count > 0).sum(-1).max() for batch in steps(batches)]
    assert max(used) <= capacity.distinct


def test_batches_beyond_the_capacity_grow():
    batches = source()
    for wide, grown in zip(steps(batches), steps(batches, capacity=Capacity(1, 1, 1)), strict=True):
        assert contents(grown) == contents(wide)
        np.testing.assert_array_equal(grown.distinct_count.sum(), wide.distinct_count.sum())
        assert grown.distinct_item.shape[-1] >= (wide.distinct_count > 0).sum()
        used = wide.distinct_item[wide.distinct_count > 0]
        assert grown.successor.shape[-1] >= NUM_SUCCESSORS[used].sum()
