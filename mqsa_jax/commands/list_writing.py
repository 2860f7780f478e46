"""What `recommend` does once its arguments have proved good: lists, block by block, into a file."""

import itertools
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mqsa_jax.commands.run_place import with_place
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.ids import Lookup, ids_like
from mqsa_jax.data.sources import load_dataset
from mqsa_jax.data.streamed import joined
from mqsa_jax.devices import DeviceLayout, enable_compilation_cache
from mqsa_jax.errors import UserError
from mqsa_jax.export.loading import load_model
from mqsa_jax.inference.evaluation_set import Protocol, Queries
from mqsa_jax.inference.history_files import (
    UserColumn,
    read_given_histories,
    read_item_list,
)
from mqsa_jax.inference.list_files import arrow_ids, list_table, opened_lists
from mqsa_jax.inference.lists import Lists
from mqsa_jax.inference.loaded_run import CountedRun, TrainedRun
from mqsa_jax.inference.ranks import NO_ITEM
from mqsa_jax.inference.recommend import KnownUsers, lists_of_blocks, queries_of
from mqsa_jax.models.registry import check_split

if TYPE_CHECKING:
    from mqsa_jax.commands.recommend import RecommendConfig

Block = tuple[pa.Array, Queries]
"""Ids of U users and what is asked for them."""


class Notes:
    """Counts of what a user should know of, told in the end."""

    def __init__(self):
        self.unknown_items = self.unknown_listed = self.popular = self.empty = 0
        self.known_items = 0

    def tell(self, program: str) -> None:
        """A line on stderr for each count above 0."""
        for count, what in (
            (self.unknown_listed, "items of --allow and --deny are not in the run's data"),
            (self.unknown_items, "items of histories are not in the run's data: skipped"),
            (self.popular, "histories hold no item of the run's data: popular items, no scores"),
            (self.empty, "lists are empty: no item is left to recommend"),
        ):
            if count:
                print(f"{program}: {count} {what}", file=sys.stderr)
        if self.unknown_items and not self.known_items:
            print(f"{program}: no item of any history is known: other ids?", file=sys.stderr)


def write_lists(program: str, options: "RecommendConfig", users: list[str] | None) -> None:
    """Makes the lists that the flags ask for.

    Args:
      program: its name in messages.
      options: the flags.
      users: ids of users; None: not asked for by id.

    Raises:
      UserError: if an input, the run or its data cannot be used.
    """
    enable_compilation_cache()
    run, notes = load_model(options.run_dir, approximate=options.approximate), Notes()
    listed = (read_item_list(path, run.item_ids) for path in (options.allow, options.deny))
    allowed_V, unknown = run.allowed(*listed)
    notes.unknown_listed = len(unknown)
    if options.similar_to is not None:
        _write_similar(run, options, allowed_V, notes)
    else:
        _write_recommended(run, options, users, allowed_V, notes)
    notes.tell(program)


def _write_similar(
    run: TrainedRun | CountedRun,
    options: "RecommendConfig",
    allowed_V: np.ndarray | None,
    notes: Notes,
) -> None:
    lists, index = run.similar_lists(_item(run, options.similar_to), options.k, allowed_V)
    item_ids = arrow_ids(run.item_ids)
    with opened_lists(options.output) as write:
        write(list_table("similar_to", item_ids.take(pa.array([index])), lists, item_ids))
    notes.empty = int((lists.items[:, 0] == NO_ITEM).sum())


def _item(run: TrainedRun | CountedRun, name: str) -> int | str:
    (item,) = ids_like(run.item_ids, [name])
    if run.lookup.indices(np.array([item], run.item_ids.dtype))[0] < 0:
        raise UserError(f"--similar-to {name}: no such item in the run's data")
    return item if isinstance(item, str) else int(item)


