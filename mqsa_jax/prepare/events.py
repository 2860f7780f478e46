"""Ibis expressions from the rows of a log to events: user, item, time.

Times are int64 microseconds since 1970 (UTC). An id is kept as its text, whatever its type.
"""

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
from ibis import _

from mqsa_jax.errors import SettingError, UserError

MICROSECONDS = {"s": 10**6, "ms": 10**3, "us": 1}
"""Microseconds of each unit of time."""
LONGEST_ID = 1000
"""Characters."""
NUL = r"\x00"
_INTEGER = r"^(0|[1-9][0-9]{0,17})$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO = _DATE + r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?$"
_UNIT_FROM = {"s": 1e8, "ms": 1e11, "us": 1e14}
"""Least number that looks like a time in the unit, from 1973 on; smaller ones fit any."""
_LARGEST = 1e17


def flattened(rows: ir.Table) -> ir.Table:
    """An event a row, of rows that hold lists; a list without times is in order already.

    A row whose lists differ in length stays one row, with its problem.
    """
    columns = [name for name in ("item", "time", "rating") if name in rows.columns]
    rows = rows.mutate(length=rows.item.length().fill_null(0))
    for name in columns:
        problem = ibis.cases(
            (rows.problem.notnull(), rows.problem),
            (rows.length == 0, "no items"),
            (rows[name].length().fill_null(0) != rows.length, "lists of different lengths"),
            else_=None,
        )
        rows = rows.mutate(problem=problem)
    whole = rows.filter(rows.problem.isnull())
    whole = whole.mutate(position=ibis.range(0, whole.length).unnest())
    values = {name: whole[name][whole.position] for name in columns}
    if "time" not in columns:
        values["time"] = whole.position.cast("int64")
    fixed = ("file", "row", "problem", "user")
    whole = whole.select(*fixed, **values)
    broken = rows.filter(rows.problem.notnull()).select(
        *fixed, **{name: ibis.null(whole[name].type()) for name in values}
    )
    return whole.union(broken)


def parsed(rows: ir.Table) -> ir.Table:
    """Ids as text, times as numbers or microseconds, and what is wrong with a row.

    Args:
      rows: `file`, `row`, `problem`, `user`, `item`, `time` and perhaps `rating`, of any type.

    Returns:
      `file`, `row`, `problem`, `user`, `item`, `number` (float64, a time in its unit) or `moment`
      (int64, a time in microseconds), and `rating` (float64).

    Raises:
      UserError: if a column is of a type that holds no such thing.
    """
    number, moment = _time_parts(rows.time)
    columns = {"user": _id_text(rows.user), "item": _id_text(rows.item)}
    if "rating" in rows.columns:
        columns["rating"] = _number(rows.rating, "rating")
    rows = rows.select("file", "row", "problem", number=number, moment=moment, **columns)
    problem = ibis.cases(
        (rows.problem.notnull(), rows.problem),
        (rows.user.isnull(), "no user"),
        (rows.item.isnull(), "no item"),
        (rows.number.isnull() & rows.moment.isnull(), "no time that can be read"),
        *([(rows.rating.isnull(), "no rating")] if "rating" in rows.columns else []),
        else_=None,
    )
    return rows.mutate(problem=problem)


def _id_text(value: ir.Value) -> ir.Value:
    """An id as text; null for what is none: blank, or not a number."""
    kind = value.type()
    if kind.is_floating():
        # Beyond 2^53, floats do not tell one integer from the next.
        whole = value.try_cast("int64")
        is_whole = (whole.cast("float64") == value) & (whole.abs() < 2**53)
        return is_whole.ifelse(whole, None).cast("string")
    if kind.is_integer() or (kind.is_decimal() and not kind.scale):
        return value.cast("string")
    if not kind.is_string():
        raise UserError(f"the {value.get_name()} column has the type {kind}, which holds no ids")
    return ibis.cases(
        # Text that is blank begins with a character up to the space: the comparison is cheap.
        (value < "!", (value.strip() == "").ifelse(None, value)),
        (value.isin(["nan", "NaN", "NAN", "Nan"]), None),
        else_=value,
    )


def _number(value: ir.Value, name: str) -> ir.Value:
    """A value as float64; null where it is not a number."""
    kind = value.type()
    if kind.is_string():
        value = value.try_cast("float64")
    elif kind.is_numeric():
        value = value.cast("float64")
    else:
        raise UserError(f"the {name} column has the type {kind}, which holds no numbers")
    return (value.isnan() | value.isinf()).ifelse(None, value)


def _time_parts(value: ir.Value) -> tuple[ir.Value, ir.Value]:
    """A time as a number in its unit, or as microseconds; one of the two is null."""
    kind = value.type()
    if kind.is_timestamp() or kind.is_date():
        return ibis.null(dt.float64), _microseconds(value.cast(dt.Timestamp(timezone=None)))
    number = _number(value, "time")
    number = (number.abs() < _LARGEST).ifelse(number, None)
    if not kind.is_string():
        return number, ibis.null(dt.int64)
    # Taken apart only where it is no number: that takes long.
    return number, number.isnull().ifelse(_iso_microseconds(value), None)


