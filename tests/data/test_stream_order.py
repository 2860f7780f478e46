"""The order in which an epoch takes the users of a stream."""

import numpy as np
import pytest

from mqsa_jax.data.stream_order import StreamOrder

SIZES = np.random.default_rng(1).integers(1, 9, 200)
U = int(SIZES.sum())


def windows(order, lane):
    place = 0
    while place < order.lane_size(lane):
        window = order.window_of(lane, place)
        assert window.begin == place
        yield window
        place = window.end


def epoch_users(order, epoch):
    """[U] the users of an epoch, from its definition: lanes in turn."""
    lanes = [
        np.concatenate([order.users(epoch, window) for window in windows(order, lane)])
        for lane in range(order.num_lanes)
    ]
    return np.array([lanes[g % len(lanes)][g // len(lanes)] for g in range(order.num_users)])


@pytest.mark.parametrize(("window_users", "lanes"), [(U, 1), (U - 1, 32), (80, 4), (5, 1)])
def test_an_epoch_takes_every_user_once(window_users, lanes):
    order = StreamOrder(SIZES, window_users, seed=3)
    assert order.num_lanes == lanes
    for epoch in (0, 5):
        assert sorted(epoch_users(order, epoch).tolist()) == list(range(U))


def test_the_order_is_a_function_of_seed_and_epoch():
    first = epoch_users(StreamOrder(SIZES, 80, seed=3), 0).tolist()
    assert epoch_users(StreamOrder(SIZES, 80, seed=3), 0).tolist() == first
    for seed, epoch in ((3, 1), (4, 0), (0, 3)):
        assert epoch_users(StreamOrder(SIZES, 80, seed), epoch).tolist() != first


@pytest.mark.parametrize("epoch", [0, 7])
def test_one_window_has_the_order_of_data_in_memory(epoch):
    expected = np.random.default_rng([3, epoch]).permutation(U)
    assert epoch_users(StreamOrder(SIZES, U, seed=3), epoch).tolist() == expected.tolist()


@pytest.mark.parametrize("window_users", [U - 1, 80, 5])
def test_windows_of_all_lanes_hold_no_more_users_than_they_may(window_users):
    order = StreamOrder(SIZES, window_users, seed=3)
    for lane in range(order.num_lanes):
        for window in windows(order, lane):
            assert (window.end - window.begin - 1) * order.num_lanes < window_users


def test_users_of_a_window_lie_in_its_row_groups():
    order = StreamOrder(SIZES, 80, seed=3)
    group_of_user = np.repeat(np.arange(len(SIZES)), SIZES)
    for lane in range(order.num_lanes):
        for window in windows(order, lane):
            pieces = order.pieces(2, window)
            assert sum(piece.end - piece.begin for piece in pieces) == window.end - window.begin
            groups = set(group_of_user[order.users(2, window)].tolist())
            assert groups == {piece.group for piece in pieces}


def test_users_of_a_row_group_are_spread_over_the_epoch_of_no_step_alone():
    """Row groups that are neighbours in the data, as users of one time may be, are far apart."""
    order = StreamOrder(np.full(400, 5), 200, seed=3)
    users = epoch_users(order, 0)
    step = np.empty(2000, int)
    step[users] = np.arange(2000) // 50
    # Of 40 steps, those of the first 50 users of the data.
    assert len(set(step[:50].tolist())) > 10


def test_permutations_of_windows_differ():
    order = StreamOrder(np.full(64, 10), 160, seed=0)
    seen = [
        order.permutation(0, window).tolist()
        for lane in range(order.num_lanes)
        for window in windows(order, lane)
    ]
    assert len({tuple(row) for row in seen}) == len(seen) > 4
