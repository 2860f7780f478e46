"""Ids of users and items as the source has them: int64, or strings of any length.

Everything else counts from 0: an item's index is the position of its id in a vocabulary, which is
ascending. Strings are ordered by code point, as UTF-8 is by byte.
"""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

Ids = np.ndarray
"""[N] int64 or `STRING`."""
STRING = np.dtypes.StringDType()
LARGEST_ID = int(np.iinfo(np.int64).max)
"""Of ids that are integers."""
_CANONICAL = re.compile(r"0|[1-9][0-9]{0,18}")


def as_ids(values: Iterable[Any], where: str) -> Ids:
    """Ids as an array.

    Args:
      values: whole numbers from 0 to 2^63 - 1, or strings.
      where: names the values in a message.

    Raises:
      ValueError: naming the first value that is neither, or of another kind than the first one.

    Example:
      >>> as_ids([7, 30], "users"), as_ids(["B01", "A9"], "items").tolist()
      (array([ 7, 30]), ['B01', 'A9'])
    """
    if isinstance(values, str):
        raise ValueError(f"{where}: {values!r} is one string, not a sequence of ids")
    if isinstance(values, np.ndarray) and (np.issubdtype(values.dtype, np.integer)):
        ids = values
    elif isinstance(values, np.ndarray) and values.dtype.kind in "TU":
        return _checked_strings(values.astype(STRING), where)
    else:
        ids = list(values)
        if ids and isinstance(ids[0], str):
            _check_kind(ids, str, "string", where)
            return _checked_strings(np.array(ids, STRING), where)
        _check_kind(ids, int | np.integer, "integer", where)
    for value in (min(ids), max(ids)) if len(ids) else ():
        if not 0 <= value <= LARGEST_ID:
            raise ValueError(f"{where}: id {value} is not between 0 and {LARGEST_ID}")
    return np.array(ids, np.int64)


def _check_kind(ids: list[Any], kind: Any, name: str, where: str) -> None:
    for value in ids:
        if isinstance(value, bool | np.bool_) or not isinstance(value, kind):
            raise ValueError(f"{where}: {value!r} is no {name}")


def _checked_strings(ids: Ids, where: str) -> Ids:
    for name in ids.tolist():
        if not name or "\0" in name:
            raise ValueError(f"{where}: {name!r} is no id: it is empty or holds a NUL")
    return ids


def is_text(ids: Ids) -> bool:
    """Whether the ids are strings."""
    return ids.dtype.kind == "T"


def to_stored(ids: Ids) -> np.ndarray:
    """The ids as an array that any file of arrays can hold: int64 as it is, strings as bytes.

    Returns:
      [V] int64, or uint8 [bytes] of UTF-8, each id followed by a NUL.

    Example:
      >>> to_stored(as_ids(["a", "b"], "items")).tobytes()
      b'a\\x00b\\x00'
    """
    if not is_text(ids):
        return ids
    text = "".join(f"{name}\0" for name in ids.tolist())
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)


def from_stored(stored: np.ndarray) -> Ids:
    """The inverse of `to_stored`."""
    stored = np.asarray(stored)
    if stored.dtype != np.uint8:
        return stored
    return np.array(stored.tobytes().decode("utf-8", "surrogatepass").split("\0")[:-1], STRING)


def to_plain(ids: Ids) -> np.ndarray:
    """The ids in a dtype that `numpy.save` writes and users know: int64, or `<U` of a width."""
    if not is_text(ids):
        return ids
    width = int(np.strings.str_len(ids).max()) if len(ids) else 1
    return ids.astype(f"U{width}")


def ids_like(vocabulary: Ids, values: list[Any]) -> Ids:
    """Ids of the kind of a vocabulary; those that cannot be in it become one that is not.

    Args:
      vocabulary: int64 or strings.
      values: integers and strings. Among integers only those in canonical decimal notation,
        `17` and not `017` or `+17`, stand for a number.

    Returns:
      [N] int64, -1 for what is no id; or strings, empty for what is no id.

    Example:
      >>> ids_like(np.array([5, 17]), [17, "17", "017", "B01"]).tolist()
      [17, 17, -1, -1]
    """
    if is_text(vocabulary):
        texts = [str(value) if type(value) is int else value for value in values]
        return np.array([text if is_text_id(text) else "" for text in texts], vocabulary.dtype)
    if set(map(type, values)) == {int} and min(values) >= 0 and max(values) <= LARGEST_ID:
        return np.array(values, np.int64)
    return np.array([as_integer(value) for value in values], np.int64)


def as_integer(value: int | str) -> int:
    """The integer id that a value stands for; -1 if it is none."""
    if isinstance(value, str):
        value = int(value) if _CANONICAL.fullmatch(value) else -1
    return value if 0 <= value <= LARGEST_ID else -1


def is_text_id(text: str) -> bool:
    """Whether a string can be an id: it is Unicode text, and no part of it is a NUL."""
    try:
        return "\0" not in text and bool(text.encode())
    except UnicodeEncodeError:
        return False


class Lookup:
    """Indices of ids in a vocabulary, whatever its order.

    Strings are found by a dict: `numpy.searchsorted` goes wrong on those of 16 bytes or more.

    Example:
      >>> Lookup(np.array([20, 10])).indices(np.array([10, 15])).tolist()
      [1, -1]
    """

    def __init__(self, vocabulary: Ids):
        self._size = len(vocabulary)
        if is_text(vocabulary):
            self._by_name = {name: index for index, name in enumerate(vocabulary.tolist())}
        else:
            self._order = np.argsort(vocabulary, kind="stable")
            self._ascending = vocabulary[self._order]

    def indices(self, ids: Ids) -> np.ndarray:
        """[N] int32 index of each id, which must be of the vocabulary's kind; -1 if not there."""
        if not self._size:
            return np.full(len(ids), -1, np.int32)
        if is_text(ids):
            found = (self._by_name.get(name, -1) for name in ids.tolist())
            return np.fromiter(found, np.int32, len(ids))
        index_N = np.minimum(np.searchsorted(self._ascending, ids), self._size - 1)
        known_N = self._ascending[index_N] == ids
        return np.where(known_N, self._order[index_N], -1).astype(np.int32)