def _microseconds(moment: ir.TimestampValue) -> ir.IntegerValue:
    seconds = moment.truncate("s").epoch_seconds().cast("int64")
    # Ibis has no microseconds of a time on Spark.
    return seconds * MICROSECONDS["s"] + _fraction(moment.cast("string"))


def _fraction(text: ir.StringValue) -> ir.IntegerValue:
    """Microseconds behind the point of a time's text."""
    digits = text.re_extract(r"[.]([0-9]{1,6})", 1)
    return (digits + "000000").substr(0, 6).cast("int64")


def _iso_microseconds(text: ir.StringValue) -> ir.IntegerValue:
    """Microseconds of an ISO 8601 date or time, UTC unless it has an offset.

    Taken apart here, since the engines differ in what their casts understand.
    """
    is_iso = text.re_search(_ISO)
    date = text.substr(0, 10)
    clock = text.re_extract(r"^.{10}[T ]([0-9]{2}:[0-9]{2}(:[0-9]{2})?)", 1)
    clock = ibis.cases(
        (clock.length() == 5, clock + ":00"), (clock.length() == 8, clock), else_="00:00:00"
    )
    seconds = (date + " " + clock).try_cast("timestamp").epoch_seconds().cast("int64")
    offset = text.re_extract(r"^.{11}.*([+-][0-9]{2}:[0-9]{2})$", 1)
    minutes = ibis.cases(
        (
            offset.length() == 6,
            offset.substr(1, 2).cast("int64") * 60 + offset.substr(4, 2).cast("int64"),
        ),
        else_=0,
    )
    sign = (offset.substr(0, 1) == "-").ifelse(1, -1)
    total = (seconds + sign * minutes * 60) * MICROSECONDS["s"] + _fraction(text)
    return is_iso.ifelse(total, None)


def unit_counts(rows: ir.Table) -> dict[str, ir.Scalar]:
    """How many numbers of rows without a problem look like times in each unit."""
    limits = [*_UNIT_FROM.values(), _LARGEST]
    size = rows.problem.isnull().ifelse(rows.number.abs(), 0.0)
    return {
        name: ((size >= low) & (size < high)).sum()
        for name, low, high in zip(_UNIT_FROM, limits, limits[1:], strict=False)
    }


def chosen_unit(counts: dict[str, int], unit: str) -> str:
    """The unit of the numbers: the one asked for, or the one that they all look like.

    Args:
      counts: numbers that look like times in each unit.
      unit: `s`, `ms`, `us` or `auto`.

    Raises:
      SettingError: if the numbers are of two units and none is asked for.
    """
    if unit != "auto":
        return unit
    present = {name: count for name, count in counts.items() if count}
    if len(present) > 1:
        shown = " and ".join(f"{count} in {name}" for name, count in present.items())
        raise SettingError(
            f"times look like {shown}: mend the log, or name the unit with {{time_unit}}"
        )
    return next(iter(present), "s")


def events(rows: ir.Table, unit: str, min_rating: float | None) -> ir.Table:
    """`user`, `item`, `time` of the rows without a problem and with the rating at least."""
    rows = rows.filter(rows.problem.isnull())
    if min_rating is not None:
        rows = rows.filter(rows.rating >= min_rating)
    scaled = (rows.number * MICROSECONDS[unit]).round().cast("int64")
    return rows.select("user", "item", time=ibis.coalesce(rows.moment, scaled))


def without_duplicates(coded: ir.Table, keep_repeats: bool) -> ir.Table:
    """Each event once; without repeats, the first of each user and item."""
    if keep_repeats:
        return coded.distinct()
    return coded.group_by("user", "item").agg(time=coded.time.min())


def are_integers(ids: ir.Table) -> ir.BooleanScalar:
    """Whether the text of every `id` is that of an integer from 0 to 10^18, without more."""
    return ids.id.re_search(_INTEGER).all()


def numbered(ids: ir.Table, integers: bool) -> ir.Table:
    """`id` and `code`, its place among the ids, from 0: by value, or by code point."""
    order = [ids.id.length(), ids.id] if integers else [ids.id]
    return ids.mutate(code=ibis.row_number().over(order_by=order).cast("int32"))


def coded(rows: ir.Table, users: ir.Table, items: ir.Table) -> ir.Table:
    """The events with codes in place of ids."""
    users = users.select(user=users.id, user_code=users.code)
    items = items.select(item=items.id, item_code=items.code)
    joined = rows.join(users, "user").join(items, "item")
    return joined.select(user=joined.user_code, item=joined.item_code, time=joined.time)


def core_round(coded: ir.Table, min_user: int, min_item: int) -> ir.Table:
    """The events of users and items that both occur often enough."""
    users = coded.group_by("user").agg(n=_.count()).filter(_.n >= min_user).select("user")
    items = coded.group_by("item").agg(n=_.count()).filter(_.n >= min_item).select("item")
    return coded.semi_join(users, "user").semi_join(items, "item")
