"""Interaction histories, held flat on the host.

Shape legend: U users, V items in the vocabulary, N interactions of all users together.
"""

import codecs
import dataclasses
import functools
import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mqsa_jax.data.attributes import Attributes, combined_fingerprint
from mqsa_jax.data.ids import LARGEST_ID, Ids, as_ids, to_stored
from mqsa_jax.errors import UserError

MIN_ITEMS = 3
"""Fewest items in a history: one each for training, validation and test."""

_SAFE_DIGITS = 18  # every number of so many digits fits int64
_INTEGER = re.compile(rb"-?[0-9]+")
_MOST_RATING = 10  # of the usual scales
_TIMES = range(10**8, 10**13)  # from 1973 on, in seconds or milliseconds since 1970
_ROWS_HINT = (
    "; the lines look like single interactions (user item rating timestamp): sort them by time and "
    "give one user a line, user item item ..., without ratings and timestamps"
)
_SEPARATORS = re.compile(r"[,;|]|::")
_SHOWN = 40  # characters of a bad token that a message repeats


@dataclasses.dataclass(frozen=True, eq=False)
class Histories:
    """All users' histories, one after the other (compressed sparse rows).

    User ``u`` has the items ``items[offsets[u]:offsets[u + 1]]``, oldest first.

    Attributes:
        items: int32 [N], item indices in 0..V-1.
        offsets: int64 [U+1], where each user's history starts; the last entry is N.
        user_ids: int64 or strings [U], the users' ids in the source.
        item_ids: int64 or strings [V], the vocabulary: the items' ids in the source, ascending, and
            behind them the cold ones. An item's index is its position in this array.
        cuts: int64 [U, 2], after a split by time: each user's number of items before the
            validation and before the test. None: leave-one-out.
        num_cold: items at the end of the vocabulary that no history holds.
        attributes: [V] lists, of the items. None: nothing is known.
        traits: [U] lists, of the users. None: nothing is known.
    """

    items: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    user_ids: Ids
    item_ids: Ids
    cuts: npt.NDArray[np.int64] | None = None
    num_cold: int = 0
    attributes: Attributes | None = None
    traits: Attributes | None = None

    @property
    def num_users(self) -> int:
        """Number of users U."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """Number of items in the vocabulary V."""
        return len(self.item_ids)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of items in each user's history, int64 [U]."""
        return np.diff(self.offsets)

    def of_users(self, kept_U: npt.NDArray[np.bool_]) -> "Histories":
        """The histories of some users; the vocabulary stays."""
        kept_N = np.repeat(kept_U, self.lengths)
        return dataclasses.replace(
            self,
            items=self.items[kept_N],
            offsets=np.append(0, np.cumsum(self.lengths[kept_U])),
            user_ids=self.user_ids[kept_U],
            cuts=None if self.cuts is None else self.cuts[kept_U],
            traits=None if self.traits is None else self.traits.of_rows(kept_U),
        )

    def blocks(self) -> Iterator["Histories"]:
        """These histories themselves, as the one block; see `data.dataset.Dataset`."""
        yield self

    def fingerprint(self) -> str:
        """Return the SHA-256 (64 hexadecimal digits) of the four arrays.

        It depends on shapes and values alone: not on the file's name or layout, nor on the
        machine's byte order. It is computed once.
        """
        return self._fingerprint

    def inputs_fingerprint(self) -> str:
        """Return the SHA-256 of all that a run reads: histories, attributes and traits."""
        return combined_fingerprint(self.fingerprint(), self.attributes, self.traits)

    @functools.cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for array, dtype in (
            (self.items, "<i4"),
            (self.offsets, "<i8"),
            (to_stored(self.user_ids), "<i8"),
            (to_stored(self.item_ids), "<i8"),
        ):
            dtype = "<u1" if array.dtype == np.uint8 else dtype
            digest.update(f"{dtype}{array.shape}".encode())
            digest.update(array.astype(dtype).tobytes())
        if self.cuts is not None:
            digest.update(self.cuts.astype("<i8").tobytes())
        return digest.hexdigest()


def make_histories(
    user_ids: Sequence[Any] | npt.NDArray[Any],
    sequences: Sequence[Iterable[Any]],
) -> Histories:
    """Number the items that occur and lay the histories out flat.

    Args:
        user_ids: U user ids, none twice, in the order in which the users are kept.
        sequences: for each user three item ids or more, oldest first.

    Returns:
        The histories; the vocabulary is the set of item ids in `sequences`.

    Raises:
        ValueError: the two arguments differ in length, there are no users, a user id occurs twice,
            a history is too short to be split, or an id is neither an integer from 0 to
            2^63 - 1 nor a string, or not of the kind of the others.

    >>> histories = make_histories([7, 9], [[30, 10, 30], [20, 10, 40]])
    >>> histories.item_ids.tolist(), histories.items.tolist(), histories.offsets.tolist()
    ([10, 20, 30, 40], [2, 0, 2, 1, 0, 3], [0, 3, 6])
    """
    if len(user_ids) != len(sequences):
        raise ValueError(f"{len(user_ids)} user ids for {len(sequences)} sequences")
    if len(user_ids) == 0:
        raise ValueError("no users; give one history or more")
    users = as_ids(user_ids, "user_ids")
    rows = [
        as_ids(row, f"history of user {user}") for user, row in zip(users, sequences, strict=True)
    ]
    distinct, count = np.unique(users, return_counts=True)
    if len(distinct) < len(users):
        twice = distinct[count > 1][:5].tolist()
        raise ValueError(f"user ids occur more than once: {twice}; give one history a user")
    if len({row.dtype for row in rows if len(row)}) > 1:
        raise ValueError("items are integers in some histories and strings in others")
    lengths = np.array([len(row) for row in rows])
    if lengths.min() < MIN_ITEMS:
        short = users[lengths < MIN_ITEMS]
        raise ValueError(
            f"{len(short)} histories have fewer than {MIN_ITEMS} items, one each to train, "
            f"validate and test: those of users {short[:5].tolist()}; leave them out"
        )
    item_ids, items = np.unique(np.concatenate(rows), return_inverse=True)
    return Histories(
        items=items.astype(np.int32),
        offsets=np.append(0, np.cumsum(lengths)),
        user_ids=users,
        item_ids=item_ids,
    )


