"""`explore`: a local web page of a run: lists and their reasons, a map of the items, curves.

JAX is imported only once the arguments have proved good, so that help and errors come at once.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from mqsa_jax.commands.command_line import parse, run_command
from mqsa_jax.commands.run_place import with_full_path
from mqsa_jax.errors import DataError, UserError
from mqsa_jax.explore.options import ExploreOptions
from mqsa_jax.explore.server import serve
from mqsa_jax.extras import check_extra
from mqsa_jax.models.registry import MODELS
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.sockets import bound_socket


@dataclasses.dataclass(frozen=True)
class ExploreConfig:
    """The flags of the command."""

    run_dir: str
    """Folder of a run."""
    item_titles: str | None = None
    """File of the items' titles: a column beside the item ids, CSV, TSV, Parquet or JSON lines; or
    a JSON object by item id."""
    title_column: str | None = None
    """Name of that column (default: title, name, and such)."""
    item_attributes: str | None = None
    """File of attributes that colour the map, in the same formats (default: as in training)."""
    attribute_columns: str | None = None
    """Columns of --item-attributes to read, with commas between (default: all but the item's)."""
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 10
    """Items of a list."""
    host: str = "127.0.0.1"
    """Address to listen on; by default only this machine sees the page."""
    port: int = 0
    """Port to listen on; 0: a free one."""
    open: bool = False
    """Open the page in a browser."""
    dataset: str | None = None
    """File of the run's data, where it lies now (default: as in training)."""
    data_dir: str | None = None
    """Folder of the data files (default: as in training)."""
    user_traits: str | None = None
    """File of the users' traits, where it lies now (default: as in training)."""


def explore_main(arguments: Sequence[str] | None = None, program: str = "mqsa-jax explore") -> int:
    """Runs the command under a program's name; returns its exit code."""
    hints = {DataError: "--dataset names the file that the run was trained on"}
    return run_command(program, _explore, arguments, hints)


def _explore(program: str, arguments: Sequence[str]) -> None:
    """Serves a page of a trained run: lists by each branch and why, a map of the items, curves.

    Prints the page's address; Ctrl-C ends it.
    """
    flags = parse(program, ExploreConfig, arguments, _explore.__doc__)
    options = _checked(flags)
    check_extra("explore", "explore")
    with bound_socket(flags.host, flags.port) as bound:

        def warn(line: str) -> None:
            print(f"{program}: {line}", file=sys.stderr, flush=True)

        def load():
            from mqsa_jax.devices import enable_compilation_cache
            from mqsa_jax.explore.explorer import load_explorer

            enable_compilation_cache()
            return load_explorer(options, warn)

        serve(load, flags.host, bound, flags.open)


def _checked(flags: ExploreConfig) -> ExploreOptions:
    """What is to be shown; UserError if it cannot be."""
    if flags.k < 1:
        raise UserError(f"--k must be at least 1, got {flags.k}")
    if not os.path.isdir(flags.run_dir):
        raise UserError(f"--run-dir {flags.run_dir}: no such folder; name the folder of a run")
    if flags.title_column is not None and flags.item_titles is None:
        raise UserError("--title-column is of the file that --item-titles names")
    if flags.attribute_columns is not None and flags.item_attributes is None:
        raise UserError("--attribute-columns is of the file that --item-attributes names")
    for name in ("item_titles", "item_attributes", "user_traits"):
        path = getattr(flags, name)
        if path is not None and not os.path.isfile(path):
            raise UserError(f"--{name.replace('_', '-')} {path}: no such file; check the path")
    config = RunDirectory(flags.run_dir).config()
    if MODELS[config.model.model].counted:
        raise UserError(
            f"{config.model.model} is counted, not trained: it has no branches and no item vectors "
            "to explore; recommend makes its lists"
        )
    config.attributes.moved(None, flags.user_traits)  # Refused if the run has no traits.
    dataset = flags.dataset
    if dataset is not None:
        dataset = with_full_path(dataclasses.replace(config, dataset=dataset)).dataset
    fields = (field.name for field in dataclasses.fields(ExploreOptions))
    return ExploreOptions(**{name: getattr(flags, name) for name in fields} | {"dataset": dataset})
