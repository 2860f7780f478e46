"""`prepare`: turns a raw log into a data set that `train` reads."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mqsa_jax.commands.command_line import parse, run_command
from mqsa_jax.errors import FolderError, SettingError
from mqsa_jax.prepare.options import PrepareOptions

HINTS = {FolderError: "--output names another folder, --overwrite replaces it"}


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """The flags of the command."""

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Files, folders of files or glob patterns: CSV, TSV, MovieLens .dat, RecBole .inter, JSON
    lines, each also .gz, or Parquet."""
    output: str
    """Folder of the data set."""
    overwrite: bool = False
    """Replaces a folder that is there."""
    engine: Literal["duckdb", "spark"] = "duckdb"
    """What computes: DuckDB in this process, or Spark."""
    spark_url: str | None = None
    """Spark master or Spark Connect URL, as sc://host (default: the configured session)."""
    options: PrepareOptions = PrepareOptions()


def prepare_main(arguments: Sequence[str] | None = None, program: str = "mqsa-jax prepare") -> int:
    """Runs the command under a program's name; returns its exit code."""
    return run_command(program, _prepare, arguments, HINTS)


def _prepare(program: str, arguments: Sequence[str]) -> None:
    """Turns a raw log of events into a prepared data set: a folder for train.py --dataset."""
    config = parse(program, PrepareConfig, arguments, _prepare.__doc__)
    config.options.validate()
    if config.spark_url is not None and config.engine != "spark":
        raise SettingError("{spark_url} is of use with {engine} spark alone")

    from mqsa_jax.prepare.dataset import prepare
    from mqsa_jax.prepare.engines import engine_maker

    manifest = prepare(
        config.inputs,
        Path(config.output),
        config.options,
        engine_maker(config.engine, config.spark_url),
        overwrite=config.overwrite,
        say=lambda line: print(line, flush=True),
    )
    print(
        f"{config.output}: {manifest['users']:,} users, {manifest['items']:,} items, "
        f"{manifest['interactions']:,} interactions"
    )
