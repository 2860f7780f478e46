"""Leave-one-out splits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqsa_jax.data import splits
from mqsa_jax.data.histories import make_histories
from mqsa_jax.data.splits import Slices

SEQUENCES = [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 0], [1, 2, 1, 3]]
HISTORIES = make_histories([1, 2, 3], SEQUENCES)
HELD_OUT = {"train": 2, "valid": 2, "test": 1}


def lists(slices: Slices, histories=HISTORIES) -> list[list[int]]:
    """The items of each slice."""
    return [
        histories.items[begin:end].tolist()
        for begin, end in zip(slices.begin, slices.end, strict=True)
    ]


def test_windows_of_an_example():
    assert lists(splits.recent(HISTORIES, "train", 4)) == [[2, 3, 4, 5], [8], [1, 2]]
    assert lists(splits.recent(HISTORIES, "valid", 4)) == [[2, 3, 4, 5], [8], [1, 2]]
    assert lists(splits.recent(HISTORIES, "test", 4)) == [[3, 4, 5, 6], [8, 9], [1, 2, 1]]
    assert lists(splits.recent(HISTORIES, "test", 99)) == [s[:-1] for s in SEQUENCES]


def test_training_inputs_of_an_example():
    # Of the last four training items all but the newest; its targets follow each.
    inputs = splits.training_inputs(HISTORIES, 4)
    assert lists(inputs) == [[2, 3, 4], [], [1]]
    _, index = inputs.flat_index()
    assert HISTORIES.items[index + 1].tolist() == [3, 4, 5, 2]


def test_targets_of_an_example():
    assert splits.targets(HISTORIES, "valid").tolist() == [6, 9, 1]
    assert splits.targets(HISTORIES, "test").tolist() == [7, 0, 3]


@pytest.mark.parametrize(
    ("split", "policy", "expected"),
    [
        ("valid", "history", [[0, 1, 2, 3, 4, 5], [8], [1, 2]]),
        ("test", "history", [[0, 1, 2, 3, 4, 5, 6], [8, 9], [1, 2, 1]]),
        ("valid", "window", [[3, 4, 5], [8], [1, 2]]),
        ("test", "window", [[3, 4, 5, 6], [8, 9], [1, 2, 1]]),  # three and the validation item
        ("valid", "none", [[], [], []]),
        ("test", "none", [[], [], []]),
    ],
)
def test_seen_items_of_an_example(split, policy, expected):
    assert lists(splits.seen(HISTORIES, split, policy, 3)) == expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.integers(1, 20), min_size=3, max_size=12), min_size=1, max_size=6),
    st.integers(1, 14),
)
def test_agrees_with_plain_lists(sequences, max_len):
    histories = make_histories(range(len(sequences)), sequences)
    numbered = [np.searchsorted(histories.item_ids, s).tolist() for s in sequences]
    for split, held_out in HELD_OUT.items():
        expected = [s[:-held_out][-max_len:] for s in numbered]
        assert lists(splits.recent(histories, split, max_len), histories) == expected
        if split != "train":
            assert splits.targets(histories, split).tolist() == [s[-held_out] for s in numbered]
            seen = splits.seen(histories, split, "history", max_len)
            assert lists(seen, histories) == [s[:-held_out] for s in numbered]
            seen = splits.seen(histories, split, "window", max_len)
            between = {"valid": [[] for _ in numbered], "test": [s[-2:-1] for s in numbered]}
            expected = [
                s[:-2][-max_len:] + more for s, more in zip(numbered, between[split], strict=True)
            ]
            assert lists(seen, histories) == expected
    inputs = splits.training_inputs(histories, max_len)
    assert lists(inputs, histories) == [s[:-2][-max_len:][:-1] for s in numbered]
    _, index = inputs.flat_index()
    targets = [item for s in numbered for item in s[:-2][-max_len:][1:]]
    assert histories.items[index + 1].tolist() == targets


def test_slices_can_be_taken_and_laid_flat():
    slices = Slices(np.array([0, 10, 20, 30]), np.array([2, 10, 23, 31]))
    assert slices.lengths.tolist() == [2, 0, 3, 1]
    owner, index = slices.flat_index()
    assert owner.tolist() == [0, 0, 2, 2, 2, 3]
    assert index.tolist() == [0, 1, 20, 21, 22, 30]
    taken = slices[np.array([[3, 1], [2, 3]])]
    assert taken.begin.tolist() == [[30, 10], [20, 30]]
    assert taken.lengths.tolist() == [[1, 0], [3, 1]]
    owner, index = taken.flat_index()
    assert owner.tolist() == [0, 2, 2, 2, 3]
    assert index.tolist() == [30, 20, 21, 22, 30]


def test_occurrences_in_training():
    histories = make_histories([1, 2], [[10, 20, 10, 30, 20], [20, 20, 30, 10]])
    # Without the last two of each: [10 20 10] and [20 20]; the last 2 of these: [20 10], [20 20].
    assert splits.item_counts(histories, 50).tolist() == [2, 3, 0]
    assert splits.item_counts(histories, 2).tolist() == [1, 3, 0]
