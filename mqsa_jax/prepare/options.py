"""How a raw log becomes a data set. Plain values: nothing heavy is imported for `--help`."""

import dataclasses
import datetime
import math
from typing import Literal

from mqsa_jax.errors import SettingError


@dataclasses.dataclass(frozen=True)
class PrepareOptions:
    """Columns, filters and split."""

    user_column: str | None = None
    """Column of the users' ids (default: a known name)."""
    item_column: str | None = None
    """Column of the items' ids (default: a known name)."""
    time_column: str | None = None
    """Column of the times: seconds, milliseconds or microseconds since 1970, or ISO 8601
    (default: a known name)."""
    rating_column: str | None = None
    """Column of the ratings, for --min-rating (default: a known name)."""
    columns: str | None = None
    """Names of all columns, with commas between, of delimited files without a header."""
    time_unit: Literal["auto", "s", "ms", "us"] = "auto"
    """Unit of times that are numbers (default: by their size)."""
    strict: bool = False
    """Refuses a log with malformed rows; otherwise they are dropped and counted."""
    min_rating: float | None = None
    """Drops events of a lower rating."""
    keep_repeats: bool = True
    """Keeps an item each time that a user consumes it; --no-keep-repeats: the first time alone."""
    min_user: int = 5
    """Drops users with fewer events, and items likewise, until none is left to drop."""
    min_item: int = 5
    """Fewest events of an item."""
    split: Literal["leave-one-out", "time"] = "leave-one-out"
    """What is held out: the last two items of each user, or what comes after two dates."""
    valid_from: str = "0.8"
    """With --split time: date (UTC) from which on items validate, or a quantile of all times."""
    test_from: str = "0.9"
    """With --split time: date (UTC) from which on items test, or a quantile of all times."""

    def validate(self) -> None:
        """Raises SettingError naming the option that is out of range."""
        for name in ("min_user", "min_item"):
            if getattr(self, name) < 1:
                raise SettingError(f"{{{name}}} must be at least 1, got {getattr(self, name)}")
        if self.min_rating is not None and not math.isfinite(self.min_rating):
            raise SettingError(f"{{min_rating}} must be a number, got {self.min_rating}")
        if self.rating_column is not None and self.min_rating is None:
            raise SettingError("{rating_column} is of use with {min_rating} alone")
        if self.split == "leave-one-out":
            for name in ("valid_from", "test_from"):
                if getattr(self, name) != getattr(PrepareOptions, name):
                    raise SettingError(f"{{{name}}} is of use with {{split}} time alone")
        early, late = (cut_of(name, getattr(self, name)) for name in ("valid_from", "test_from"))
        if isinstance(early, float) == isinstance(late, float) and early >= late:
            raise SettingError(
                f"{{valid_from}} {self.valid_from} must be before {{test_from}} {self.test_from}"
            )


def cut_of(name: str, text: str) -> float | int:
    """A cut as a quantile between 0 and 1 (float), or in microseconds since 1970 (int).

    Raises:
      SettingError: if it is neither.

    >>> cut_of("test_from", "0.9"), cut_of("test_from", "1970-01-02")
    (0.9, 86400000000)
    """
    try:
        quantile = float(text)
    except ValueError:
        quantile = None
    if quantile is not None and 0 < quantile < 1:
        return quantile
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise SettingError(
            f"{{{name}}} must be a date (2023-01-31, with a time perhaps) or a quantile between 0 "
            f"and 1, got {text!r}"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - datetime.datetime.fromtimestamp(0, datetime.UTC)) // datetime.timedelta(
        microseconds=1
    )


def shown_time(microseconds: int) -> str:
    """A time as ISO 8601, or as the number where no date is so far off.

    >>> shown_time(86400000000)
    '1970-01-02T00:00:00+00:00'
    """
    try:
        epoch = datetime.datetime.fromtimestamp(0, datetime.UTC)
        return (epoch + datetime.timedelta(microseconds=microseconds)).isoformat()
    except OverflowError:
        return str(microseconds)
