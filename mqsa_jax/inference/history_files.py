"""Histories that a user gives: a file of any kind, or JSON lines on standard input.

A line of JSON is `{"user": "u1", "items": [17, 230]}`, oldest item first, or in any order with
`"times"` beside it. Each line is a history of its own. Ids are integers or strings; which of the
two the data have decides how they are read: the string "17" is the integer 17 and the other way
round.
"""

import contextlib
import gzip
import io
import itertools
import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mqsa_jax.data.ids import LARGEST_ID, Ids, as_integer, ids_like, is_text, is_text_id
from mqsa_jax.errors import SettingError, UserError

STANDARD_INPUT = "-"
JSON_ENDINGS = (".jsonl", ".json", ".ndjson")
_SHOWN = 40  # characters of a bad value that a message repeats

RawHistory = tuple[str, Any, list[Any]]
"""Where it stands, its user and its items, oldest first."""


def read_given_histories(path: str) -> Iterator[RawHistory]:
    """The histories of a file, or of standard input for `-`, one at a time.

    Raises:
      UserError: naming the file and the line, if it is missing, empty, damaged or no histories.
    """
    count = 0
    for history in _histories(path):
        count += 1
        yield history
    if not count:
        raise UserError(f"{_name(path)}: no histories; give one a line, {_WANTED}")


_WANTED = '{"user": "u1", "items": [17, 230]}'


def _name(path: str) -> str:
    return "standard input" if path == STANDARD_INPUT else path


def _histories(path: str) -> Iterator[RawHistory]:
    ending = path.lower().removesuffix(".gz")
    if path == STANDARD_INPUT or ending.endswith(JSON_ENDINGS):
        with _opened(path) as lines:
            values = _json_lines(lines, _name(path))
            first = next(values, None)
            if first is None:
                return
            keys = first[1] if isinstance(first[1], dict) else ["items"]
            if path == STANDARD_INPUT or "items" in keys:
                yield from itertools.starmap(_checked, itertools.chain([first], values))
                return
    # Imported late: the readers of all other formats take time to import.
    from mqsa_jax.prepare.raw_histories import read_raw_histories

    try:
        for number, (user, items) in enumerate(read_raw_histories([path]), start=1):
            yield f"{path}: history {number}", user, items
    except SettingError as error:
        # Its flags are those of `prepare`.
        raise UserError(f"{error}; prepare has flags for it, recommend reads known names") from None


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Iterable[bytes]]:
    """A file, unpacked if it is packed, or standard input; UserError where it cannot be read."""
    try:
        if path == STANDARD_INPUT:
            yield getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode())
        elif path.lower().endswith(".gz"):
            with gzip.open(path, "rb") as file:
                yield file
        else:
            with open(path, "rb") as file:
                yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a directory; name a file in it") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: damaged or cut off gzip ({error}); pack it anew") from None
    except OSError as error:
        raise UserError(f"{_name(path)}: cannot be read: {error.strerror or error}") from None


def _json_lines(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, Any]]:
    """Where each line that is not blank stands, and its value."""
    for number, line in enumerate(lines, start=1):
        where = f"{name}:{number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{where}: not UTF-8 text; give UTF-8, a JSON object a line") from None
        if text.isspace() or not text:
            continue
        try:
            yield where, json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", None) or "nested too deeply, or too long a number"
            raise UserError(f"{where}: not JSON ({reason}); give a line like {_WANTED}") from None


def _checked(where: str, value: Any) -> RawHistory:
    """A line's user and items, in the order of its times; UserError if it is not of that form."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: {_shown(value)} is no object; give a line like {_WANTED}")
    for key in ("user", "items"):
        if key not in value:
            raise UserError(f'{where}: lacks "{key}"; give a line like {_WANTED}')
    user, items = value["user"], value["items"]
    if not isinstance(items, list):
        raise UserError(f'{where}: "items" is {_shown(items)}, no list of ids')
    for id_ in (user, *items):
        if type(id_) not in (int, str):
            raise UserError(f"{where}: {_shown(id_)} is no id; ids are integers or strings")
    return where, user, _by_time(where, items, value["times"]) if "times" in value else items


def _by_time(where: str, items: list[Any], times: Any) -> list[Any]:
    """The items in the order of their times; those of equal times keep theirs."""
    if not isinstance(times, list) or len(times) != len(items):
        raise UserError(f'{where}: "times" must be a list as long as "items"')
    for time in times:
        # Not `isfinite`, which raises for integers beyond floats.
        if type(time) not in (int, float) or time - time != 0:
            raise UserError(f'{where}: {_shown(time)} in "times" is no number')
    return [items[index] for index in sorted(range(len(items)), key=times.__getitem__)]


def _shown(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def read_item_list(path: str | None, vocabulary: Ids) -> Ids | None:
    """The ids of a text file of one a line, blank lines ignored; None without a file.

    Raises:
      UserError: naming the file, if it cannot be read or is no UTF-8 text.
    """
    if path is None:
        return None
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; give one item id a line") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; check the path") from None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if not is_text(vocabulary):
        lines = [line.strip() for line in lines]
    return ids_like(vocabulary, [line for line in lines if line.strip()])


class UserColumn:
    """Turns the users of given histories into ids of one kind, that of the first."""

    def __init__(self):
        self.text: bool | None = None

    def add(self, where: str, user: int | str) -> int | str:
        """The user as the column has it.

        Raises:
          UserError: naming the place, if it does not fit the kind of the first, or is no id.
        """
        if self.text is None:
            self.text = isinstance(user, str)
        if self.text:
            if isinstance(user, int):
                user = str(user)
            if not is_text_id(user):
                raise UserError(f"{where}: {user[:_SHOWN]!r} is no user id")
            return user
        number = as_integer(user)
        if number < 0:
            raise UserError(
                f"{where}: user {_shown(user)} is no integer from 0 to {LARGEST_ID}, as the first "
                "user is; write all of them as strings, or all as integers"
            )
        return number