def read_histories(path: str | os.PathLike[str]) -> Histories:
    """Read a UTF-8 text file of one user a line: ``user item item ...``, oldest item first.

    Ids are integers of 1 or more, separated by white space; blank lines are ignored. A history of
    fewer than three items cannot be split into training, validation and test: such histories are
    skipped, and one `UserWarning` gives their number.

    Returns:
        The histories in the order of the file.

    Raises:
        UserError: the file cannot be read or is no text, a token is no id, a user stands on two
            lines, or no history is left.
    """
    sequences: dict[int, list[int]] = {}
    line_of_user: dict[int, int] = {}
    short_lines: list[int] = []
    rows_only = True
    for number, (user, *item_ids) in _parse_lines(path):
        rows_only = rows_only and _looks_like_rows(item_ids)
        first = line_of_user.setdefault(user, number)
        if first != number:
            hint = _ROWS_HINT if _looks_like_rows(item_ids) else ""
            raise UserError(
                f"{path}:{number}: user {user} already stands on line {first}; "
                f"put each user's whole history on one line, oldest item first{hint}"
            )
        if len(item_ids) < MIN_ITEMS:
            short_lines.append(number)
        else:
            sequences[user] = item_ids
    if not line_of_user:
        raise UserError(f"{path}: no users in the file; give one user a line: user item item ...")
    if not sequences:
        raise UserError(
            f"{path}:{short_lines[0]}: no history is left, as all {len(short_lines)} have fewer "
            f"than {MIN_ITEMS} items; give one user a line with {MIN_ITEMS} items or more"
            f"{_ROWS_HINT if rows_only else ''}"
        )
    if rows_only:
        raise UserError(f"{path}:{next(iter(line_of_user.values()))}: not histories{_ROWS_HINT}")
    if short_lines:
        warnings.warn(
            f"{path}:{short_lines[0]}: skipped {len(short_lines)} of {len(line_of_user)} histories "
            f"for having fewer than {MIN_ITEMS} items; this line is the first",
            UserWarning,
            stacklevel=2,
        )
    return make_histories(list(sequences), list(sequences.values()))


def _looks_like_rows(values: list[int]) -> bool:
    """Whether the values after a user's id may be `item rating` or `item rating timestamp`."""
    rated = len(values) in (2, 3) and values[1] <= _MOST_RATING
    return rated and (len(values) == 2 or values[2] in _TIMES)


def _parse_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[int]]]:
    """Yield the number, from 1, and the ids of every line that is not blank."""
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        tokens = line.split()
        if tokens:
            yield number, _parse_ids(tokens, f"{path}:{number}")


def _read_text(path: str | os.PathLike[str]) -> bytes:
    """Return the file's bytes, known to be UTF-8 text, without a byte order mark."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a directory; name a file in it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; check the file") from error
    bad = data.find(b"\0")
    if bad < 0:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            bad = error.start
    if bad >= 0:
        line = len(data[: bad + 1].splitlines())
        raise UserError(
            f"{path}:{line}: not UTF-8 text; "
            "give a plain, unpacked text file of one user a line: user item item ..."
        )
    return data.removeprefix(codecs.BOM_UTF8)


def _parse_ids(tokens: list[bytes], where: str) -> list[int]:
    """Return the ids that a line's tokens stand for."""
    # Nearly every line passes these tests, which run in C: many times faster than one by one.
    if all(map(bytes.isdigit, tokens)) and max(map(len, tokens)) <= _SAFE_DIGITS:
        ids = list(map(int, tokens))
        if min(ids) >= 1:
            return ids
    header = not any(token.isdigit() for token in tokens)
    return [_parse_id(token, where, header) for token in tokens]


def _parse_id(token: bytes, where: str, header: bool) -> int:
    """Return the id that `token` stands for, or say why it is none."""
    text = token.decode("utf-8")
    # repr() keeps the message on one line whatever stands in the token.
    shown = repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
    if not _INTEGER.fullmatch(token):
        hint = ""
        if _SEPARATORS.search(text):
            hint = "; the file seems to have other separators, as CSV has: replace them by spaces"
        elif where.endswith(":1") and header:
            hint = "; the line seems to be a header: delete it"
        raise UserError(
            f"{where}: {shown} is no integer; give ids as whole numbers between spaces{hint}"
        )
    digits = token.lstrip(b"0")
    if token.startswith(b"-") or not digits:
        raise UserError(f"{where}: id {shown} is below 1; number users and items from 1")
    if len(digits) > len(str(LARGEST_ID)) or int(digits) > LARGEST_ID:
        raise UserError(f"{where}: id {shown} is too large; the largest id is {LARGEST_ID}")
    return int(digits)
