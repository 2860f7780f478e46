"""The steps from rows to events that are kept, each with its counts.

Codes are numbers of ids among all ids of the log; indices, in the end, among those that are left.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import ibis.expr.types as ir
import numpy as np

from mqsa_jax.errors import SettingError, UserError
from mqsa_jax.prepare import events
from mqsa_jax.prepare.columns import Columns
from mqsa_jax.prepare.engine import Engine
from mqsa_jax.prepare.input_files import InputFiles
from mqsa_jax.prepare.options import PrepareOptions
from mqsa_jax.prepare.text_batches import line_number

Say = Callable[[str], None]
SHOWN_ROWS = 10
"""Malformed rows that are shown."""


@dataclasses.dataclass(frozen=True)
class Coded:
    """Events with codes, and the ids that the codes stand for."""

    events: ir.Table
    """`user`, `item` (codes), `time` (microseconds)."""
    users: ir.Table
    """`id`, `code`."""
    items: ir.Table
    """`id`, `code`."""
    integers: dict[str, bool]
    """Whether the ids of users and of items are integers."""


@dataclasses.dataclass(frozen=True)
class Held:
    """Events that are kept, and how they are split."""

    events: ir.Table
    users: np.ndarray
    """Codes of the users, ascending."""
    items: np.ndarray
    """Codes of the items, ascending."""
    cuts: list[int]
    """Microseconds of the validation and the test cut; empty for leave-one-out."""


class Steps:
    """The steps on one engine; `done` is what the manifest says of them."""

    def __init__(self, engine: Engine, options: PrepareOptions, say: Say):
        self.engine, self.options, self._say = engine, options, say
        self.done: list[dict[str, Any]] = []

    def tell(self, step: str, **counts: int) -> None:
        """Keeps and says what a step has come to."""
        self.done.append({"step": step, **counts})
        self._say(f"{step}: {', '.join(f'{n:,} {name}' for name, n in counts.items())}")

    def unit(self, rows: ir.Table, files: InputFiles) -> str:
        """Drops or refuses malformed rows; the unit of the times."""
        counts = self.engine.row(
            rows,
            rows=rows.count(),
            malformed=rows.problem.notnull().sum(),
            **events.unit_counts(rows),
        )
        total, malformed = counts.pop("rows"), counts.pop("malformed") or 0
        self.tell("read", rows=total)
        if not total:
            raise UserError(f"{files.paths[0]}: no rows in it")
        if malformed:
            shown = self._malformed(rows, files)
            if self.options.strict or malformed == total:
                raise UserError(
                    f"{malformed:,} of {total:,} rows are malformed; the first: {shown[0]}"
                )
            self.tell("malformed rows dropped", rows=malformed)
            for line in shown:
                self._say(f"  {line}")
        seen = {name: count or 0 for name, count in counts.items()}
        return events.chosen_unit(seen, self.options.time_unit)

    def _malformed(self, rows: ir.Table, files: InputFiles) -> list[str]:
        bad = rows.filter(rows.problem.notnull()).order_by("file", "row").limit(SHOWN_ROWS)
        shown = []
        for row in self.engine.values(bad.select("file", "row", "problem")).to_pylist():
            where = ""
            if row["row"] is not None:
                path = files.paths[row["file"]]
                text = files.format != "parquet"
                number = line_number(path, files, row["row"]) if text else row["row"]
                where = f"{path}:{number}: " if text else f"{path}, row {number}: "
            shown.append(f"{where}{row['problem']}")
        return shown

    def coded(self, rows: ir.Table, unit: str, files: InputFiles, columns: Columns) -> Coded:
        """The events of a sufficient rating, once each, with codes in place of ids."""
        whole = events.events(rows, unit, self.options.min_rating)
        vocabularies, integers = {}, {}
        for role in ("user", "item"):
            ids = whole.select(id=whole[role]).distinct()
            ids = self.engine.keep(f"{role}_ids", ids)
            check = self.engine.row(
                ids,
                count=ids.count(),
                integers=events.are_integers(ids),
                longest=ids.id.length().max(),
                nul=ids.id.re_search(events.NUL).any(),
            )
            if not check["count"]:
                raise UserError(f"no event has a rating of {self.options.min_rating:g} or more")
            if check["longest"] > events.LONGEST_ID:
                raise UserError(
                    f"an id of column {getattr(columns, role)!r} has {check['longest']:,} "
                    f"characters, more than {events.LONGEST_ID:,}: is it another column?"
                )
            if check["nul"]:
                raise UserError(f"an id of column {getattr(columns, role)!r} holds a NUL character")
            integers[role] = bool(check["integers"]) and not _typed_as_text(
                files, getattr(columns, role)
            )
            numbered = events.numbered(ids, integers[role])
            vocabularies[role] = self.engine.keep(f"{role}_codes", numbered)
            self.engine.drop(f"{role}_ids")
        coded = events.coded(whole, vocabularies["user"], vocabularies["item"])
        if self.options.min_rating is not None:
            self.tell(
                f"rating {self.options.min_rating:g} or more",
                events=self.engine.row(whole, n=whole.count())["n"],
            )
        coded = events.without_duplicates(coded, self.options.keep_repeats)
        coded = self.engine.keep("coded", coded)
        self.engine.drop("rows_parsed")
        self.tell(
            "without exact duplicates" if self.options.keep_repeats else "without repeats",
            events=self.engine.row(coded, n=coded.count())["n"],
        )
        return Coded(coded, vocabularies["user"], vocabularies["item"], integers)

    def core(self, coded: ir.Table) -> ir.Table:
        """The events of users and items that all occur often enough: rounds until none is left."""
        least = self.options.min_user, self.options.min_item
        count = self.engine.row(coded, n=coded.count())["n"]
        if least == (1, 1):
            return coded
        initial, rounds = count, []
        for turn in range(2**30):
            name = f"core_{turn % 2}"
            coded = self.engine.keep(name, events.core_round(coded, *least))
            self.engine.drop(f"core_{(turn + 1) % 2}")
            before, count = count, self.engine.row(coded, n=coded.count())["n"]
            rounds.append(count)
            self.tell(f"core of {least[0]} a user, {least[1]} an item", events=count)
            if not count:
                raise SettingError(
                    f"nothing is left with {{min_user}} {least[0]} and {{min_item}} {least[1]}: "
                    f"{initial:,} events, and then {', '.join(f'{n:,}' for n in rounds)} after "
                    "the rounds; lower them"
                )
            if count == before:
                break
        return coded

    def codes(self, table: ir.Table, role: str) -> tuple[np.ndarray, np.ndarray]:
        """Codes that occur, ascending, and how often each does."""
        counted = self.engine.values(table.group_by(role).agg(n=table.count()))
        codes, counts = (counted.column(name).to_numpy() for name in (role, "n"))
        order = np.argsort(codes)
        return codes[order], counts[order]


def _typed_as_text(files: InputFiles, column: str) -> bool:
    """Whether a format with types says that a column holds strings, which are kept as such."""
    value = files.example.get(column)
    if files.format == "json":
        value = next(iter(value), "") if isinstance(value, list) else value
        return isinstance(value, str)
    return files.format == "parquet" and "string" in str(value)
