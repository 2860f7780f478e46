"""From a raw log to a prepared data set: a folder that appears when it is whole.

Events of one user at the same time are ordered by item id.
"""

import dataclasses
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
from mqsa_jax.prepare.options import PrepareOptions
from mqsa_jax.prepare.split import split
from mqsa_jax.prepare.steps import Coded, Held, Say, Steps

MANY_TIES = 0.2
"""Share of the events at the same time as another of the user, beyond which there is a warning."""


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
    files, columns = _found(inputs, options)
    _check_output(output, overwrite)
    say(f"{len(files.paths)} file(s) of format {files.format}: {columns.described()}")
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        with make_engine(folder) as engine:
            steps = Steps(engine, options, say)
            content = {"engine": engine.name, **_run(steps, files, columns, folder, say)}
        inputs_shown = [path if is_remote(path) else Path(path).name for path in files.paths]
        content |= {"inputs": inputs_shown, "options": _settings(options)}
        manifest = write_manifest(folder, content)
        _replace(output, folder)
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _tell_ties(manifest, say)
    return manifest


def _found(inputs: Sequence[str], options: PrepareOptions) -> tuple[InputFiles, Columns]:
    """The files of the log, and its columns."""
    names = [name.strip() for name in (options.columns or "").split(",") if name.strip()]
    files = find_input_files(inputs, names)
    roles = ("user", "item", "time", "rating")
    chosen = {role: getattr(options, f"{role}_column") for role in roles}
    return files, choose_columns(files, chosen, options.min_rating is not None)


def _check_output(output: Path, overwrite: bool) -> None:
    """Makes the folder above; UserError if there cannot be one, or the output is there."""
    if output.exists() and not overwrite and (not output.is_dir() or any(output.iterdir())):
        raise FolderError(f"{output}: is there already")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{output.parent}: is a file, not a folder") from None


def _settings(options: PrepareOptions) -> dict[str, Any]:
    """The options that matter."""
    cuts = ("valid_from", "test_from")
    return {
        name: value
        for name, value in dataclasses.asdict(options).items()
        if options.split == "time" or name not in cuts
    }


def _tell_ties(manifest: dict[str, Any], say: Say) -> None:
    tied = manifest["ties"] / manifest["interactions"]
    say(f"at the same time as another of the user: {manifest['ties']:,} events ({tied:.1%})")
    if tied > MANY_TIES:
        say(
            "warning: more than a fifth of the events have no order of their own; they are "
            "ordered by item id, and what such data say of sequences is limited"
        )


def _run(
    steps: Steps, files: InputFiles, columns: Columns, folder: Path, say: Say
) -> dict[str, Any]:
    """Writes all files but the manifest; returns what the manifest says of the data."""
    rows = steps.engine.read(files, columns)
    rows = events.parsed(events.flattened(rows) if columns.lists else rows)
    rows = steps.engine.keep("rows_parsed", rows)
    coded = steps.coded(rows, steps.unit(rows, files), files, columns)
    held, told = split(steps, coded)
    content = _write(steps, coded, held, folder, say)
    return {**content, "split": told | content["split"], "steps": steps.done}


def _write(steps: Steps, coded: Coded, held: Held, folder: Path, say: Say) -> dict[str, Any]:
    """Writes histories and vocabularies."""
    user_codes, counts = steps.codes(held.events, "user")
    writer = HistoryWriter(folder, held.users, held.items, held.cuts)
    total, done, shown = int(counts.sum()), 0, 0
    for batch in steps.engine.sorted_events(held.events, user_codes, counts):
        writer.add(batch)
        done += len(batch)
        if done * 4 // total > shown:
            shown = done * 4 // total
            say(f"written: {done:,} of {total:,} events")
    writer.close()
    for name, count in writer.targets.items() if held.cuts else ():
        if not count:
            raise SettingError(
                f"no user has a target from {{{name}_from}} on, before the next cut; choose other "
                "times"
            )
    write_vocabularies(
        folder,
        _ids(steps, coded.users, held.users, coded.integers["user"]),
        _ids(steps, coded.items, held.items, coded.integers["item"]),
        writer.counts,
    )
    return {
        "users": len(held.users),
        "items": len(held.items),
        "interactions": writer.interactions,
        "ties": writer.ties,
        "split": {f"{name}_users": n for name, n in writer.targets.items()} if held.cuts else {},
    }


def _ids(steps: Steps, vocabulary: ir.Table, codes: np.ndarray, integers: bool) -> pa.Array:
    """The ids of ascending codes."""
    ids = steps.engine.values(vocabulary.order_by("code").select("id")).column("id")
    chosen = ids.take(pa.array(codes)).combine_chunks()
    return chosen.cast(pa.int64()) if integers else chosen.cast(pa.string())


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
