"""Pairs (user, item) that an evaluation leaves out of the rankings, without padding.

A chunk's pairs come in two lists. Each shard has most of its own pairs in a column of the first.
Where one has far more than the others, as with a user of a very long history, the rest is dealt to
the columns of the second list, which all shards read.

Shape legend: C chunks of S shards of B users; G = C S groups; P pairs of a column; M of them at a
time.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Int, Int32

from mqsa_jax.data import splits
from mqsa_jax.data.packing import round_up
from mqsa_jax.inference.ranks import leave_out
from mqsa_jax.ops.sharded_scores import Scores, ShardedScores
from mqsa_jax.pytree import pytree_dataclass

MAX_PAIRS = 1 << 14
"""Pairs of a column that are left out at a time, at most."""
MIN_TURNS = 8
"""Turns that all pairs take, at least: a list has padding for a turn."""
MAX_SHARE = 1.25
"""Pairs in a shard's own column at most, as a multiple of the mean over the chunk's shards."""
Pairs = tuple[np.ndarray, np.ndarray]
"""[N] slots of users and [N] items."""
LONG_HISTORY = 1 << 12
"""Longer histories are sorted one by one: all at once, an item takes several times its bytes."""


@pytree_dataclass
class PairRange:
    """Which pairs of a list are those of C chunks, or of one of them without its axis."""

    begin: Int32[Array, "*C"]
    """Row of the first pair."""
    end: Int32[Array, "*C"]
    """Row behind the last one."""


@pytree_dataclass
class PairList:
    """Pairs of all chunks, one chunk after the other."""

    user: Int[Array, "P S"]
    """Slot of each pair's user, B of the own shard or S B of the chunk; a larger one is padding."""
    item: Int32[Array, "P S"]
    """Item of each pair."""
    at_a_time: int = struct.field(pytree_node=False)
    """M. Behind the last pair is room for as many."""

    def read(self, turn: Array, chunk: PairRange) -> tuple[Int32[Array, "M S"], ...]:
        """Users and items of the chunk's M pairs number `turn`; -1 is the user of other chunks'."""
        begin = chunk.begin + turn * self.at_a_time
        user_MS, item_MS = (
            jax.lax.dynamic_slice_in_dim(pairs, begin, self.at_a_time).astype(jnp.int32)
            for pairs in (self.user, self.item)
        )
        own_M1 = (begin + jnp.arange(self.at_a_time) < chunk.end)[:, None]
        return jnp.where(own_M1, user_MS, -1), item_MS

    def turns(self, chunk: PairRange) -> Int32[Array, ""]:
        """How often to read for all pairs of the chunk."""
        return (chunk.end - chunk.begin + self.at_a_time - 1) // self.at_a_time


@pytree_dataclass
class SeenPairs:
    """What an evaluation leaves out."""

    own: PairList
    shared: PairList

    def without(self, score_SBV: Scores, own: PairRange, shared: PairRange) -> Scores:
        """The scores of a chunk, with -inf at its pairs."""
        shards, users = score_SBV.shape[:2]
        first = score_SBV.first_shard if isinstance(score_SBV, ShardedScores) else 0

        def leave_out_own(turn, score_SBV):
            user_MS, item_MS = self.own.read(turn, own)
            if isinstance(score_SBV, ShardedScores):
                user_MS, item_MS = score_SBV.split.all_shards((user_MS, item_MS), axis=1)
            return jax.vmap(leave_out, in_axes=(0, 1, 1))(score_SBV, user_MS, item_MS)

        def leave_out_shared(turn, score_SBV):
            pairs = self.shared.read(turn, shared)
            if isinstance(score_SBV, ShardedScores):
                axis = score_SBV.split.data_axis
                pairs = jax.lax.all_gather(pairs, axis, axis=1, tiled=True)
            user_N, item_N = (each.ravel() for each in pairs)
            slot_SN = user_N - users * (first + jnp.arange(shards))[:, None]
            return jax.vmap(leave_out, in_axes=(0, 0, None))(score_SBV, slot_SN, item_N)

        score_SBV = jax.lax.fori_loop(0, self.own.turns(own), leave_out_own, score_SBV)
        return jax.lax.fori_loop(0, self.shared.turns(shared), leave_out_shared, score_SBV)


