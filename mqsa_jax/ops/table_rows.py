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

    def at(self, index_N: Int[Array, "*N"]) -> Float[Array, "*N D"]:
        """[..., D] rows at indices of the table; NaN where they are not among these."""
        # Written out: a loop would wait for the host on GPUs.
        place_N = jnp.searchsorted(self.index, index_N, method="scan_unrolled")
        place_N = jnp.minimum(place_N, self.index.size - 1)
        held_N = self.index[place_N] == index_N
        return jnp.where(held_N[..., None], self.rows[place_N], jnp.nan)


def distinct_rows(
    index_N: Int[Array, " N"], where_N: Bool[Array, " N"], num_rows: int
) -> Int32[Array, " N"]:
    """[N] the distinct indices that count and are those of rows, ascending; V behind the last.

    Example:
      >>> index, where = jnp.array([4, 2, 4, 9, 0]), jnp.array([True, True, True, True, False])
      >>> distinct_rows(index, where, 9).tolist()
      [2, 4, 9, 9, 9]
    """
    counts_N = where_N & is_index(index_N, num_rows)
    sorted_N = jax.lax.sort(jnp.where(counts_N, index_N, num_rows).astype(jnp.int32))
    is_first_N = jnp.diff(sorted_N, prepend=-1) > 0
    place_N = jnp.where(is_first_N, jnp.cumsum(is_first_N) - 1, index_N.size)
    return jnp.full(index_N.shape, num_rows, jnp.int32).at[place_N].set(sorted_N, mode="drop")
