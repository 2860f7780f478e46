"""Users to rank for, packed on the host: memory stays within a small multiple of the data.

Shape legend: U users; C chunks of S shards of B users; G = C S groups; R rows of T positions.
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np
from flax import struct
from jaxtyping import Array, Int32

from mqsa_jax.data import splits
from mqsa_jax.data.attributes import Attributes
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.packing import pack
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.data.user_traits import UserTraits
from mqsa_jax.inference.seen_pairs import (
    PairRange,
    SeenPairs,
    fewest_bits,
    find_seen_pairs,
    without_padding,
)
from mqsa_jax.ops.chunk_loop import chunk_rows
from mqsa_jax.pytree import pytree_dataclass

BLOCK_ITEMS = 1 << 14
"""Items that are packed at a time, at least: bounds the memory of what is only needed meanwhile."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is evaluated, and against which items."""

    split: Literal["valid", "test"] = "test"
    exclude_seen: splits.ExcludeSeen = "history"
    sample: int = 0
    """Users who are drawn and evaluated; 0: all (`splits.evaluated_blocks`)."""

    def evaluated(self, data: Dataset) -> Iterator[Histories]:
        """The histories of the users who are evaluated, in blocks; UserError if there are none."""
        return splits.evaluated_blocks(data, self.split, self.sample)

    def result_name(self, own: splits.ExcludeSeen) -> str:
        """Names its result files: `test` for the run's own policy, else for example `test_window`.

        Args:
          own: `exclude_seen` of the run.
        """
        return self.split if self.exclude_seen == own else f"{self.split}_{self.exclude_seen}"


@dataclasses.dataclass(frozen=True, eq=False)
class Queries:
    """U histories to score after, and what each of them must not be recommended."""

    items: np.ndarray
    """[N] int32 item indices of all histories."""
    num_items: int
    """V."""
    inputs: splits.Slices
    """[U] slices of `items` that the model reads, each at most `max_len` long."""
    seen: splits.Slices
    """[U] slices of `items` that are left out of the rankings."""
    targets: np.ndarray
    """[U] int32 item that each user went on to; 0 where lists alone are asked for."""
    traits: Attributes | None = None
    """[U] lists, of the users; None: nothing is known of them."""

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.targets)


@dataclasses.dataclass(frozen=True, eq=False)
class UserQueries:
    """The `Queries` of what a protocol asks of all users; arrays are made when they are read.

    All users have a target (`splits.with_target`).
    """

    histories: Histories
    protocol: Protocol
    max_len: int

    @property
    def items(self) -> np.ndarray:
        """[N] int32."""
        return self.histories.items

    @property
    def num_items(self) -> int:
        """V."""
        return self.histories.num_items

    @property
    def num_users(self) -> int:
        """U."""
        return self.histories.num_users

    @property
    def inputs(self) -> splits.Slices:
        """[U]."""
        return splits.recent(self.histories, self.protocol.split, self.max_len)

    @property
    def seen(self) -> splits.Slices:
        """[U]."""
        policy = self.protocol.exclude_seen
        return splits.seen(self.histories, self.protocol.split, policy, self.max_len)

    @property
    def targets(self) -> np.ndarray:
        """[U] int32."""
        return splits.targets(self.histories, self.protocol.split)

    @property
    def traits(self) -> Attributes | None:
        """[U]."""
        return self.histories.traits

    def of_users(self, users: np.ndarray) -> Queries:
        """Those of some users, by index."""
        return Queries(
            self.items,
            self.num_items,
            self.inputs[users],
            self.seen[users],
            self.targets[users],
            self.traits and self.traits.of_rows(users),
        )


@pytree_dataclass
class Chunk:
    """C chunks of users, or one of them without its first axis."""

    inputs: Sequences
    """[C, S, R, T] packed histories; positions and segment ids in the smallest dtype that fits."""
    last: Int32[Array, "*C S B"]
    """Index of each user's newest item in the flat [R, T]."""
    target: Int32[Array, "*C S B"]
    """Item that the user went on to."""
    user: Int32[Array, "*C S B"]
    """Index of each user; U is padding."""
    own_pairs: PairRange
    """Rows of `EvaluationSet.seen.own` that are the chunk's."""
    shared_pairs: PairRange
    """Rows of `EvaluationSet.seen.shared` that are the chunk's."""
    traits: UserTraits | None = None
    """[C, S, B] of the users, if anything is known of them."""


@pytree_dataclass
class EvaluationSet:
    """All users, and what the protocol leaves out of their rankings."""

    chunks: Chunk
    seen: SeenPairs
    """Pairs to leave out of the rankings."""
    num_users: int = struct.field(pytree_node=False)
    """U."""


