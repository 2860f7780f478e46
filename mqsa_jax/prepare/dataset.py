"""From a raw log to a prepared data set, step by step, each with its counts.

Events of one user at the same time are ordered by item id. Codes are numbers of ids among all ids
of the log; indices, in the end, among those that are left.
"""

import dataclasses
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from mqsa_jax.errors import FolderError, SettingError, UserError
from mqsa_jax.prepare import events
from mqsa_jax.prepare.columns import Columns, choose_columns
from mqsa_jax.prepare.engine import Engine
from mqsa_jax.prepare.folder_writer import HistoryWriter, write_manifest, write_vocabularies
from mqsa_jax.prepare.input_files import InputFiles, find_input_files, is_remote
from mqsa_jax.prepare.options import PrepareOptions, cut_of, shown_time
from mqsa_jax.prepare.text_batches import line_number

Say = Callable[[str], None]
SHOWN_ROWS = 10
"""Malformed rows that are shown."""
MANY_TIES = 0.2
"""Share of the events at the same time as another of the user, beyond which there is a warning."""


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


class Preparation:
    """The steps on one engine; `steps` and `split` are what the manifest says of them."""

    def __init__(self, engine: Engine, options: PrepareOptions, say: Say):
        self._engine, self._options, self._say = engine, options, say
        self.steps: list[dict[str, Any]] = []
        self.split: dict[str, Any] = {"kind": options.split}

    def _tell(self, step: str, **counts: int) -> None:
        self.steps.append({"step": step, **counts})
        self._say(f"{step}: {', '.join(f'{n:,} {name}' for name, n in counts.items())}")

    def run(self, files: InputFiles, columns: Columns, folder: Path) -> dict[str, Any]:
        """Writes all files but the manifest; returns what the manifest says of the data."""
        rows = self._engine.read(files, columns)
        rows = events.parsed(events.flattened(rows) if columns.lists else rows)
        rows = self._engine.keep("rows_parsed", rows)
        coded = self._coded(rows, self._unit(rows, files), files, columns)
        held = self._split_by_time(coded) if self._options.split == "time" else self._whole(coded)
        return self._write(coded, held, folder)

    def _unit(self, rows: ir.Table, files: InputFiles) -> str:
        """Drops or refuses malformed rows; the unit of the times."""
        counts = self._engine.row(
            rows,
            rows=rows.count(),
            malformed=rows.problem.notnull().sum(),
            **events.unit_counts(rows),
        )
        total, malformed = counts.pop("rows"), counts.pop("malformed") or 0
        self._tell("read", rows=total)
        if not total:
            raise UserError(f"{files.paths[0]}: no rows in it")
        if malformed:
            shown = self._malformed(rows, files)
            if self._options.strict or malformed == total:
                raise UserError(
                    f"{malformed:,} of {total:,} rows are malformed; the first: {shown[0]}"
                )
            self._tell("malformed rows dropped", rows=malformed)
            for line in shown:
                self._say(f"  {line}")
        seen = {name: count or 0 for name, count in counts.items()}
        return events.chosen_unit(seen, self._options.time_unit)

    def _malformed(self, rows: ir.Table, files: InputFiles) -> list[str]:
        bad = rows.filter(rows.problem.notnull()).order_by("file", "row").limit(SHOWN_ROWS)
        shown = []
        for row in self._engine.values(bad.select("file", "row", "problem")).to_pylist():
            where = ""
            if row["row"] is not None:
                path = files.paths[row["file"]]
                text = files.format != "parquet"
                number = line_number(path, files, row["row"]) if text else row["row"]
                where = f"{path}:{number}: " if text else f"{path}, row {number}: "
            shown.append(f"{where}{row['problem']}")
        return shown

    def _coded(self, rows: ir.Table, unit: str, files: InputFiles, columns: Columns) -> Coded:
        """The events of a sufficient rating, once each, with codes in place of ids."""
        whole = events.events(rows, unit, self._options.min_rating)
        vocabularies, integers = {}, {}
        for role in ("user", "item"):
            ids = whole.select(id=whole[role]).distinct()
            ids = self._engine.keep(f"{role}_ids", ids)
            check = self._engine.row(
                ids,
                count=ids.count(),
                integers=events.are_integers(ids),
                longest=ids.id.length().max(),
                nul=ids.id.re_search(events.NUL).any(),
            )
            if not check["count"]:
                raise UserError(f"no event has a rating of {self._options.min_rating:g} or more")
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
            vocabularies[role] = self._engine.keep(f"{role}_codes", numbered)
            self._engine.drop(f"{role}_ids")
        coded = events.coded(whole, vocabularies["user"], vocabularies["item"])
        if self._options.min_rating is not None:
            self._tell(
                f"rating {self._options.min_rating:g} or more",
                events=self._engine.row(whole, n=whole.count())["n"],
            )
        coded = events.without_duplicates(coded, self._options.keep_repeats)
        coded = self._engine.keep("coded", coded)
        self._engine.drop("rows_parsed")
        self._tell(
            "without exact duplicates" if self._options.keep_repeats else "without repeats",
            events=self._engine.row(coded, n=coded.count())["n"],
        )
        return Coded(coded, vocabularies["user"], vocabularies["item"], integers)

    def _core(self, coded: ir.Table) -> ir.Table:
        """The events of users and items that all occur often enough: rounds until none is left."""
        least = self._options.min_user, self._options.min_item
        count = self._engine.row(coded, n=coded.count())["n"]
        if least == (1, 1):
            return coded
        initial, rounds = count, []
        for turn in range(2**30):
            name = f"core_{turn % 2}"
            coded = self._engine.keep(name, events.core_round(coded, *least))
            self._engine.drop(f"core_{(turn + 1) % 2}")
            before, count = count, self._engine.row(coded, n=coded.count())["n"]
            rounds.append(count)
            self._tell(f"core of {least[0]} a user, {least[1]} an item", events=count)
            if not count:
                raise SettingError(
                    f"nothing is left with {{min_user}} {least[0]} and {{min_item}} {least[1]}: "
                    f"{initial:,} events, and then {', '.join(f'{n:,}' for n in rounds)} after "
                    "the rounds; lower them"
                )
            if count == before:
                break
        return coded

    def _whole(self, coded: Coded) -> Held:
        core = self._core(coded.events)
        return Held(core, self._codes(core, "user")[0], self._codes(core, "item")[0], [])

    def _codes(self, table: ir.Table, role: str) -> tuple[np.ndarray, np.ndarray]:
        """Codes that occur, ascending, and how often each does."""
        counted = self._engine.values(table.group_by(role).agg(n=table.count()))
        codes, counts = (counted.column(name).to_numpy() for name in (role, "n"))
        order = np.argsort(codes)
        return codes[order], counts[order]

    def _split_by_time(self, coded: Coded) -> Held:
        """The core of what is before the validation cut, and its users' and items' later events."""
        cuts = [
            self._cut(coded.events, name, getattr(self._options, name))
            for name in ("valid_from", "test_from")
        ]
        if cuts[0] >= cuts[1]:
            raise SettingError(
                f"{{valid_from}} {shown_time(cuts[0])} is not before {{test_from}} "
                f"{shown_time(cuts[1])}"
            )
        table = coded.events
        early, late = (table.filter(side) for side in (table.time < cuts[0], table.time >= cuts[0]))
        if not self._engine.row(early, n=early.count())["n"]:
            raise SettingError(f"no event is before {{valid_from}} {shown_time(cuts[0])}")
        self._tell("before the validation", events=self._engine.row(early, n=early.count())["n"])
        core = self._core(early)
        users, items = self._codes(core, "user")[0], self._codes(core, "item")[0]
        known_users = core.select("user").distinct()
        warm = late.semi_join(known_users, "user")
        kept = warm.semi_join(core.select("item").distinct(), "item")
        counts = {
            "late": late.count(),
            "late_users": late.user.nunique(),
            "warm": warm.count(),
            "warm_users": warm.user.nunique(),
            "kept": kept.count(),
        }
        found = {
            name: self._engine.values(value.name("n").as_table()).to_pylist()[0]["n"]
            for name, value in counts.items()
        }
        self._tell("after it", events=found["late"], users=found["late_users"])
        self._tell(
            "left out after it",
            cold_users=found["late_users"] - found["warm_users"],
            events_of_unknown_items=found["warm"] - found["kept"],
        )
        self.split |= {
            "valid_from": shown_time(cuts[0]),
            "test_from": shown_time(cuts[1]),
            "cold_users": found["late_users"] - found["warm_users"],
            "unknown_item_events": found["warm"] - found["kept"],
        }
        return Held(self._engine.keep("held", core.union(kept)), users, items, cuts)

    def _cut(self, table: ir.Table, name: str, text: str) -> int:
        """A cut in microseconds; of a quantile, the time of an event."""
        cut = cut_of(name, text)
        if isinstance(cut, int):
            return cut
        quantile = self._engine.row(table, q=table.time.quantile(cut))["q"]
        late = table.filter(table.time >= math.floor(quantile))
        return self._engine.row(late, first=late.time.min())["first"]

    def _write(self, coded: Coded, held: Held, folder: Path) -> dict[str, Any]:
        """Writes histories and vocabularies."""
        user_codes, counts = self._codes(held.events, "user")
        writer = HistoryWriter(folder, held.users, held.items, held.cuts)
        total, done, shown = int(counts.sum()), 0, 0
        for batch in self._engine.sorted_events(held.events, user_codes, counts):
            writer.add(batch)
            done += len(batch)
            if done * 4 // total > shown:
                shown = done * 4 // total
                self._say(f"written: {done:,} of {total:,} events")
        writer.close()
        write_vocabularies(
            folder,
            self._ids(coded.users, held.users, coded.integers["user"]),
            self._ids(coded.items, held.items, coded.integers["item"]),
            writer.counts,
        )
        if held.cuts:
            self.split |= {f"{name}_users": count for name, count in writer.targets.items()}
        return {
            "users": len(held.users),
            "items": len(held.items),
            "interactions": writer.interactions,
            "ties": writer.ties,
            "split": self.split,
            "steps": self.steps,
        }

    def _ids(self, vocabulary: ir.Table, codes: np.ndarray, integers: bool) -> pa.Array:
        """The ids of ascending codes."""
        ids = self._engine.values(vocabulary.order_by("code").select("id")).column("id")
        chosen = ids.take(pa.array(codes)).combine_chunks()
        return chosen.cast(pa.int64()) if integers else chosen.cast(pa.string())


