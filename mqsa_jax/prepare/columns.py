"""Which columns of a log hold users, items, times and ratings."""

import dataclasses
from collections.abc import Sequence

from mqsa_jax.errors import SettingError, UserError
from mqsa_jax.prepare.input_files import InputFiles

KNOWN = {
    "user": (
        "user_id user userid uid reviewerid reviewer_id visitorid customer_id customerid "
        "member_id session_id sessionid"
    ),
    "item": (
        "item_id items item itemid iid parent_asin asin movieid movie_id business_id product_id "
        "productid track_id song_id book_id video_id article_id"
    ),
    "time": (
        "timestamp timestamps times time datetime ts unixreviewtime date event_time eventtime "
        "created_at review_date"
    ),
    "rating": "rating ratings overall stars score weight",
}
"""Names by which columns are guessed, the likeliest first; case, `_` and `-` do not count."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """Names of the columns; None: there is none."""

    user: str
    item: str
    time: str | None
    rating: str | None
    lists: bool
    """Whether a row holds a user's whole history, as lists."""

    def described(self) -> str:
        """`user user_id, item asin, …`, for the log."""
        named = dataclasses.asdict(self)
        lists = named.pop("lists")
        text = ", ".join(f"{role} {name}" for role, name in named.items() if name is not None)
        return f"{text} (lists)" if lists else text

    def present(self) -> dict[str, str]:
        """Name of each column that there is, by role."""
        roles = ("user", "item", "time", "rating")
        return {role: getattr(self, role) for role in roles if getattr(self, role) is not None}


def choose_columns(files: InputFiles, chosen: dict[str, str | None], needs_rating: bool) -> Columns:
    """The columns that the user names, and guesses for the others.

    Args:
      files: of the log.
      chosen: name by role, or None to guess it.
      needs_rating: whether ratings matter.

    Raises:
      UserError: naming the columns that there are, if one is missing or of no use.
    """
    names = {role: _chosen(files, role, chosen.get(role)) for role in KNOWN}
    for role in ("user", "item"):
        if names[role] is None:
            raise _missing(files, role)
    _check_distinct(names)
    lists = [role for role, name in names.items() if name and is_list(files, name)]
    if "user" in lists:
        raise UserError(f"column {names['user']!r} holds lists, a user's id must be a scalar")
    if names["time"] is None and "item" not in lists:
        raise _missing(files, "time")
    if names["time"] is not None and ("time" in lists) != ("item" in lists):
        odd = "item" if "item" in lists else "time"
        raise UserError(
            f"column {names[odd]!r} holds lists and the other of item and time does not; "
            "both must, or neither"
        )
    if not needs_rating:
        names["rating"] = None
    elif names["rating"] is None:
        raise _missing(files, "rating")
    elif ("rating" in lists) != ("item" in lists):
        raise UserError(f"column {names['rating']!r} must hold lists where items do, and only then")
    return Columns(**names, lists="item" in lists)


def _check_distinct(names: dict[str, str | None]) -> None:
    """Raises SettingError if a column has two roles."""
    role_of: dict[str, str] = {}
    for role, name in names.items():
        if name is not None and role_of.setdefault(name, role) != role:
            raise SettingError(
                f"{{{role_of[name]}_column}} and {{{role}_column}} are both {name!r}; name two"
            )


def is_list(files: InputFiles, name: str) -> bool:
    """Whether a column holds a list in each row."""
    value = files.example.get(name)
    if files.format == "json":
        return isinstance(value, list)
    return files.format == "parquet" and str(value).startswith(("list", "large_list", "fixed_size"))


def _chosen(files: InputFiles, role: str, name: str | None) -> str | None:
    if name is not None:
        if name not in files.names:
            raise SettingError(
                f"{{{role}_column}} {name!r} is no column of {files.paths[0]}, which has: "
                f"{_shown(files.names)}"
            )
        return name
    return guessed_column(files.names, role)


def guessed_column(names: Sequence[str], role: str) -> str | None:
    """The column that looks likeliest to be of a role, one of `KNOWN`; None if none does."""
    plain = {_plain(column): column for column in reversed(names)}
    found = (plain[_plain(known)] for known in KNOWN[role].split() if _plain(known) in plain)
    return next(found, None)


def _missing(files: InputFiles, role: str) -> SettingError:
    return SettingError(
        f"{files.paths[0]}: no column looks like the {role}'s among: {_shown(files.names)}; "
        f"name it with {{{role}_column}}"
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").strip()


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:20])) + (", …" if len(names) > 20 else "")
