"""Some rows of a table: what a step with sampled losses reads, and what its gradients are by."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Int32

from mqsa_jax.ops.sparse_logits import is_index
from mqsa_jax.pytree import pytree_dataclass


@pytree_dataclass
class TableRows:
    """U rows of a table [V, D]: gradients by them are [U, D], not [V, D]."""

    index: Int32[Array, " U"]
    """The rows' own, ascending; V behind the last."""
    rows: Float[Array, "U D"]
    num_rows: int = struct.field(pytree_node=False)
    """V."""

    @property
    def shape(self) -> tuple[int, int]:
        """[V, D], that of the whole table."""
        return self.num_rows, self.rows.shape[-1]

    def at(self, slot_N: Int[Array, "*N"]) -> Float[Array, "*N D"]:
        """[..., D] rows by their slot, 0..U-1, not by their index; NaN outside."""
        return self.rows.at[slot_N].get(mode="fill", fill_value=jnp.nan)


def distinct_rows(
    index_N: Int[Array, " N"], where_N: Bool[Array, " N"], num_rows: int
) -> tuple[Int32[Array, " U"], Int32[Array, " N"]]:
    """The distinct indices that count and are those of rows, and where each index is among them.

    Returns:
      [min(N, V)] these indices, ascending; V behind the last. [N] the slot of each index in that
      array; N, which is none, if it counts and is no row's; 0 if it does not count.

    Example:
      >>> index, where = jnp.array([4, 2, 4, 9, 0]), jnp.array([True, True, True, True, False])
      >>> [array.tolist() for array in distinct_rows(index, where, 9)]
      [[2, 4, 9, 9, 9], [1, 0, 1, 5, 0]]
    """
    size = index_N.size
    is_row_N = is_index(index_N, num_rows)
    key_N = jnp.where(where_N & is_row_N, index_N, num_rows).astype(jnp.int32)
    sorted_N, origin_N = jax.lax.sort_key_val(key_N, jnp.arange(size, dtype=jnp.int32))
    is_first_N = jnp.diff(sorted_N, prepend=-1) > 0
    slot_N = jnp.cumsum(is_first_N, dtype=jnp.int32) - 1
    # What counts comes first, and is of V indices at most.
    distinct_U = jnp.full(min(size, num_rows), num_rows, jnp.int32)
    distinct_U = distinct_U.at[jnp.where(is_first_N, slot_N, size)].set(sorted_N, mode="drop")
    slot_N = jnp.zeros(size, jnp.int32).at[origin_N].set(slot_N, unique_indices=True)
    return distinct_U, jnp.where(where_N, jnp.where(is_row_N, slot_N, size), 0)
