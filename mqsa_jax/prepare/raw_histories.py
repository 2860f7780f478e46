"""Histories of a raw log in the log's own ids, without filters: for recommendations."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mqsa_jax.data.prepared import iterate_histories
from mqsa_jax.prepare.dataset import prepare
from mqsa_jax.prepare.engines import engine_maker
from mqsa_jax.prepare.options import PrepareOptions


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def read_raw_histories(
    inputs: Sequence[str], say: Callable[[str], None] = _to_stderr
) -> Iterator[tuple[int | str, list[int | str]]]:
    """User and items, oldest first, of every user of a log; users ascending.

    Args:
      inputs: files, folders or glob patterns, of any format that `prepare` reads.
      say: takes the lines of the progress, malformed rows among them.

    Raises:
      UserError: as `prepare`.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "log"
        options = PrepareOptions(min_user=1, min_item=1)
        prepare(inputs, folder, options, engine_maker(), say=say)
        yield from iterate_histories(folder)
