"""`recommend`: lists of items for users of a data set, for other histories, or like an item.

JAX is imported only once the arguments have proved good, so that help and errors come at once.
"""

import csv
import dataclasses
import os
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro

from mqsa_jax.commands.command_line import parse, run_command
from mqsa_jax.config import ExcludeSeen, RunConfig, ShardItems
from mqsa_jax.errors import DataError, UserError
from mqsa_jax.inference.list_outputs import check_output


@dataclasses.dataclass(frozen=True)
class RecommendConfig:
    """The flags of the command."""

    run_dir: str
    """Folder of a run, or of an export."""
    users: str | None = None
    """Users of the run's data, with commas between them."""
    all: bool = False
    """All users of the run's data."""
    histories: str | None = None
    """File of other histories, any format that `prepare` reads, or JSON lines like
    {"user": 7, "items": [17, 230]}; - reads such lines from standard input."""
    similar_to: str | None = None
    """Item: lists those of the nearest vectors instead, with their cosines."""
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 10
    """Items of a list."""
    output: str | None = None
    """File that gets the lists, .csv, .jsonl or .parquet (default: CSV on standard output)."""
    history: Literal["full", "held-out"] = "full"
    """Recommend after all that is known, or as evaluation does, without the held-out items."""
    split: Literal["test", "valid"] = "test"
    """Which items a held-out history lacks: the last one, or the last two."""
    exclude_seen: ExcludeSeen | None = None
    """Left out of a list: all items of its history, those in the last max_len, or none
    (default: as in training)."""
    allow: str | None = None
    """Text file of one item a line; only these are recommended."""
    deny: str | None = None
    """Text file of one item a line; none of these is recommended."""
    explain: bool = False
    """Adds why each item is recommended: attention to the history, transitions in training."""
    approximate: bool = False
    """Lists by the index of an export, which may miss an item; exact with --allow or --deny."""
    dataset: str | None = None
    """File of the run's data, where it lies now (default: as in training)."""
    data_dir: str | None = None
    """Folder of the data files (default: as in training)."""
    item_attributes: str | None = None
    """File of the items' attributes, where it lies now (default: as in training)."""
    user_traits: str | None = None
    """File of the users' traits, where it lies now (default: as in training)."""
    devices: int | None = None
    """Local devices to use (default: all of them)."""
    mesh: str = RunConfig.mesh
    """Devices along the axes of the mesh; -1 for one of them: as many as there are."""
    shard_items: ShardItems = RunConfig.shard_items
    """Axes that item tables are split over: model, or all of them."""


def recommend_main(
    arguments: Sequence[str] | None = None, program: str = "mqsa-jax recommend"
) -> int:
    """Runs the command under a program's name; returns its exit code."""
    hints = {DataError: "--dataset names the file that the run was trained on"}
    return run_command(program, _recommend, arguments, hints)


def _recommend(program: str, arguments: Sequence[str]) -> None:
    """Recommends items with the best epoch of a run: columns user, rank, item, score.

    Give one of --users, --all, --histories and --similar-to.
    """
    options = parse(program, RecommendConfig, arguments, _recommend.__doc__)
    _check(options)

    check_output(options.output, options.explain, (options.histories, options.allow, options.deny))
    users = _user_names(options.users)

    from mqsa_jax.commands.list_writing import write_lists
    from mqsa_jax.inference.list_files import ReaderLeft

    try:
        write_lists(program, options, users)
    except ReaderLeft:
        return


def _user_names(text: str | None) -> list[str] | None:
    """The ids of a comma list, quoted as in CSV where they hold commas; None without a list."""
    if text is None:
        return None
    try:
        return next(csv.reader([text]), [])
    except csv.Error as error:
        raise UserError(f"--users: {error}; put ids with commas or line ends in quotes") from None


def _check(options: RecommendConfig) -> None:
    """Raises UserError if flags contradict each other."""
    sources = {
        "--users": options.users is not None,
        "--all": options.all,
        "--histories": options.histories is not None,
        "--similar-to": options.similar_to is not None,
    }
    given = [name for name, is_given in sources.items() if is_given]
    if len(given) != 1:
        got = " and ".join(given) or "none"
        raise UserError(f"give exactly one of {', '.join(sources)}; got {got}")
    if options.k < 1:
        raise UserError(f"--k must be at least 1, got {options.k}")
    if options.history == "held-out" and given[0] not in ("--users", "--all"):
        raise UserError(f"--history held-out is for --users and --all, not for {given[0]}")
    if options.history == "full" and options.split != "test":
        raise UserError("--split is for --history held-out: a full history lacks no item")
    if options.similar_to is not None:
        for flag, is_given in (
            ("--explain", options.explain),
            ("--exclude-seen", options.exclude_seen is not None),
        ):
            if is_given:
                raise UserError(f"{flag} is for lists after histories, not for --similar-to")
    if options.devices is not None and options.devices < 1:
        raise UserError(f"--devices must be at least 1, got {options.devices}")
    if not os.path.isdir(options.run_dir):
        raise UserError(
            f"--run-dir {options.run_dir}: no such folder; name the folder of a run or an export"
        )
