"""Users to rank for, packed on the host: memory stays within a small multiple of the data.

Shape legend: U users; C chunks of S shards of B users; G = C S groups; R rows of T positions; P
pairs (user, item) to leave out.
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np
from flax import struct
from jaxtyping import Array, Int, Int32

from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.packing import pack, round_up
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.ops.chunk_loop import chunk_rows
from mqsa_jax.pytree import pytree_dataclass

BLOCK_ITEMS = 1 << 14
"""Items that are packed at a time, at least: bounds the memory of what is only needed meanwhile."""
MAX_PAIRS = 1 << 14
"""Pairs that a chunk leaves out at a time, at most."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is evaluated, and against which items."""

    split: Literal["valid", "test"] = "test"
    exclude_seen: splits.ExcludeSeen = "history"

    def result_name(self, own: splits.ExcludeSeen) -> str:
        """Names its result files: `test` for the run's own policy, else for example `test_window`.

        Args:
          own: `exclude_seen` of the run.
        """
        return self.split if self.exclude_seen == own else f"{self.split}_{self.exclude_seen}"


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
    seen_begin: Int32[Array, "*C"]
    """Index of the chunk's first pair."""
    seen_end: Int32[Array, "*C"]
    """Index behind its last pair."""


@pytree_dataclass
class EvaluationSet:
    """All users, and what the protocol leaves out of their rankings."""

    chunks: Chunk
    seen_user: Int[Array, "P S"]
    """With `seen_item`, pairs to leave out: slot of the user in its chunk; B: padding."""
    seen_item: Int32[Array, "P S"]
    """Item of each pair."""
    max_pairs: int = struct.field(pytree_node=False)
    """Pairs to read at a time; P has room for as many behind the last."""
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
    """Packs all users into NumPy arrays, in chunks that suit `num_models` at once on a platform.

    Users are dealt to the groups in turn, those of long histories first, so that all groups hold
    about as much: every chunk has as many rows as the fullest. Pairs to leave out are not padded.
    """
    users_GB = _user_groups(histories, num_shards, num_models, platform)
    inputs, last_GB = _packed_inputs(histories, protocol, max_len, users_GB)
    seen_user, seen_item, bound_C = _seen_pairs(histories, protocol, max_len, users_GB, num_shards)
    target_GB = splits.targets(histories, protocol.split)[users_GB]

    def by_chunk(values: np.ndarray) -> np.ndarray:
        return values.reshape(-1, num_shards, *values.shape[1:])

    chunks = Chunk(
        inputs=Sequences(*map(by_chunk, inputs)),
        last=by_chunk(last_GB),
        target=by_chunk(target_GB),
        user=by_chunk(np.where(users_GB < 0, histories.num_users, users_GB).astype(np.int32)),
        seen_begin=bound_C[:-1],
        seen_end=bound_C[1:],
    )
    return EvaluationSet(
        chunks,
        seen_user,
        seen_item,
        max_pairs=len(seen_user) - int(bound_C[-1]),
        num_users=histories.num_users,
    )


