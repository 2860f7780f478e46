"""Files of a raw log: found, of one format, and what their header says."""

import csv
import glob
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mqsa_jax.errors import UserError

Format = Literal["csv", "tsv", "dat", "inter", "json", "parquet"]
_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".dat": "dat",
    ".inter": "inter",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
SEPARATORS = {"csv": ",", "tsv": "\t", "dat": "::", "inter": "\t"}
_DAT_NAMES = ("user_id", "item_id", "rating", "timestamp")
"""Columns of MovieLens' `.dat` files, which have no header."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_SAMPLED = 1000
"""Lines of JSON in which an object is looked for."""


@dataclass(frozen=True)
class InputFiles:
    """Files of one format with the same columns."""

    format: Format
    paths: tuple[str, ...]
    names: tuple[str, ...]
    """Columns in the order of the files."""
    has_header: bool
    """Whether the first line of every file holds the names."""
    example: dict[str, Any]
    """Of JSON lines: the first value of each key. Of Parquet: the Arrow type of each column."""


def format_of(path: str | os.PathLike[str]) -> Format | None:
    """The format that a file's name stands for, `.gz` aside; None for any other name.

    >>> format_of("a/b.CSV.gz"), format_of("part-0.parquet"), format_of("a.txt")
    ('csv', 'parquet', None)
    """
    name = Path(path).name.lower().removesuffix(".gz")
    return _FORMATS.get(Path(name).suffix)


def is_remote(path: str) -> bool:
    """Whether a path is of another file system than the local one, as `s3://…` is."""
    return "://" in path


def find_input_files(inputs: Sequence[str], columns: Sequence[str] = ()) -> InputFiles:
    """Finds the files of a log and reads their header.

    Args:
      inputs: files, folders of files, or glob patterns.
      columns: names of the columns, for delimited files without a header.

    Raises:
      UserError: naming the file, if there is none, they are of several formats or none, differ in
        their columns, are empty or no UTF-8 text.
    """
    if not inputs:
        raise UserError("no inputs: name files, folders or patterns of a log")
    paths = list(dict.fromkeys(path for text in inputs for path in _expanded(text)))
    formats = {format_of(path): path for path in paths}
    if None in formats:
        raise UserError(
            f"{formats[None]}: no known format; names end with one of "
            f"{', '.join(_FORMATS)}, and .gz after it where packed"
        )
    if len(formats) > 1:
        first, second = list(formats.values())[:2]
        raise UserError(f"{first} and {second} are of two formats; prepare one at a time")
    (format,) = formats
    if format == "parquet":
        return _parquet_files(paths, format)
    if format == "json":
        example = _example(paths)
        return InputFiles(format, tuple(paths), tuple(example), False, example)
    has_header = not columns and format != "dat"
    names = tuple(columns) or (_DAT_NAMES if format == "dat" else _header(paths, format))
    return InputFiles(format, tuple(paths), names, has_header, {})


def _expanded(text: str) -> list[str]:
    """The files that an input names, sorted."""
    if is_remote(text) or os.path.isfile(text):
        return [text]
    if os.path.isdir(text):
        found = [
            str(path)
            for path in sorted(Path(text).rglob("*"))
            if path.is_file() and path.name[0] not in "._" and format_of(path)
        ]
        if not found:
            raise UserError(f"{text}: the folder holds no file of a known format")
        return found
    found = sorted(path for path in glob.glob(text, recursive=True) if os.path.isfile(path))
    if not found:
        raise UserError(f"no such file: {text!r}; check the path")
    return found


def open_text(path: str, errors: Literal["replace", "strict"] = "replace") -> io.TextIOWrapper:
    """A local file as UTF-8 text, unpacked, without a byte order mark; `errors`: of bad bytes."""
    opener = gzip.open if path.lower().endswith(".gz") else open
    return io.TextIOWrapper(opener(path, "rb"), encoding="utf-8-sig", errors=errors, newline="")


def check_start(path: str) -> None:
    """Raises UserError if a file is empty, UTF-16, or no gzip file in spite of its name."""
    with readable(path):
        opener = gzip.open if path.lower().endswith(".gz") else open
        with opener(path, "rb") as file:
            start = file.read(4)
    if not start:
        raise UserError(f"{path}: the file is empty")
    if start[:2] in _UTF16 or b"\0" in start:
        raise UserError(f"{path}: not UTF-8 text but UTF-16, it seems; convert it to UTF-8")


class readable:  # noqa: N801 - reads as a statement: `with readable(path):`
    """Turns what reading a file raises into a UserError that names the file."""

    def __init__(self, path: str):
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
            raise UserError(f"{self._path}: the gzip file is damaged or cut off") from None
        if isinstance(error, OSError):
            # What unpacks raises has no code of the system.
            problem = error.strerror or "it is damaged or cut off"
            raise UserError(f"{self._path}: cannot be read: {problem}") from None


def _header(paths: list[str], format: Format) -> tuple[str, ...]:
    """The column names that all files share."""
    headers = {}
    for path in paths:
        if is_remote(path):
            raise UserError(f"{path}: name the columns of remote files with --columns")
        check_start(path)
        with readable(path), open_text(path) as file:
            headers.setdefault(_split_header(file, format, path), path)
    if len(headers) > 1:
        first, second = list(headers.values())[:2]
        raise UserError(f"{first} and {second} have different headers; prepare one at a time")
    return next(iter(headers))


def _split_header(file: io.TextIOWrapper, format: Format, path: str) -> tuple[str, ...]:
    if format == "csv":
        try:
            names = next(csv.reader(file), [])
        except csv.Error as error:
            raise UserError(f"{path}:1: the header cannot be read: {error}") from None
    else:
        names = file.readline().rstrip("\r\n").split(SEPARATORS[format])
    if format == "inter":
        names = [name.partition(":")[0] for name in names]
    if not any(name.strip() for name in names):
        raise UserError(f"{path}:1: the first line is blank; it must hold the names of the columns")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}:1: the header holds the column {twice!r} twice")
    return tuple(names)


def lines_of(path: str) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of every line that is not blank."""
    with readable(path), open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def _example(paths: list[str]) -> dict[str, Any]:
    """Each key of the JSON objects in the first lines, with its first value that is not null."""
    for path in paths:
        if is_remote(path):
            raise UserError(f"{path}: JSON lines are read from local files; use Parquet")
        check_start(path)
    merged: dict[str, Any] = {}
    for number, line in lines_of(paths[0]):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        for name, own in value.items() if isinstance(value, dict) else ():
            if merged.get(name) is None:
                merged[name] = own
        if number >= _SAMPLED or (number == 1 and line.lstrip()[:1] == "["):
            break
    if not merged:
        raise UserError(f"{paths[0]}: no JSON object in the first lines; give one object a line")
    return merged


def _parquet_files(paths: list[str], format: Format) -> InputFiles:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schemas = {}
    for path in paths:
        if is_remote(path):
            continue
        try:
            with readable(path):
                schema = pq.read_schema(path)
        except pa.ArrowException:
            raise UserError(f"{path}: the Parquet file is damaged or cut off") from None
        schemas[path] = {field.name: field.type for field in schema}
    if not schemas:
        raise UserError("name one local Parquet file at least, whose columns are read")
    first, *others = schemas
    for path in others:
        odd = [name for name, kind in schemas[first].items() if schemas[path].get(name) != kind]
        if odd:
            kinds = schemas[first][odd[0]], schemas[path].get(odd[0], "missing")
            raise UserError(
                f"column {odd[0]!r} is {kinds[0]} in {first} and {kinds[1]} in {path}; "
                "give it one type"
            )
    by_letters = {name.lower(): name for name in schemas[first]}
    for name in schemas[first]:
        if by_letters[name.lower()] != name:
            raise UserError(
                f"{first}: columns {name!r} and {by_letters[name.lower()]!r} differ in case alone; "
                "rename one"
            )
    return InputFiles(format, tuple(paths), tuple(schemas[first]), False, schemas[first])