def find_seen_pairs(
    source_N: np.ndarray,
    num_items: int,
    seen: splits.Slices,
    users_GB: np.ndarray,
    num_shards: int,
) -> tuple[SeenPairs, PairRange, PairRange]:
    """The pairs of all chunks, and which rows of the two lists are each chunk's [C].

    Args:
      source_N: [N] item indices of all users.
      num_items: V.
      seen: items that each user must not be ranked.
      users_GB: [G, B] users of each group; -1 is padding.
      num_shards: S.
    """
    size = users_GB.shape[1]
    slot_type = fewest_bits(size * num_shards)
    own, shared = _ListBuilder(num_shards, size), _ListBuilder(num_shards, size * num_shards)
    for users_SB in users_GB.reshape(-1, num_shards, size):
        pairs = [
            _distinct_pairs(without_padding(seen, users_B), source_N, num_items, slot_type)
            for users_B in users_SB
        ]
        own_columns, shared_columns = _deal(pairs, size)
        own.add(own_columns)
        shared.add(shared_columns)
    own_list, own_rows = own.build()
    shared_list, shared_rows = shared.build()
    return SeenPairs(own_list, shared_list), own_rows, shared_rows


def _deal(shards: list[Pairs], size: int) -> tuple[list[Pairs], list[Pairs]]:
    """Columns of both lists for a chunk, from its shards of `size` users; empties `shards`."""
    total = sum(len(item_N) for _, item_N in shards)
    num_shards = len(shards)
    share = int(np.ceil(MAX_SHARE * total / num_shards))
    own, rest = [], []
    for shard in range(num_shards):
        slot_N, item_N = shards.pop(0)
        rest.append((slot_N[share:] + slot_N.dtype.type(size * shard), item_N[share:].copy()))
        if len(item_N) > share:
            # Copies, since a view would keep the whole.
            slot_N, item_N = slot_N[:share].copy(), item_N[:share].copy()
        own.append((slot_N, item_N))
    user_N, item_N = map(np.concatenate, zip(*rest, strict=True))
    columns = (slice(first, None, num_shards) for first in range(num_shards))
    return own, [(user_N[column], item_N[column]) for column in columns]


class _ListBuilder:
    """A list of pairs that grows by a chunk at a time; padding is added at the end."""

    def __init__(self, num_shards: int, padding: int):
        self._num_shards, self._padding = num_shards, padding
        self._chunks: list[list[Pairs]] = []

    def add(self, columns: list[Pairs]) -> None:
        """Appends a chunk: users and items of S columns, which may differ in length."""
        self._chunks.append(columns)

    def build(self) -> tuple[PairList, PairRange]:
        """All pairs, and the rows of each chunk; the chunks are let go of on the way."""
        widths = [max(len(item_N) for _, item_N in columns) for columns in self._chunks]
        bound_C = np.cumsum([0, *widths]).astype(np.int32)
        turns = max(len(widths), MIN_TURNS)
        at_a_time = min(round_up(-(-int(bound_C[-1]) // turns)), MAX_PAIRS)
        shape = (int(bound_C[-1]) + at_a_time, self._num_shards)
        user_PS = np.full(shape, self._padding, fewest_bits(self._padding))
        item_PS = np.zeros(shape, np.int32)
        self._chunks.reverse()
        for begin in bound_C[:-1].tolist():
            for column, (user_N, item_N) in enumerate(self._chunks.pop()):
                user_PS[begin : begin + len(user_N), column] = user_N
                item_PS[begin : begin + len(item_N), column] = item_N
        return PairList(user_PS, item_PS, at_a_time), PairRange(bound_C[:-1], bound_C[1:])


def _distinct_pairs(
    seen: splits.Slices,
    source_N: np.ndarray,
    num_items: int,
    slot_type: type[np.signedinteger],
) -> Pairs:
    """[N] slot and [N] item of every pair of a group, each pair once."""
    long_B = seen.lengths > LONG_HISTORY
    short = splits.Slices(seen.begin, np.where(long_B, seen.begin, seen.end))
    owner_N, index_N = short.flat_index()
    key_N = np.unique(owner_N * num_items + source_N[index_N])
    owner_N, item_N = np.divmod(key_N, num_items)
    owners, items = [owner_N.astype(slot_type)], [item_N.astype(np.int32)]
    for slot in np.flatnonzero(long_B):
        own = np.unique(source_N[seen.begin[slot] : seen.end[slot]])
        owners.append(np.full(len(own), slot, slot_type))
        items.append(own)
    return np.concatenate(owners), np.concatenate(items)


def without_padding(slices: splits.Slices, users_B: np.ndarray) -> splits.Slices:
    """The slices of users [..., B]; empty ones for padding."""
    chosen = slices[users_B]
    return splits.Slices(np.where(users_B >= 0, chosen.begin, chosen.end), chosen.end)


def fewest_bits(largest: int) -> type[np.signedinteger]:
    """A dtype that holds -1 to `largest`."""
    return np.int16 if largest < 2**15 else np.int32