def _typed_as_text(files: InputFiles, column: str) -> bool:
    """Whether a format with types says that a column holds strings, which are kept as such."""
    value = files.example.get(column)
    if files.format == "json":
        value = next(iter(value), "") if isinstance(value, list) else value
        return isinstance(value, str)
    return files.format == "parquet" and "string" in str(value)


def prepare(
    inputs: Sequence[str],
    output: Path,
    options: PrepareOptions,
    make_engine: Callable[[Path], Engine],
    *,
    overwrite: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Prepares a raw log as a folder; returns its manifest.

    Args:
      inputs: files, folders or glob patterns.
      output: the folder; it appears when it is whole.
      options: columns, filters, split.
      make_engine: makes an engine that may work below a folder.
      overwrite: replaces a folder that is there.
      say: takes the lines of the progress.

    Raises:
      UserError: naming what is wrong with the log, the options or the folder.
    """
    options.validate()
    names = [name.strip() for name in (options.columns or "").split(",") if name.strip()]
    files = find_input_files(inputs, names)
    chosen = {
        role: getattr(options, f"{role}_column") for role in ("user", "item", "time", "rating")
    }
    columns = choose_columns(files, chosen, options.min_rating is not None)
    if output.exists() and not overwrite and (not output.is_dir() or any(output.iterdir())):
        raise FolderError(f"{output}: is there already")
    say(f"{len(files.paths)} file(s) of format {files.format}: {columns.described()}")
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        with make_engine(folder) as engine:
            work = Preparation(engine, options, say)
            content = {"engine": engine.name, **work.run(files, columns, folder)}
        settings = {
            name: value
            for name, value in dataclasses.asdict(options).items()
            if options.split == "time" or name not in ("valid_from", "test_from")
        }
        inputs_shown = [path if is_remote(path) else Path(path).name for path in files.paths]
        content |= {"inputs": inputs_shown, "options": settings}
        manifest = write_manifest(folder, content)
        _replace(output, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    share = manifest["ties"] / manifest["interactions"]
    say(f"at the same time as another of the user: {manifest['ties']:,} events ({share:.1%})")
    if share > MANY_TIES:
        say(
            "warning: more than a fifth of the events have no order of their own; they are "
            "ordered by item id, and what such data say of sequences is limited"
        )
    return manifest


def _replace(output: Path, folder: Path) -> None:
    """Puts a whole folder in its place."""
    folder.chmod(0o755)
    if output.is_dir() and any(output.iterdir()):
        old = Path(tempfile.mkdtemp(prefix=f".{output.name}-old-", dir=output.parent))
        output.rename(old / output.name)
        folder.rename(output)
        shutil.rmtree(old)
    else:
        folder.rename(output)