def build_evaluation_set(
    histories: Histories,
    protocol: Protocol,
    max_len: int,
    num_shards: int,
    num_models: int = 1,
    platform: str = "cpu",
) -> EvaluationSet:
    """`pack_queries` of what a protocol asks of all users whom it evaluates."""
    (evaluated,) = protocol.evaluated(histories)
    queries = UserQueries(evaluated, protocol, max_len)
    return pack_queries(queries, max_len, num_shards, num_models, platform)


def pack_queries(
    queries: Queries | UserQueries,
    max_len: int,
    num_shards: int,
    num_models: int = 1,
    platform: str = "cpu",
) -> EvaluationSet:
    """Packs users into NumPy arrays, in chunks that suit `num_models` at once on a platform.

    Users are dealt to the groups in turn, those of long histories first, so that all groups hold
    about as much: every chunk has as many rows as the fullest.
    """
    users_GB = _user_groups(queries, num_shards, num_models, platform)
    inputs, last_GB = _packed_inputs(queries, max_len, users_GB)
    pairs, own_pairs, shared_pairs = find_seen_pairs(
        queries.items, queries.num_items, queries.seen, users_GB, num_shards
    )
    target_GB = queries.targets[users_GB]

    def by_chunk(values: np.ndarray) -> np.ndarray:
        return values.reshape(-1, num_shards, *values.shape[1:])

    chunks = Chunk(
        inputs=Sequences(*map(by_chunk, inputs)),
        last=by_chunk(last_GB),
        target=by_chunk(target_GB),
        user=by_chunk(np.where(users_GB < 0, queries.num_users, users_GB).astype(np.int32)),
        own_pairs=own_pairs,
        shared_pairs=shared_pairs,
        traits=UserTraits.of(queries.traits, by_chunk(users_GB)),
    )
    return EvaluationSet(chunks, pairs, num_users=queries.num_users)


def _lengths(queries: Queries | UserQueries) -> np.ndarray:
    """[U] items from the first to the last that are read or left out."""
    inputs, seen = queries.inputs, queries.seen
    return np.maximum(inputs.end, seen.end) - np.minimum(inputs.begin, seen.begin)


def _user_groups(
    queries: Queries | UserQueries, num_shards: int, num_models: int, platform: str
) -> np.ndarray:
    """[G, B] int32 user indices, dealt in turn from long to short histories; -1 is padding."""
    users_a_shard = -(-queries.num_users // num_shards)
    size = chunk_rows(users_a_shard, queries.num_items * num_models, platform)
    padding = -queries.num_users % (size * num_shards)
    order_U = np.argsort(-_lengths(queries), kind="stable").astype(np.int32)
    return np.pad(order_U, (0, padding), constant_values=-1).reshape(size, -1).T


def _blocks(slices: splits.Slices) -> Iterator[slice]:
    """Runs of groups with at least `BLOCK_ITEMS` items each, but for the last."""
    block_G = np.cumsum(slices.lengths.sum(1)) // BLOCK_ITEMS
    starts = np.flatnonzero(np.diff(block_G, prepend=-1)).tolist()
    for begin, end in zip(starts, [*starts[1:], len(block_G)], strict=True):
        yield slice(begin, end)


def _packed_inputs(
    queries: Queries | UserQueries, max_len: int, users_GB: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Items, positions and segment ids [G, R, T], and [G, B] flat index of each newest item."""
    inputs = without_padding(queries.inputs, users_GB)
    kinds = (np.int32, fewest_bits(max_len), fewest_bits(users_GB.shape[1]))
    fields: tuple[list[np.ndarray], ...] = ([], [], [])
    last = []
    for block in _blocks(inputs):
        own = inputs[block]
        slot_GB = np.broadcast_to(np.arange(users_GB.shape[1]), own.end.shape)
        rows = pack(own, slot_GB, max_len)
        item = rows.scatter(queries.items[rows.source])
        arrays = (item, rows.position, rows.segment_ids)
        for parts, values, kind in zip(fields, arrays, kinds, strict=True):
            parts.append(values.astype(kind))
        newest_GB = rows.row * max_len + rows.column + np.maximum(own.lengths, 1) - 1
        last.append(np.where(own.lengths > 0, newest_GB, 0).astype(np.int32))
    shape = (len(users_GB), max(part.shape[1] for part in fields[0]), max_len)
    stacked = [_stacked(parts, fill, shape) for parts, fill in zip(fields, (0, 0, -1), strict=True)]
    return stacked, np.concatenate(last)


def _stacked(parts: list[np.ndarray], fill: int, shape: tuple[int, ...]) -> np.ndarray:
    """Blocks one after the other, filled up with rows of padding; empties `parts` on the way."""
    out, begin = np.full(shape, fill, parts[0].dtype), 0
    while parts:
        # Let go of each block at once: with the whole beside them, memory would be twice as much.
        part = parts.pop(0)
        out[begin : begin + len(part), : part.shape[1]] = part
        begin += len(part)
    return out
