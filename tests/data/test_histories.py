"""Reading and building histories."""

# ruff: noqa: D103 - a test's name says what it shows

import dataclasses
import hashlib
import struct
import warnings

import numpy as np
import pytest

from mqsa_jax.data.histories import Histories, make_histories, read_histories
from mqsa_jax.errors import UserError

INT64_MAX = 9223372036854775807


@pytest.fixture
def write(tmp_path):
    """A function that writes text or bytes to a file and returns its path."""

    def write_file(content: str | bytes, name: str = "log.txt"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def error_of(path) -> str:
    """The one-line message with which the file is refused."""
    with pytest.raises(UserError) as caught:
        read_histories(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(str(path))
    return message


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


@pytest.mark.parametrize(
    ("line", "token"),
    [
        ("2 1 two 3", "'two'"),
        ("user 1 2 3", "'user'"),
        ("2,1,2,3", "'2,1,2,3'"),
        ("2 1 2.0 3", "'2.0'"),
        ("2 1 1_000 3", "'1_000'"),
        ("2 1 +4 3", "'+4'"),
        ("2 1 - 3", "'-'"),
        ("2 1 \u0663 3", "'\u0663'"),
        ("2 1 4\u2028 3", "'4\\u2028'"),
        ("2 1 " + "x" * 1000, "'" + "x" * 40 + "...'"),
    ],
)
def test_token_that_is_no_integer(write, line, token):
    path = write(f"1 1 2 3\n\n{line}\n")
    message = error_of(path)
    assert message.startswith(f"{path}:3: {token} is no integer; ")
    assert "whole numbers between spaces" in message


@pytest.mark.parametrize(
    ("line", "token"), [("2 1 0 3", "'0'"), ("0 1 2 3", "'0'"), ("2 1 -5 3", "'-5'")]
)
def test_id_below_one(write, line, token):
    path = write(f"1 1 2 3\n{line}\n")
    assert error_of(path) == (f"{path}:2: id {token} is below 1; number users and items from 1")


@pytest.mark.parametrize("token", [str(INT64_MAX + 1), "9" * 5000])
def test_id_too_large_for_int64(write, token):
    path = write(f"1 1 2 3\n2 1 {token} 3\n")
    message = error_of(path)
    assert message.startswith(f"{path}:2: id '{token[:40]}")
    assert message.endswith("is too large; the largest id is 9223372036854775807")


@pytest.mark.parametrize("second", ["5 4 5 6", "5 4", "05 4 5 6"])
def test_user_on_two_lines(write, second):
    path = write(f"4 1 2 3\n5 1 2 3\n\n{second}\n")
    assert error_of(path) == (
        f"{path}:4: user 5 already stands on line 2; "
        "put each user's whole history on one line, oldest item first"
    )


def test_one_interaction_a_line_is_refused(write):
    path = write("1 10\n1 11\n1 12\n")
    assert error_of(path).startswith(f"{path}:2: user 1 already stands on line 1; ")


@pytest.mark.parametrize("content", ["", "\n  \n\t\n", b"\xef\xbb\xbf"])
def test_file_without_users(write, content):
    path = write(content)
    assert error_of(path) == (
        f"{path}: no users in the file; give one user a line: user item item ..."
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"1 1 2 3\n2 1 \xff 3\n", 2),
        (b"\x1f\x8b\x08\x00rest of a gzip file", 1),
        (b"1 1 2 3\n2 1 2 3\n\x00\x00", 3),
        ("1 1 2 3\n".encode("utf-16"), 1),
        (b"1 1 2 3\n\n\x80", 3),
    ],
)
def test_file_that_is_no_text(write, content, line):
    path = write(content)
    message = error_of(path)
    assert message.startswith(f"{path}:{line}: not UTF-8 text; ")
    assert "unpacked text file" in message


def test_missing_file(tmp_path):
    path = tmp_path / "absent.txt"
    assert error_of(path) == f"{path}: no such file; check the path"


def test_directory(tmp_path):
    assert error_of(tmp_path) == f"{tmp_path}: is a directory; name a file in it"


def test_unreadable_file(write):
    path = write("1 1 2 3\n") / "below.txt"  # a path through a file: refused to root, too
    assert error_of(path) == f"{path}: cannot be read: Not a directory; check the file"


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


def test_only_short_histories(write):
    path = write("\n1 10 20\n2 10\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the error says it all: no warning besides
        message = error_of(path)
    assert message == (
        f"{path}:2: no history is left, as all 2 have fewer than 3 items; "
        "give one user a line with 3 items or more"
    )


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


def test_make_histories_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="2 user ids for 1 sequences"):
        make_histories([1, 2], [[1, 2, 3]])


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