def _write_recommended(
    run: TrainedRun | CountedRun,
    options: "RecommendConfig",
    users: list[str] | None,
    allowed_V: np.ndarray | None,
    notes: Notes,
) -> None:
    if options.explain:
        run.counts  # noqa: B018  Read now, so that a run without them is refused at once.
    layout = DeviceLayout.of(options.devices, options.mesh, options.shard_items)
    if layout.item_axes:
        check_split(run.config)
    maker = run.list_maker(options.k, allowed_V, layout)
    policy = options.exclude_seen or run.config.evaluation.exclude_seen
    if options.histories is not None:
        blocks = _given_blocks(run, options.histories, policy, maker.block_users, notes)
    else:
        protocol = Protocol(options.split, policy)
        blocks = _known_blocks(run, options, protocol, users, maker.block_users)
    item_ids = arrow_ids(run.item_ids)
    with opened_lists(options.output) as write:
        for user_ids, queries, lists in lists_of_blocks(maker, blocks):
            lists = run.completed(queries, lists, allowed_V)
            _count(notes, queries, lists)
            why = run.explanations(queries, lists) if options.explain else None
            write(list_table("user", user_ids, lists, item_ids, why))


def _count(notes: Notes, queries: Queries, lists: Lists) -> None:
    notes.popular += int((queries.inputs.lengths == 0).sum())
    notes.empty += int((lists.items[:, 0] == NO_ITEM).sum())


def _run_data(run: TrainedRun | CountedRun, options: "RecommendConfig") -> Dataset:
    """The data of the run; DataError if what lies there now is other data."""
    data = load_dataset(with_place(run.config, options))
    run.check_data(data.inputs_fingerprint())
    return data


def _known_blocks(
    run: TrainedRun | CountedRun,
    options: "RecommendConfig",
    protocol: Protocol,
    users: list[str] | None,
    size: int,
) -> Iterator[Block]:
    """Users of the run's data, all or those of some ids, as many at a time as are best."""
    data, held_out = _run_data(run, options), options.history == "held-out"
    blocks = protocol.evaluated(data) if held_out else data.blocks()
    if users is None:
        chosen = ((block, np.arange(block.num_users)) for block in blocks)
    else:
        chosen = [_of_ids(blocks, users)]
    for histories, index_U in chosen:
        known = KnownUsers(histories, run.config.model.max_len, protocol, held_out)
        user_ids = arrow_ids(histories.user_ids)
        for begin in range(0, len(index_U), size):
            some_U = index_U[begin : begin + size]
            yield user_ids.take(pa.array(some_U)), known.queries(some_U)


def _of_ids(blocks: Iterator[Histories], users: list[str]) -> tuple[Histories, np.ndarray]:
    """Histories, and which of them are those of the users, each once, in the order given.

    Raises:
      UserError: naming a user who is not there.
    """
    if not users:
        raise UserError("--users names nobody")
    users, parts = list(dict.fromkeys(users)), []
    for block in blocks:
        index_U = Lookup(block.user_ids).indices(ids_like(block.user_ids, users))
        kept_U = np.isin(np.arange(block.num_users), index_U)
        parts.append(block.of_users(kept_U))
    histories = joined(parts)
    index_U = Lookup(histories.user_ids).indices(ids_like(histories.user_ids, users))
    for user, index in zip(users, index_U, strict=True):
        if index < 0:
            raise UserError(f"--users: no user {user!r} in the run's data")
    return histories, index_U


def _given_blocks(
    run: TrainedRun | CountedRun, path: str, policy: str, size: int, notes: Notes
) -> Iterator[Block]:
    """Histories of a file, as many at a time as are best."""
    column, given = UserColumn(), read_given_histories(path)
    while block := list(itertools.islice(given, size)):
        users = [column.add(where, user) for where, user, _ in block]
        length_U = np.array([len(items) for _, _, items in block])
        values = list(itertools.chain.from_iterable(items for _, _, items in block))
        index_N = run.lookup.indices(ids_like(run.item_ids, values))
        known_N = index_N >= 0
        owner_N = np.repeat(np.arange(len(block)), length_U)
        notes.unknown_items += int((~known_N).sum())
        notes.known_items += int(known_N.sum())
        queries = queries_of(
            index_N[known_N],
            np.bincount(owner_N[known_N], minlength=len(block)),
            run.num_items,
            run.config.model.max_len,
            policy,
        )
        yield pa.array(users, pa.string() if column.text else pa.int64()), queries
