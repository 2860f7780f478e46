"""Item-to-item transition counts, sparse: a pure function of histories laid end to end."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float, Float32, Int, Int32

from mqsa_jax.data import splits
from mqsa_jax.data.block_transitions import count_block_transitions
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.histories import Histories
from mqsa_jax.pytree import pytree_dataclass


@pytree_dataclass
class TransitionCounts:
    """How often item j follows item i; compressed sparse rows, columns ascending."""

    row_start: Int32[Array, " V+1"]
    """Where each row begins in the arrays below; the last entry is how many are used."""
    successor: Int32[Array, " M"]
    """Item j."""
    count: Float32[Array, " M"]
    """C_ij, exact up to 2**24 where all weights are 1; 0 at unused capacity; all NaN if what was
    counted is invalid."""

    @property
    def num_items(self) -> int:
        """V."""
        return self.row_start.shape[-1] - 1

    def row(self) -> Int[Array, " M"]:
        """[M] item i of each entry; V - 1 or below, also at unused capacity."""
        entry_M = jnp.arange(self.successor.shape[-1])
        row_M = jnp.searchsorted(self.row_start, entry_M, side="right") - 1
        return jnp.clip(row_M, 0, self.num_items - 1)

    def trimmed(self) -> "TransitionCounts":
        """Without unused capacity (one entry, if there is no transition); not under jit.

        Raises:
          ValueError: if counts are NaN.
        """
        if np.isnan(np.asarray(self.count)).any():
            raise ValueError(
                "transition counts are NaN: an item was outside 0..V-1, a weight outside its "
                "range, or the capacity smaller than the number of distinct pairs"
            )
        used = max(int(self.row_start[-1]), 1)
        return self.replace(successor=self.successor[:used], count=self.count[:used])

    def to_scipy(self) -> scipy.sparse.csr_array:
        """[V, V] SciPy array, for inspection and sparse algebra; not under jit. Errors likewise."""
        kept = self.trimmed()
        parts = (np.asarray(kept.count), np.asarray(kept.successor), np.asarray(kept.row_start))
        return scipy.sparse.csr_array(parts, shape=(self.num_items, self.num_items))

    @classmethod
    def from_scipy(cls, matrix: scipy.sparse.csr_array) -> "TransitionCounts":
        """The inverse of `to_scipy`, without unused capacity.

        Columns get sorted, entries named twice summed.

        Raises:
          ValueError: if the matrix is not square.
        """
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"counts are [V, V], but the matrix is {list(matrix.shape)}")
        matrix = matrix.copy()
        matrix.sum_duplicates()
        unused = (0, 0 if matrix.nnz else 1)
        parts = matrix.indptr, np.pad(matrix.indices, unused), np.pad(matrix.data, unused)
        kinds = jnp.int32, jnp.int32, jnp.float32
        return cls(*(jnp.asarray(part, kind) for part, kind in zip(parts, kinds, strict=True)))


def count_transitions(
    item_N: Int[Array | np.ndarray, " N"],
    segment_ids_N: Int[Array | np.ndarray, " N"],
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
      item_N: [N] int32 item index 0..V-1, histories one after the other, each oldest first;
        anything at padding.
      segment_ids_N: [N] int32 number of the history; negative at padding.
      num_items: V, at least 1; static.
      time_span: steps ahead that count, at least 1; static.
      decay: weight of one more step, 0 to 1; may be traced.
      symmetric: weight of a transition counted backwards, 0 to 1; may be traced.
      popularity: exponent of the division by how often i and j occur in transitions, at least 0;
        1/2 is the symmetric normalisation of graphs; may be traced. Far above 1 float32 underflows.
      capacity: M, at least 1, static: room for distinct pairs (i, j). None: enough for any input,
        `time_span * N`, twice that with `symmetric`.

    Returns:
      Counts with M entries of capacity, sorted by i, then j. `trimmed()` drops what is unused. All
      counts are NaN where a traced argument is outside its range or there are more than M pairs.

    Raises:
      ValueError: if an argument that is not traced is outside its range, items or segments are not
        integers, or their lengths differ.

    Example:
      >>> counts = count_transitions(jnp.array([0, 1, 2, 0, 1]), jnp.array([0, 0, 0, 1, 1]), 3)
      >>> counts.to_scipy().todense().tolist()
      [[0.0, 2.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    _check_sizes(num_items=num_items, time_span=time_span, capacity=capacity)
    _check_histories(item_N, segment_ids_N, num_items)
    valid = _weights_are_valid(decay=decay, symmetric=symmetric, popularity=popularity)
    item_N, segment_ids_N = jnp.asarray(item_N), jnp.asarray(segment_ids_N)
    valid &= ((segment_ids_N < 0) | ((item_N >= 0) & (item_N < num_items))).all()
    from_P, to_P, *weight_P = _pairs(item_N, segment_ids_N, num_items, time_span, decay, symmetric)
    capacity = from_P.shape[0] if capacity is None else capacity
    from_P, to_P, *weight_P = jax.lax.sort((from_P, to_P, *weight_P), num_keys=2)
    changed_P = (from_P[1:] != from_P[:-1]) | (to_P[1:] != to_P[:-1])
    first_P = jnp.concatenate([jnp.ones_like(from_P[:1], bool), changed_P])
    entry_P = jnp.cumsum(first_P) - 1
    # Pairs that do not count were sorted to the end; "drop" leaves them out.
    is_pair_P = from_P < num_items
    valid &= ~(is_pair_P & (entry_P >= capacity)).any()
    slot_P = jnp.where(is_pair_P, entry_P, capacity)
    count_M = jnp.zeros(capacity).at[slot_P].add(*(weight_P or [1.0]), mode="drop")
    to_M = jnp.zeros(capacity, jnp.int32).at[slot_P].set(to_P, mode="drop")
    from_M = jnp.full(capacity, num_items, jnp.int32).at[slot_P].set(from_P, mode="drop")
    row_start = jnp.searchsorted(from_M, jnp.arange(num_items + 1)).astype(jnp.int32)
    counts = TransitionCounts(row_start, to_M, count_M)
    counts = counts if _is(popularity, 0) else _damped(counts, popularity)
    return counts.replace(count=jnp.where(valid, counts.count, jnp.nan))


def _check_sizes(**sizes: int | None) -> None:
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise ValueError(f"{name} must be at least 1, but is {size}")


def _check_histories(
    item_N: Array | np.ndarray, segment_ids_N: Array | np.ndarray, num_items: int
) -> None:
    """Refuses histories that are wrong, as far as that is known while tracing."""
    if item_N.shape != segment_ids_N.shape:
        raise ValueError(f"{item_N.shape} items, but {segment_ids_N.shape} segment ids")
    for name, values_N in (("items", item_N), ("segment ids", segment_ids_N)):
        if not jnp.issubdtype(values_N.dtype, jnp.integer):
            raise ValueError(f"{name} must be integers, but are {values_N.dtype}")
    if isinstance(item_N, jax.core.Tracer) or isinstance(segment_ids_N, jax.core.Tracer):
        return
    item_N, segment_ids_N = np.asarray(item_N), np.asarray(segment_ids_N)
    limits = np.iinfo(np.int32)
    if ((segment_ids_N < limits.min) | (segment_ids_N > limits.max)).any():
        raise ValueError("segment ids do not fit into 32 bits; number the histories from 0")
    item_N = item_N[segment_ids_N >= 0]
    if ((item_N < 0) | (item_N >= num_items)).any():
        raise ValueError(
            f"items must be 0 to {num_items - 1}, but are {item_N.min()} to {item_N.max()}"
        )


def _weights_are_valid(
    decay: Array | float, symmetric: Array | float, popularity: Array | float
) -> Array:
    """Whether traced weights are within their ranges; refuses others that are not."""
    valid = jnp.array(True)
    ranges = {"decay": (decay, 1), "symmetric": (symmetric, 1), "popularity": (popularity, np.inf)}
    for name, (value, most) in ranges.items():
        inside = (value >= 0) & (value <= most)
        if isinstance(inside, jax.core.Tracer):
            valid &= inside
        elif not inside:
            raise ValueError(f"{name} must be 0 to {most}, but is {value}")
    return valid


def _is(value: Array | float, number: int) -> bool:
    """Whether a value is a Python number, so known while tracing, and equal to that."""
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


def training_transitions(data: Dataset, max_len: int, **options: float | int) -> TransitionCounts:
    """`count_transitions` of the last `max_len` training items of each user; not under jit.

    Args:
      data: in memory or streamed.
      max_len: items of a history that count.
      options: `time_span`, `decay`, `symmetric`, `popularity` of `count_transitions`.
    """
    # No two items of a history are further apart.
    options["time_span"] = min(options.get("time_span", 1), max(max_len - 1, 1))
    if not isinstance(data, Histories):
        blocks = count_block_transitions(data.blocks(), data.num_items, max_len, **options)
        return TransitionCounts.from_scipy(blocks)
    segment_ids_N, source_N = splits.recent(data, "train", max_len).flat_index()
    # All options are static, so that those that are off cost nothing.
    count = jax.jit(count_transitions, static_argnums=2, static_argnames=tuple(options))
    return count(
        jnp.asarray(data.items[source_N]),
        jnp.asarray(segment_ids_N.astype(np.int32)),
        data.num_items,
        **options,
    ).trimmed()


def largest_of_rows(
    row_M: np.ndarray, column_M: np.ndarray, value_M: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The largest entries of each row of a sparse matrix, at most `width`; on the host.

    Args:
      row_M, column_M, value_M: [M] the entries, in any order.
      width: at least 1.

    Returns:
      Their rows, columns and values, by row and the largest first, of equal ones the smaller column
      first; and the rank of each in its row, from 0.

    Raises:
      ValueError: if `width` is below 1.
    """
    _check_sizes(width=width)
    order_M = np.lexsort((column_M, -value_M, row_M))
    row_M, column_M, value_M = row_M[order_M], column_M[order_M], value_M[order_M]
    rank_M = np.arange(row_M.size) - np.searchsorted(row_M, row_M)
    kept_M = rank_M < width
    return row_M[kept_M], column_M[kept_M], value_M[kept_M], rank_M[kept_M]
