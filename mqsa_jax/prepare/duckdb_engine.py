"""The embedded engine: DuckDB in a file of its own, within a limit of memory."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from mqsa_jax.errors import UserError
from mqsa_jax.prepare.columns import Columns
from mqsa_jax.prepare.engine import Engine
from mqsa_jax.prepare.input_files import SEPARATORS, InputFiles, is_remote
from mqsa_jax.prepare.text_batches import LINE, delimited_batches, line_batches

MEMORY = "1800MB"
"""That DuckDB itself may use; beyond it, it works on disk."""
_BATCH_ROWS = 1 << 20
_FILE = "__file_of_row"
"""Column that gets the path of a row's file: a name that no log has."""


class DuckDBEngine(Engine):
    """DuckDB on all cores of this machine."""

    name = "duckdb"

    def __init__(self, folder: Path | None = None):
        """Works below `folder`, which needs about the room of the log; None: the system's."""
        self._folder = Path(tempfile.mkdtemp(prefix=".duckdb-", dir=folder))
        self._streams = 0
        self._stream_error: UserError | None = None
        self._reading = "DuckDB"
        with self._told():
            self._connection = ibis.duckdb.connect(
                self._folder / "work.duckdb",
                memory_limit=MEMORY,
                temp_directory=str(self._folder / "spill"),
                preserve_insertion_order=False,
            )

    def close(self) -> None:
        """Closes the database and deletes its file."""
        self._connection.disconnect()
        shutil.rmtree(self._folder, ignore_errors=True)

    def read(self, files: InputFiles, columns: Columns) -> ir.Table:
        """See `Engine.read`."""
        wanted = columns.present()
        others = f" and {len(files.paths) - 1} others" if len(files.paths) > 1 else ""
        self._reading = f"{files.paths[0]}{others}: cannot be read"
        if remote := [path for path in files.paths if is_remote(path)]:
            raise UserError(f"{remote[0]}: DuckDB reads local files; use the engine spark")
        if files.format == "parquet":
            return self._read_parquet(files, wanted)
        if files.format == "json":
            return self._stream(line_batches(files), _json_query(files, wanted, columns.lists))
        if files.format == "dat":
            return self._stream(line_batches(files), _split_query(files, wanted))
        return self._stream(delimited_batches(files, wanted), "SELECT * FROM {}")

    def _stream(self, reader: pa.RecordBatchReader, query: str) -> ir.Table:
        """A query over Arrow batches, which can be computed once."""
        self._streams += 1
        stream = f"stream_{self._streams}"
        self._connection.con.register(stream, self._watched(reader))
        return self._view(query.format(stream))

    def _view(self, query: str) -> ir.Table:
        view = f"rows_{self._streams}"
        with self._told():
            self._connection.raw_sql(f"CREATE TEMP VIEW {view} AS {query}")
            return self._connection.table(view)

    def _watched(self, reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
        """The same batches; an error on the way is remembered, as DuckDB would make it its own."""

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                yield from reader
            except UserError as error:
                self._stream_error = error
                raise

        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turns what DuckDB raises into a UserError of one line."""
        try:
            yield
        except duckdb.Error as error:
            reason = str(error).strip().splitlines()[0]
            if isinstance(error, duckdb.IOException) or "No space left" in reason:
                raise UserError(f"{self._folder.parent}: {reason}") from None
            raise self._stream_error or UserError(f"{self._reading}: {reason}") from None

    def _read_parquet(self, files: InputFiles, wanted: dict[str, str]) -> ir.Table:
        paths = ", ".join(map(_quoted_text, files.paths))
        patterns = ", ".join(_quoted_text(_literal(path)) for path in files.paths)
        columns = ", ".join(f"{_quoted(name)} AS {role}" for role, name in wanted.items())
        self._streams += 1
        return self._view(
            f"SELECT (list_position([{paths}], {_FILE}) - 1)::INTEGER AS file, "
            f"file_row_number + 1 AS row, NULL::VARCHAR AS problem, {columns} "
            f"FROM read_parquet([{patterns}], filename = '{_FILE}', file_row_number = true)"
        )

    def keep(self, name: str, table: ir.Table) -> ir.Table:
        """See `Engine.keep`."""
        with self._told():
            kept = self._connection.create_table(name, table, overwrite=True)
        self._reading = "DuckDB"
        return kept

    def drop(self, name: str) -> None:
        """See `Engine.drop`."""
        with self._told():
            self._connection.drop_table(name, force=True)

    def values(self, table: ir.Table) -> pa.Table:
        """See `Engine.values`."""
        with self._told():
            return self._connection.to_pyarrow(table)

    def sorted_events(
        self, coded: ir.Table, users: np.ndarray, counts: np.ndarray
    ) -> Iterator[pa.RecordBatch]:
        """See `Engine.sorted_events`."""
        ordered = coded.order_by("user", "time", "item").select("user", "item", "time")
        # Not by Ibis, whose way to do it DuckDB has deprecated.
        with self._told():
            result = self._connection.con.execute(self._connection.compile(ordered))
            yield from result.to_arrow_reader(_BATCH_ROWS)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _literal(path: str) -> str:
    """A pattern that stands for a path alone, whatever it holds."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def _braced(text: str) -> str:
    """Text that `str.format` leaves as it is."""
    return text.replace("{", "{{").replace("}", "}}")


def _json_query(files: InputFiles, wanted: dict[str, str], lists: bool) -> str:
    """The wanted values of a JSON object a line; a bad line is a row with its problem."""
    fields, problems = [], []
    for role, name in wanted.items():
        path = _quoted_text('$."' + name.replace('"', '\\"') + '"')
        kind = f"json_type({LINE}::JSON, {path})"
        if lists and role != "user":
            text = f"({LINE}::JSON ->> {path})"
            fields.append(f"CASE WHEN {kind} = 'ARRAY' THEN {text}::JSON::VARCHAR[] END AS {role}")
            problems.append(f"WHEN {kind} IS DISTINCT FROM 'ARRAY' THEN 'no list of {role}s'")
        else:
            value = f"{LINE}::JSON ->> {path}"
            fields.append(f"{value} AS {role}")
            problems.append(
                f"WHEN {kind} IN ('ARRAY', 'OBJECT', 'BOOLEAN') THEN '{role} is no scalar'"
            )
            if role in ("user", "item"):
                text = isinstance(files.example[name], str)
                odd = f"<> 'VARCHAR' AND {kind} <> 'NULL'" if text else "= 'VARCHAR'"
                told = "string" if text else "number"
                problems.append(
                    f"WHEN {kind} {odd} THEN '{role} is no {told}, unlike the first row''s' "
                    f"WHEN contains({value}, chr(0)) THEN '{role} holds a NUL'"
                )
    cases = _braced(" ".join(problems))
    return (
        f"SELECT file, row, coalesce(problem, CASE {cases} END) AS problem, "
        f"{_braced(', '.join(fields))} FROM (SELECT file, row, "
        "CASE WHEN problem IS NULL AND NOT json_valid(line) THEN 'no JSON' ELSE problem END "
        "AS problem, CASE WHEN json_valid(line) THEN line ELSE '{{}}' END AS line FROM {})"
    )


def _split_query(files: InputFiles, wanted: dict[str, str]) -> str:
    """The wanted parts of lines split at a separator of several characters."""
    width = len(files.names)
    parts = ", ".join(
        f"parts[{files.names.index(name) + 1}] AS {role}" for role, name in wanted.items()
    )
    return (
        f"SELECT file, row, CASE WHEN problem IS NULL AND len(parts) <> {width} "
        f"THEN len(parts) || ' columns instead of {width}' ELSE problem END AS problem, {parts} "
        f"FROM (SELECT *, string_split({LINE}, '{SEPARATORS['dat']}') AS parts FROM {{}})"
    )
