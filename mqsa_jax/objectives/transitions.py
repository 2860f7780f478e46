"""Global item-to-item transition counts, sparse, as a pure function of packed histories."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from flax import struct
from jaxtyping import Array, Int

from mqsa_jax.pytree import Leaf


@struct.dataclass
class TransitionCounts:
    """How often item j follows item i; compressed sparse rows, columns ascending."""

    row_start: Leaf
    """int32 [V + 1] where each row begins in the arrays below; last, how many are used."""
    successor: Leaf
    """int32 [M] item j."""
    count: Leaf
    """float32 [M] C_ij, exact up to 2**24; 0 at unused capacity."""

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


def count_transitions(
    item_N: Int[Array, " N"],
    segment_N: Int[Array, " N"],
    num_items: int,
    *,
    time_span: int = 1,
    capacity: int | None = None,
) -> TransitionCounts:
    """Counts how often item j follows item i by 1 to `time_span` steps in the same history.

    Args:
      item_N: [N] int32 item index 0..V-1, histories one after the other, each oldest first.
      segment_N: [N] int32 number of the history; negative at padding.
      num_items: V; static.
      time_span: steps ahead that count, at least 1; static.
      capacity: M, static: room for distinct pairs (i, j). None: enough for any input,
        `time_span * N`. Pairs beyond it are dropped, largest i first.

    Returns:
      Counts with M entries of capacity, sorted by i, then j. `trimmed()` drops what is unused.

    Example:
      >>> counts = count_transitions(jnp.array([0, 1, 2, 0, 1]), jnp.array([0, 0, 0, 1, 1]), 3)
      >>> counts.to_scipy().todense().tolist()
      [[0.0, 2.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    from_P, to_P = _pairs(item_N, segment_N, num_items, time_span)
    capacity = from_P.shape[0] if capacity is None else capacity
    from_P, to_P = jax.lax.sort((from_P, to_P), num_keys=2)
    changed_P = (from_P[1:] != from_P[:-1]) | (to_P[1:] != to_P[:-1])
    first_P = jnp.concatenate([jnp.ones_like(from_P[:1], bool), changed_P])
    entry_P = jnp.cumsum(first_P) - 1
    real_P = from_P < num_items
    # Pairs that do not count were sorted to the end; "drop" also lets go of what exceeds capacity.
    slot_P = jnp.where(real_P, entry_P, capacity)
    count_M = jnp.zeros(capacity).at[slot_P].add(1.0, mode="drop")
    to_M = jnp.zeros(capacity, jnp.int32).at[slot_P].set(to_P, mode="drop")
    from_M = jnp.full(capacity, num_items, jnp.int32).at[slot_P].set(from_P, mode="drop")
    row_start = jnp.searchsorted(from_M, jnp.arange(num_items + 1)).astype(jnp.int32)
    return TransitionCounts(row_start, to_M, count_M)


def _pairs(item_N: Array, segment_N: Array, num_items: int, time_span: int):
    """All (i, j) up to `time_span` apart; i = V where the two are not of one history."""
    from_items, to_items = [], []
    for step in range(1, min(time_span, item_N.shape[0] - 1) + 1):
        same = (segment_N[step:] == segment_N[:-step]) & (segment_N[step:] >= 0)
        from_items.append(jnp.where(same, item_N[:-step], num_items))
        to_items.append(jnp.where(same, item_N[step:], 0))
    if not from_items:
        nothing = jnp.full(1, num_items, jnp.int32)
        return nothing, jnp.zeros_like(nothing)
    return jnp.concatenate(from_items).astype(jnp.int32), jnp.concatenate(to_items).astype(
        jnp.int32
    )