ROWS = "the lines look like single interactions"


@pytest.mark.parametrize(
    "content",
    [
        "1 50 5 978300760\n2 60 3 978302109\n3 50 1 978301968\n",
        "1\t50\t5\t978300760\n2\t60\t3\t978302109\n",
        "1\t50\t5\n2\t60\t3\n3\t50\t1\n",
        "196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t377\t1\t878887116\n",
        "1 50 5\n1 60 4\n",
    ],
    ids=["four columns", "tabs", "three columns", "a user twice", "three columns, a user twice"],
)
def test_single_interactions_are_met_with_a_hint(write, content):
    message = error_of(write(content))
    assert ROWS in message and "user item item ..." in message


@pytest.mark.parametrize(
    "content",
    ["1 50 5 978300760\n2 60 3 978302109 4\n", "1 50 11 978300760\n", "1 5 6 7\n2 7 6 5\n"],
)
def test_histories_that_only_begin_so_are_read(write, content):
    assert read_histories(write(content)).num_users >= 1


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("1,50,5\n2,60,3\n", "replace them by spaces"),
        ("1::1193::5::978300760\n", "replace them by spaces"),
        ("1;50;5\n", "replace them by spaces"),
        ("user\titem\trating\n1\t50\t5\n", "seems to be a header: delete it"),
        ("user_id:token item_id:token\n1 50\n", "seems to be a header: delete it"),
        ("alice 1 2 3\nbob 2 3 4\n", "give ids as whole numbers between spaces"),
        ("u1 1 2 3\n", "give ids as whole numbers between spaces"),
    ],
)
def test_a_header_or_other_separators_are_met_with_a_hint(write, content, hint):
    message = error_of(write(content))
    assert "whole numbers between spaces" in message and message.endswith(hint)


@pytest.mark.parametrize(
    ("user_ids", "sequences", "words"),
    [
        ([7, 7], [[1, 2, 3]] * 2, r"user ids occur more than once: \[7\]"),
        ([4, 5, 4, 5], [[1, 2, 3]] * 4, r"more than once: \[4, 5\]"),
        (np.array([3, 3]), [[1, 2, 3]] * 2, r"more than once: \[3\]"),
        ([1.0], [[1, 2, 3]], "user_ids: 1.0 is no integer"),
        (np.array([1.0]), [[1, 2, 3]], "user_ids: .* is no integer"),
        (["a"], [[1, 2, 3]], "user_ids: 'a' is no integer"),
        ([True], [[1, 2, 3]], "user_ids: True is no integer"),
        ([-1], [[1, 2, 3]], "user_ids: id -1 is not between"),
        ([1], [[1, 2.5, 3]], "history of user 1: 2.5 is no integer"),
        ([1], [np.array([1.0, 2.0, 3.0])], "history of user 1: .* is no integer"),
        ([1], [[1, float("nan"), 3]], "nan is no integer"),
        ([1], [[1, False, 3]], "False is no integer"),
        ([1], [["1", 2, 3]], "'1' is no integer"),
        ([1], ["123"], "'1' is no integer"),
        ([1], [[1, None, 3]], "None is no integer"),
        ([1], [[1, -2, 3]], "id -2 is not between"),
        ([1], [[1, 2, 2**63]], f"id {2**63} is not between"),
        ([1], [np.array([1, 2, 2**63], np.uint64)], f"id {2**63} is not between"),
        ([1, 2], [[1, 2, 3], [1, 2]], r"1 histories have fewer than 3 items.* users \[2\]"),
        ([1, 2], [[], [1]], r"2 histories have fewer than 3 items.* users \[1, 2\]"),
        ([], [], "no users"),
        ([1, 2], [[1, 2, 3]], "2 user ids for 1 sequences"),
    ],
)
def test_what_is_no_history_is_refused(user_ids, sequences, words):
    with pytest.raises(ValueError, match=words):
        make_histories(user_ids, sequences)


def test_ids_may_be_0_of_any_integer_type_and_repeated_in_a_history():
    histories = make_histories(
        np.array([0, 5], np.uint8), [(0, 0, 0), np.array([INT64_MAX, 0, 1], np.uint64)]
    )
    assert_holds(histories, [0, 0, 0, 2, 0, 1], [0, 3, 6], [0, 5], [0, 1, INT64_MAX])
