"""Global item-to-item transition counts, sparse, as a pure function of packed histories."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from flax import struct
from jaxtyping import Array, Float, Int

from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.pytree import Leaf


@struct.dataclass
class TransitionCounts:
    """How often item j follows item i; compressed sparse rows, columns ascending."""

    row_start: Leaf
    """int32 [V + 1] where each row begins in the arrays below; last, how many are used."""
    successor: Leaf
    """int32 [M] item j."""
    count: Leaf
    """float32 [M] C_ij, exact up to 2**24 where all weights are 1; 0 at unused capacity."""

    @property
    def num_items(self) -> int:
        """V."""
        return self.row_start.shape[-1] - 1

    def row(self) -> Int[Array, " M"]:
        """[M] item i of each entry; V - 1 or below, also at unused capacity."""
        place_M = jnp.arange(self.successor.shape[-1])
        row_M = jnp.searchsorted(self.row_start, place_M, side="right") - 1
        return jnp.clip(row_M, 0, self.num_items - 1)

    def trimmed(self) -> "TransitionCounts":
        """Without unused capacity (one entry, if there is no transition); not under jit."""
        used = max(int(self.row_start[-1]), 1)
        return self.replace(successor=self.successor[:used], count=self.count[:used])

    def to_scipy(self) -> scipy.sparse.csr_array:
        """[V, V] SciPy array, for inspection and sparse algebra; not under jit."""
        kept = self.trimmed()
        parts = (np.asarray(kept.count), np.asarray(kept.successor), np.asarray(kept.row_start))
        return scipy.sparse.csr_array(parts, shape=(self.num_items, self.num_items))

    @classmethod
    def from_scipy(cls, matrix: scipy.sparse.csr_array) -> "TransitionCounts":
        """The inverse of `to_scipy`, without unused capacity; columns get sorted."""
        matrix = matrix.sorted_indices()
        unused = (0, 0 if matrix.nnz else 1)
        parts = matrix.indptr, np.pad(matrix.indices, unused), np.pad(matrix.data, unused)
        kinds = jnp.int32, jnp.int32, jnp.float32
        return cls(*(jnp.asarray(part, kind) for part, kind in zip(parts, kinds, strict=True)))


def count_transitions(
    item_N: Int[Array, " N"],
    segment_ids_N: Int[Array, " N"],
    num_items: int,
    *,
    time_span: int = 1,
    decay: Float[Array, ""] | float = 1.0,
    symmetric: Float[Array, ""] | float = 0.0,
    popularity: Float[Array, ""] | float = 0.0,
    capacity: int | None = None,
) -> TransitionCounts:
    r"""Counts how often item j follows item i by 1 to `time_span` steps in the same history.

        A_ij = sum_k decay^(k - 1) #(j follows i by k steps),   k = 1 .. time_span
        B_ij = A_ij + symmetric A_ji
        C_ij = B_ij / (sum_j B_ij  sum_i B_ij)^popularity

    Args:
      item_N: [N] int32 item index 0..V-1, histories one after the other, each oldest first.
      segment_ids_N: [N] int32 number of the history; negative at padding.
      num_items: V; static.
      time_span: steps ahead that count, at least 1; static.
      decay: weight of one more step, above 0 and at most 1; may be traced.
      symmetric: share in which a transition counts backwards too, 0 to 1; may be traced.
      popularity: exponent of the division by how often i and j occur in transitions, at least 0;
        1/2 is the symmetric normalisation of graphs; may be traced. Far above 1 float32 underflows.
      capacity: M, static: room for distinct pairs (i, j). None: enough for any input,
        `time_span * N`, twice that with `symmetric`. Pairs beyond it are dropped, largest i first.

    Returns:
      Counts with M entries of capacity, sorted by i, then j. `trimmed()` drops what is unused.

    Example:
      >>> counts = count_transitions(jnp.array([0, 1, 2, 0, 1]), jnp.array([0, 0, 0, 1, 1]), 3)
      >>> counts.to_scipy().todense().tolist()
      [[0.0, 2.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    from_P, to_P, *weight_P = _pairs(item_N, segment_ids_N, num_items, time_span, decay, symmetric)
    capacity = from_P.shape[0] if capacity is None else capacity
    from_P, to_P, *weight_P = jax.lax.sort((from_P, to_P, *weight_P), num_keys=2)
    changed_P = (from_P[1:] != from_P[:-1]) | (to_P[1:] != to_P[:-1])
    first_P = jnp.concatenate([jnp.ones_like(from_P[:1], bool), changed_P])
    entry_P = jnp.cumsum(first_P) - 1
    real_P = from_P < num_items
    # Pairs that do not count were sorted to the end; "drop" also lets go of what exceeds capacity.
    slot_P = jnp.where(real_P, entry_P, capacity)
    count_M = jnp.zeros(capacity).at[slot_P].add(*(weight_P or [1.0]), mode="drop")
    to_M = jnp.zeros(capacity, jnp.int32).at[slot_P].set(to_P, mode="drop")
    from_M = jnp.full(capacity, num_items, jnp.int32).at[slot_P].set(from_P, mode="drop")
    row_start = jnp.searchsorted(from_M, jnp.arange(num_items + 1)).astype(jnp.int32)
    counts = TransitionCounts(row_start, to_M, count_M)
    return counts if _is(popularity, 0) else _damped(counts, popularity)


def _is(value: Array | float, number: int) -> bool:
    """Whether a value is known to be that number while tracing."""
    return isinstance(value, int | float) and value == number


def _pairs(item_N: Array, segment_ids_N: Array, num_items: int, time_span: int, decay, symmetric):
    """All (i, j) up to `time_span` apart, and weights if any is not 1; i = V: does not count."""
    from_items, to_items, weights = [], [], []
    for step in range(1, min(time_span, item_N.shape[0] - 1) + 1):
        same = (segment_ids_N[step:] == segment_ids_N[:-step]) & (segment_ids_N[step:] >= 0)
        weight = decay ** (step - 1)
        directions = [(item_N[:-step], item_N[step:], weight)]
        if not _is(symmetric, 0):
            directions.append((item_N[step:], item_N[:-step], symmetric * weight))
        for begin, end, weight in directions:
            # A traced weight may be 0: no transition, rather than one of count 0.
            from_items.append(jnp.where(same & (weight > 0), begin, num_items))
            to_items.append(jnp.where(same, end, 0))
            weights.append(weight)
    if not from_items:
        nothing = jnp.full(1, num_items, jnp.int32)
        return nothing, jnp.zeros_like(nothing)
    pairs = [jnp.concatenate(items).astype(jnp.int32) for items in (from_items, to_items)]
    if all(_is(weight, 1) for weight in weights):
        return pairs
    spread = [jnp.full(len(i), w, jnp.float32) for i, w in zip(from_items, weights, strict=True)]
    return *pairs, jnp.concatenate(spread)


def _damped(counts: TransitionCounts, exponent: Array | float) -> TransitionCounts:
    """C_ij / (n_i n_j)^exponent, where n are the sums of rows and of columns."""
    row_M, empty_V = counts.row(), jnp.zeros(counts.num_items)
    row_sum_V = empty_V.at[row_M].add(counts.count)
    column_sum_V = empty_V.at[counts.successor].add(counts.count)
    product_M = row_sum_V[row_M] * column_sum_V[counts.successor]
    # Unused capacity may belong to items that no transition leads to.
    scale_M = jnp.where(counts.count > 0, product_M, 1) ** exponent
    return counts.replace(count=counts.count / scale_M)


def training_transitions(
    histories: Histories, max_len: int, **options: float | int
) -> TransitionCounts:
    """`count_transitions` of the last `max_len` training items of each user; not under jit.

    Args:
      histories: the data.
      max_len: items of a history that count.
      options: `time_span`, `decay`, `symmetric`, `popularity` of `count_transitions`.
    """
    segment_ids_N, source_N = splits.recent(histories, "train", max_len).flat_index()
    # No two items of a history are further apart.
    options["time_span"] = min(options.get("time_span", 1), max_len - 1)
    # All options are static, so that those that are off cost nothing.
    count = jax.jit(count_transitions, static_argnums=2, static_argnames=tuple(options))
    return count(
        jnp.asarray(histories.items[source_N]),
        jnp.asarray(segment_ids_N.astype(np.int32)),
        histories.num_items,
        **options,
    ).trimmed()
