"""Training positions, targets consumed before and targets that never occur in training."""

import warnings

import pytest

from mqsa_jax.data.coverage import (
    check_trainable,
    consumed_targets,
    num_training_positions,
    untrained_targets,
    warn_of_consumed_targets,
)
from mqsa_jax.data.histories import make_histories
from mqsa_jax.errors import UserError

LOOPS = make_histories([1, 2, 3], [[1, 2, 3, 1, 2, 3], [4, 5, 6, 7], [8, 8, 8]])
"""A user who goes round, one who never repeats, one who only repeats."""


def test_training_positions_are_pairs_within_the_latest_items():
    # Training items: 4, 2 and 1 of the users, so 3 + 1 + 0 pairs.
    assert num_training_positions(LOOPS, 50) == 4
    assert num_training_positions(LOOPS, 2) == 2


@pytest.mark.parametrize(
    ("split", "policy", "max_len", "expected"),
    [
        # Validation targets 2, 6, 8 after 1231, 45, 8; test targets 3, 7, 8.
        ("valid", "history", 50, 2),
        ("test", "history", 50, 2),
        ("valid", "window", 2, 1),
        ("test", "window", 2, 2),
        ("valid", "none", 50, 0),
        ("test", "none", 50, 0),
    ],
)
def test_consumed_targets_are_counted_once_a_user(split, policy, max_len, expected):
    assert consumed_targets(LOOPS, split, policy, max_len) == expected


def test_untrained_targets():
    # In training there are 1, 2, 3, 4, 5 and 8; among the last two, 3, 1, 4, 5 and 8.
    assert untrained_targets(LOOPS, "test", 50) == 1
    assert untrained_targets(LOOPS, "valid", 50) == 1
    assert untrained_targets(LOOPS, "valid", 2) == 2


@pytest.mark.parametrize("users", [1, 5])
def test_nothing_to_train_on_is_refused(users):
    histories = make_histories(range(users), [[1, 2, user + 3] for user in range(users)])
    with pytest.raises(UserError, match=f"nothing to train on: each of the {users} histories"):
        check_trainable(histories)


def test_users_without_a_training_position_are_counted():
    with pytest.warns(UserWarning, match="^1 of 3 users have no training position"):
        check_trainable(LOOPS)
    with warnings.catch_warnings(action="error"):
        check_trainable(make_histories([1], [[1, 2, 3, 4]]))


def test_consumed_targets_are_said_with_their_numbers():
    expected = (
        r"^2 of 3 validation targets and 2 of 3 test targets were consumed before and count as "
        r"misses \(exclude_seen=history\)$"
    )
    with pytest.warns(UserWarning, match=expected):
        warn_of_consumed_targets(LOOPS, "history", 50)
    with warnings.catch_warnings(action="error"):
        warn_of_consumed_targets(LOOPS, "none", 50)
