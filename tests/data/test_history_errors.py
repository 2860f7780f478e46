"""Files and arrays that hold no histories are refused by their line or their user."""

import warnings

import numpy as np
import pytest

from mqsa_jax.data.histories import make_histories, read_histories
from mqsa_jax.errors import UserError

INT64_MAX = 9223372036854775807


def error_of(path) -> str:
    """The one-line message with which the file is refused."""
    with pytest.raises(UserError) as caught:
        read_histories(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(str(path))
    return message


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


def test_only_short_histories(write):
    path = write("\n1 10 20\n2 10\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the error says it all: no warning besides
        message = error_of(path)
    assert message == (
        f"{path}:2: no history is left, as all 2 have fewer than 3 items; "
        "give one user a line with 3 items or more"
    )


def test_make_histories_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="2 user ids for 1 sequences"):
        make_histories([1, 2], [[1, 2, 3]])


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
        (["a", 1], [[1, 2, 3]] * 2, "user_ids: 1 is no string"),
        ([1, "a"], [[1, 2, 3]] * 2, "user_ids: 'a' is no integer"),
        ("a", [[1, 2, 3]], "user_ids: 'a' is one string"),
        ([True], [[1, 2, 3]], "user_ids: True is no integer"),
        ([-1], [[1, 2, 3]], "user_ids: id -1 is not between"),
        ([1], [[1, 2.5, 3]], "history of user 1: 2.5 is no integer"),
        ([1], [np.array([1.0, 2.0, 3.0])], "history of user 1: .* is no integer"),
        ([1], [[1, float("nan"), 3]], "nan is no integer"),
        ([1], [[1, False, 3]], "False is no integer"),
        ([1], [["1", 2, 3]], "2 is no string"),
        ([1], [[1, "2", 3]], "'2' is no integer"),
        ([1], ["123"], "history of user 1: '123' is one string"),
        ([1, 2], [[1, 2, 3], ["1", "2", "3"]], "integers in some histories and strings in others"),
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
