"""Reading and building histories."""

import dataclasses
import hashlib
import struct
import warnings

import numpy as np
import pytest

from mqsa_jax.data.histories import Histories, make_histories, read_histories

INT64_MAX = 9223372036854775807


def assert_holds(histories: Histories, items, offsets, user_ids, item_ids) -> None:
    """Values and types of the four arrays."""
    assert histories.items.tolist() == items
    assert histories.offsets.tolist() == offsets
    assert histories.user_ids.tolist() == user_ids
    assert histories.item_ids.tolist() == item_ids
    assert histories.items.dtype == np.int32
    assert histories.offsets.dtype == np.int64
    assert histories.user_ids.dtype == np.int64
    assert histories.item_ids.dtype == np.int64


def test_items_are_numbered_by_ascending_id_and_order_is_kept(write):
    histories = read_histories(write("7 30 10 30\n2 500 10 20 40\n"))
    assert_holds(
        histories,
        items=[2, 0, 2, 4, 0, 1, 3],
        offsets=[0, 3, 7],
        user_ids=[7, 2],
        item_ids=[10, 20, 30, 40, 500],
    )
    assert histories.num_users == 2
    assert histories.num_items == 5
    assert histories.lengths.tolist() == [3, 4]


@pytest.mark.parametrize(
    "content",
    [
        "1 5 6 7\n2 7 6 5\n",
        "1 5 6 7\n2 7 6 5",
        "1\t5 \t6  7 \r\n\r\n   2 7 6 5\r\n",
        "\n\n1 5 6 7\n \t \n2 7 6 5\n\n",
        b"\xef\xbb\xbf1 5 6 7\n2 7 6 5\n",
        "001 05 6 0000000000000000000000007\n2 7 6 5\n",
    ],
    ids=["plain", "no final newline", "tabs and CRLF", "blank lines", "BOM", "leading zeros"],
)
def test_layout_of_the_file_does_not_matter(write, content):
    assert_holds(read_histories(write(content)), [0, 1, 2, 2, 1, 0], [0, 3, 6], [1, 2], [5, 6, 7])


def test_path_may_be_a_string(write):
    assert read_histories(str(write("1 1 2 3\n"))).num_users == 1


def test_largest_id_is_read(write):
    histories = read_histories(write(f"{INT64_MAX} 1 2 {INT64_MAX}\n"))
    assert histories.user_ids.tolist() == [INT64_MAX]
    assert histories.item_ids.tolist() == [1, 2, INT64_MAX]


def test_histories_cannot_be_reassigned(write):
    histories = read_histories(write("1 1 2 3\n"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        histories.items = np.zeros(3, np.int32)


def test_short_histories_are_skipped_with_one_warning(write):
    path = write("1 10 20 30\n\n2 77 88\n3\n4 20 30 40\n5 99\n")
    with pytest.warns(UserWarning) as caught:
        histories = read_histories(path)
    assert [str(warning.message) for warning in caught] == [
        f"{path}:3: skipped 3 of 5 histories for having fewer than 3 items; this line is the first"
    ]
    # 77, 88 and 99 occur only in skipped histories, so they are not in the vocabulary.
    assert_holds(histories, [0, 1, 2, 1, 2, 3], [0, 3, 6], [1, 4], [10, 20, 30, 40])


def test_no_warning_when_nothing_is_skipped(write):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_histories(write("1 10 20 30\n"))


@pytest.mark.parametrize("kind", [list, tuple, np.array, iter])
def test_make_histories_takes_any_iterable(kind):
    sequences = [kind([30, 10, 30]), kind([20, 10, 40, 10])]
    assert_holds(
        make_histories(np.array([7, 9]), sequences),
        items=[2, 0, 2, 1, 0, 3, 0],
        offsets=[0, 3, 7],
        user_ids=[7, 9],
        item_ids=[10, 20, 30, 40],
    )


def test_make_histories_does_not_share_its_argument():
    user_ids = np.array([7, 9])
    histories = make_histories(user_ids, [[1, 2, 3], [2, 2, 2]])
    user_ids[0] = 1
    assert histories.user_ids.tolist() == [7, 9]


def test_fingerprint_is_the_hash_of_little_endian_arrays():
    histories = make_histories([7, 9], [[30, 10, 30], [20, 10, 40]])
    expected = (
        b"<i4(6,)" + struct.pack("<6i", 2, 0, 2, 1, 0, 3)
        + b"<i8(3,)" + struct.pack("<3q", 0, 3, 6)
        + b"<i8(2,)" + struct.pack("<2q", 7, 9)
        + b"<i8(4,)" + struct.pack("<4q", 10, 20, 30, 40)
    )  # fmt: skip
    assert histories.fingerprint() == hashlib.sha256(expected).hexdigest()


def test_fingerprint_depends_on_content_alone(write):
    first = read_histories(write("1 5 6 7\n2 7 6 5\n", "a.txt"))
    same = read_histories(write("\n1\t5 6 7\r\n2 7 6 5", "b.txt"))
    assert first.fingerprint() == same.fingerprint()


@pytest.mark.parametrize(
    "content",
    [
        "1 5 6 7\n2 7 5 6\n",  # another order of items
        "1 5 6 7\n3 7 6 5\n",  # another user
        "1 5 6 8\n2 8 6 5\n",  # another item
        "2 7 6 5\n1 5 6 7\n",  # another order of users
        "1 5 6 7 7\n2 6 5 7\n",  # another boundary
    ],
)
def test_fingerprint_tells_histories_apart(write, content):
    first = read_histories(write("1 5 6 7\n2 7 6 5\n", "a.txt"))
    assert read_histories(write(content, "b.txt")).fingerprint() != first.fingerprint()


def test_ids_may_be_0_of_any_integer_type_and_repeated_in_a_history():
    histories = make_histories(
        np.array([0, 5], np.uint8), [(0, 0, 0), np.array([INT64_MAX, 0, 1], np.uint64)]
    )
    assert_holds(histories, [0, 0, 0, 2, 0, 1], [0, 3, 6], [0, 5], [0, 1, INT64_MAX])