def _user_groups(
    histories: Histories, num_shards: int, num_models: int, platform: str
) -> np.ndarray:
    """[G, B] int32 user indices, dealt in turn from long to short histories; -1 is padding."""
    users_a_shard = -(-histories.num_users // num_shards)
    size = chunk_rows(users_a_shard, histories.num_items * num_models, platform)
    padding = -histories.num_users % (size * num_shards)
    order_U = np.argsort(-histories.lengths, kind="stable").astype(np.int32)
    return np.pad(order_U, (0, padding), constant_values=-1).reshape(size, -1).T


def _blocks(slices: splits.Slices) -> Iterator[slice]:
    """Runs of groups with at least `BLOCK_ITEMS` items each, but for the last."""
    block_G = np.cumsum(slices.lengths.sum(1)) // BLOCK_ITEMS
    starts = np.flatnonzero(np.diff(block_G, prepend=-1)).tolist()
    for begin, end in zip(starts, [*starts[1:], len(block_G)], strict=True):
        yield slice(begin, end)


def _without_padding(slices: splits.Slices, users_B: np.ndarray) -> splits.Slices:
    """The slices of users [..., B]; empty ones for padding."""
    chosen = slices[users_B]
    return splits.Slices(np.where(users_B >= 0, chosen.begin, chosen.end), chosen.end)


def _packed_inputs(
    histories: Histories, protocol: Protocol, max_len: int, users_GB: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Items, positions and segment ids [G, R, T], and [G, B] flat index of each newest item."""
    inputs = _without_padding(splits.recent(histories, protocol.split, max_len), users_GB)
    kinds = (np.int32, _fewest_bits(max_len), _fewest_bits(users_GB.shape[1]))
    fields: tuple[list[np.ndarray], ...] = ([], [], [])
    last = []
    for block in _blocks(inputs):
        own = inputs[block]
        slot_GB = np.broadcast_to(np.arange(users_GB.shape[1]), own.end.shape)
        rows = pack(own, slot_GB, max_len)
        item = rows.scatter(histories.items[rows.source])
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


def _seen_pairs(
    histories: Histories,
    protocol: Protocol,
    max_len: int,
    users_GB: np.ndarray,
    num_shards: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[P, S] slot in the group and item of all pairs to leave out; [C + 1] bounds of the chunks.

    Behind the last pair is room for as many as are read at a time.
    """
    size = users_GB.shape[1]
    seen = splits.seen(histories, protocol.split, protocol.exclude_seen, max_len)
    kind = _fewest_bits(size)
    users, items, bounds = [], [], [0]
    for chunk in range(len(users_GB) // num_shards):
        pairs = []
        for shard in range(num_shards):
            own = _without_padding(seen, users_GB[chunk * num_shards + shard])
            pairs.append(_distinct_pairs(own, histories, kind))
        width = max(len(owner_N) for owner_N, _ in pairs)
        user_PS = np.full((width, num_shards), size, kind)
        item_PS = np.zeros((width, num_shards), np.int32)
        for shard, (owner_N, item_N) in enumerate(pairs):
            user_PS[: len(owner_N), shard] = owner_N
            item_PS[: len(item_N), shard] = item_N
        users.append(user_PS)
        items.append(item_PS)
        bounds.append(bounds[-1] + width)
    max_pairs = min(round_up(-(-bounds[-1] // (len(bounds) - 1))), MAX_PAIRS)
    users.append(np.full((max_pairs, num_shards), size, kind))
    items.append(np.zeros((max_pairs, num_shards), np.int32))
    return np.concatenate(users), np.concatenate(items), np.array(bounds, np.int32)


def _distinct_pairs(
    seen: splits.Slices, histories: Histories, kind: type[np.signedinteger]
) -> tuple[np.ndarray, np.ndarray]:
    """[N] slot and [N] item of every pair of a group, each pair once."""
    long_B = seen.lengths > BLOCK_ITEMS // 4
    short = splits.Slices(seen.begin, np.where(long_B, seen.begin, seen.end))
    owner_N, source_N = short.flat_index()
    key_N = np.unique(owner_N * histories.num_items + histories.items[source_N])
    owner_N, item_N = np.divmod(key_N, histories.num_items)
    owners, items = [owner_N.astype(kind)], [item_N.astype(np.int32)]
    # One by one, as the keys of a long history would need several times its memory.
    for slot in np.flatnonzero(long_B):
        own = np.unique(histories.items[seen.begin[slot] : seen.end[slot]])
        owners.append(np.full(len(own), slot, kind))
        items.append(own)
    return np.concatenate(owners), np.concatenate(items)


def _fewest_bits(largest: int) -> type[np.signedinteger]:
    """A dtype that holds -1 to `largest`."""
    return np.int16 if largest < 2**15 else np.int32
