"""Which file gets lists, and whether it can.

Imports no JAX, so that argument errors come at once.
"""

import os
from pathlib import Path

from mqsa_jax.errors import UserError

KINDS = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
}
"""Formats by the ending of a file."""


def check_output(output: str | None, nested: bool, inputs: tuple[str | None, ...]) -> None:
    """Raises UserError if the file cannot become what is asked for; writes nothing.

    Args:
      output: its path; None: CSV on standard output.
      nested: whether there are columns of lists.
      inputs: files that are read.
    """
    kind = file_kind(output)
    if nested and kind == "csv":
        raise UserError("CSV has no room for --explain; give --output with .jsonl or .parquet")
    if output is None:
        return
    path = Path(output)
    if path.is_dir():
        raise UserError(f"--output {output} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UserError(f"--output {output}: no folder {path.parent}; make it first")
    for other in inputs:
        if other and path.exists() and os.path.exists(other) and path.samefile(other):
            raise UserError(f"--output {output} is a file that is read; name another one")


def file_kind(output: str | None) -> str:
    """`csv`, `jsonl` or `parquet`, by the ending; UserError for another one."""
    if output is None:
        return "csv"
    ending = Path(output).suffix.lower()
    if ending not in KINDS:
        raise UserError(f"--output {output}: the ending must be one of {', '.join(KINDS)}")
    return KINDS[ending]
