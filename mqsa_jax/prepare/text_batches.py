"""Text files as Arrow batches of strings, one row a record, none lost without a word.

Each batch has the columns `file` (index of the file), `row` (number of the record from 1, the
header included), `problem` (what is wrong with the record, or null) and strings.
"""

import contextlib
import csv
import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from mqsa_jax.errors import UserError
from mqsa_jax.prepare.input_files import SEPARATORS, InputFiles, open_text, readable

LINE = "line"
"""The one column of `line_batches`."""
_BLOCK_BYTES = 1 << 22
_NO_SEPARATOR = "\x01"
"""Stands in no text; a line that holds it is a bad record."""


def delimited_batches(files: InputFiles, wanted: dict[str, str]) -> pa.RecordBatchReader:
    """The wanted columns of delimited files.

    Args:
      files: of format `csv`, `tsv` or `inter`.
      wanted: name of a column by the name that it gets.

    Raises:
      UserError: on reading, naming a file that is damaged or cut off.
    """
    quote = '"' if files.format == "csv" else False
    separator = SEPARATORS[files.format]
    batches = (
        batch
        for number, path in enumerate(files.paths)
        for batch in _records(path, number, files, separator, quote, wanted)
    )
    return pa.RecordBatchReader.from_batches(_schema(wanted), batches)


def line_batches(files: InputFiles) -> pa.RecordBatchReader:
    """The lines of text files that are not blank, in the column `line`."""
    plain = InputFiles(files.format, files.paths, (LINE,), files.has_header, {})
    wanted = {LINE: LINE}
    batches = (
        batch
        for number, path in enumerate(files.paths)
        for batch in _records(path, number, plain, _NO_SEPARATOR, False, wanted)
    )
    return pa.RecordBatchReader.from_batches(_schema(wanted), batches)


def _schema(wanted: dict[str, str]) -> pa.Schema:
    fixed = [("file", pa.int32()), ("row", pa.int64()), ("problem", pa.string())]
    return pa.schema([*fixed, *((name, pa.string()) for name in wanted)])


class _Rejected:
    """Records whose number of columns is wrong, as the parser reports them."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, str]] = []
        self._given = 0

    def __call__(self, row: pc.InvalidRow) -> str:
        problem = f"{row.actual_columns} columns instead of {row.expected_columns}"
        # A quote that is not closed swallows the lines behind it: each of them is lost.
        problems = [problem] + ["swallowed by an open quote"] * row.text.count("\n")
        self.rows.extend((row.number + line, text) for line, text in enumerate(problems))
        return "skip"

    def numbers(self) -> np.ndarray:
        """Numbers of the records so far."""
        return np.array(sorted({number for number, _ in self.rows}), np.int64)

    def batch(self, file: int, schema: pa.Schema) -> pa.RecordBatch:
        """Rows that hold nothing but the problem."""
        numbers = [number for number, _ in self.rows]
        columns = {
            "file": pa.array([file] * len(numbers), pa.int32()),
            "row": pa.array(numbers, pa.int64()),
            "problem": pa.array([problem for _, problem in self.rows], pa.string()),
        }
        nothing = pa.nulls(len(numbers), pa.string())
        return pa.record_batch([columns.get(name, nothing) for name in schema.names], schema)


def _records(
    path: str,
    number: int,
    files: InputFiles,
    separator: str,
    quote: str | bool,
    wanted: dict[str, str],
) -> Iterator[pa.RecordBatch]:
    """The records of a file, those with a wrong number of columns at the end."""
    schema, rejected = _schema(wanted), _Rejected()
    try:
        with readable(path), _opened(path) as stream:
            reader = _reader(stream, files, separator, quote, wanted, rejected)
            first = 1 + files.has_header
            for batch in reader:
                rows, first = _row_numbers(first, len(batch), rejected.numbers())
                fixed = (
                    pa.array(np.full(len(batch), number, np.int32)),
                    pa.array(rows),
                    pa.nulls(len(batch), pa.string()),
                )
                texts = (_decoded(batch.column(name)) for name in wanted.values())
                yield pa.record_batch([*fixed, *texts], schema)
    except pa.ArrowInvalid as error:
        if files.has_header and _is_header_alone(path, files):
            return
        reason = repr(str(error).splitlines()[0][:120])
        raise UserError(f"{path}: cannot be read as {files.format}: {reason}") from None
    if rejected.rows:
        yield rejected.batch(number, schema)


def _is_header_alone(path: str, files: InputFiles) -> bool:
    """Whether a file ends with its header, which the parser takes for a mistake."""
    with open_text(path) as file:
        records = csv.reader(file) if files.format == "csv" else file
        return len(list(itertools.islice(records, 2))) < 2


def _opened(path: str) -> pa.NativeFile:
    return pa.input_stream(path, compression="gzip" if path.lower().endswith(".gz") else None)


def _reader(
    stream: pa.NativeFile,
    files: InputFiles,
    separator: str,
    quote: str | bool,
    wanted: dict[str, str],
    rejected: _Rejected,
) -> pc.CSVStreamingReader:
    needed = list(dict.fromkeys(wanted.values()))
    return pc.open_csv(
        stream,
        # One thread: with more, the parser does not number bad records.
        pc.ReadOptions(
            use_threads=False,
            block_size=_BLOCK_BYTES,
            column_names=list(files.names),
            skip_rows_after_names=int(files.has_header),
        ),
        pc.ParseOptions(
            delimiter=separator,
            quote_char=quote,
            newlines_in_values=bool(quote),
            invalid_row_handler=rejected,
        ),
        # Bytes, as a string that is no UTF-8 would end the reading.
        pc.ConvertOptions(
            include_columns=needed,
            column_types={name: pa.binary() for name in needed},
            check_utf8=False,
        ),
    )


def _row_numbers(first: int, count: int, rejected: np.ndarray) -> tuple[np.ndarray, int]:
    """[count] numbers of records from `first` on without the rejected ones; the next number."""
    rows = np.arange(first, first + count)
    for number in rejected[rejected >= first]:
        if number > rows[-1:].max(initial=first - 1):
            break
        rows[rows >= number] += 1
    return rows, int(rows[-1]) + 1 if count else first


def _decoded(values: pa.Array) -> pa.Array:
    """Bytes as strings; null for what is no UTF-8 or holds a NUL."""
    data = values.buffers()[2]
    if data is None or b"\0" not in data.to_pybytes():
        with contextlib.suppress(pa.ArrowInvalid):
            return values.cast(pa.string())
    return pa.array(map(_text, values.to_pylist()), pa.string())


def _text(value: bytes | None) -> str | None:
    with contextlib.suppress(UnicodeDecodeError):
        return None if value is None or b"\0" in value else value.decode()
    return None


def line_number(path: str, files: InputFiles, row: int) -> int:
    """The line, from 1, on which a record begins."""
    with readable(path), open_text(path) as file:
        if files.format == "csv":
            return _csv_line_number(csv.reader(file), row)
        whole = (number for number, line in enumerate(file, 1) if line.strip("\r\n"))
        return next((number for record, number in enumerate(whole, 1) if record == row), row)


def _csv_line_number(reader, row: int) -> int:
    record, before = 0, 0
    try:
        for fields in reader:
            record += bool(fields)
            if record == row:
                return before + 1
            before = reader.line_num
    except csv.Error:
        pass
    return row
