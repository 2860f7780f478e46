"""Scores of all items of which each device of a mesh holds some columns."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Int32

from mqsa_jax.ops.largest import largest
from mqsa_jax.ops.sharded_table import RowSplit, ShardedTable, Table
from mqsa_jax.ops.sparse_logits import SparseLogits, is_index
from mqsa_jax.pytree import pytree_dataclass


@pytree_dataclass
class ShardedScores:
    """The columns of scores [..., B, V] that one device holds, within `jax.shard_map`.

    Where the batch is split over an axis along which items are too, rows are those of all parts of
    the batch.
    """

    local: Float[Array, "*S B N"]
    """[..., B, N] one run of columns; those from V on are -inf."""
    split: RowSplit = struct.field(pytree_node=False)
    """How the items lie on the mesh."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all columns, [..., B, V]."""
        return (*self.local.shape[:-1], self.split.num_rows)

    @property
    def first_shard(self) -> Int[Array, ""]:
        """Number of the part of the batch that the first rows are of; each device has one."""
        if self.split.batch_axis is not None:
            return jnp.int32(0)
        return jax.lax.axis_index(self.split.data_axis)

    def local_index(self, item: Int[Array, "*N"]) -> tuple[Array, Array]:
        """As `ShardedTable.local_index`, of columns."""
        return ShardedTable(jnp.moveaxis(self.local, -1, 0), self.split).local_index(item)

    def local_pairs(
        self, row_M: Int[Array, " M"], item_M: Int[Array, " M"]
    ) -> tuple[Int[Array, " M"], Int[Array, " M"]]:
        """Pairs of a row and an item as those of the local columns.

        Those of other columns get the row -1; items that are none stay none.
        """
        index_M, here_M = self.local_index(item_M)
        is_item_M = is_index(item_M, self.split.num_rows)
        return jnp.where(here_M | ~is_item_M, row_M, -1), jnp.where(is_item_M, index_M, -1)

    def of_allowed(self, allowed_N: Bool[Array, " N"]) -> "ShardedScores":
        """The scores with -inf at the local columns that are not allowed; a NaN stays NaN."""
        return self.replace(local=only_allowed(self.local, allowed_N))

    def ranks(self, target_B: Int[Array, " B"]) -> Float[Array, " B"]:
        """What `inference.ranks.ranks_of` gives of all columns [B, V]."""
        index_B, here_B = self.local_index(target_B)
        score_B = jnp.take_along_axis(self.local, index_B[:, None], axis=1)[:, 0]
        target_score_B = jax.lax.psum(jnp.where(here_B, score_B, 0), self.split.axes)
        points_B = jax.lax.psum(rank_points(self.local, target_score_B), self.split.axes)
        # Columns of -inf that fill up tie with a target of -inf, whose rank is inf anyway.
        rank_B = jnp.where(target_score_B == -jnp.inf, jnp.inf, 0.5) + points_B
        return jnp.where(is_index(target_B, self.split.num_rows), rank_B, jnp.nan)

    def largest(self, k: int) -> tuple[Float[Array, "B k"], Int32[Array, "B k"]]:
        """What `ops.largest` gives of all columns [B, V]: the largest of each device's largest."""
        num_local, axes = self.local.shape[-1], self.split.axes
        score_BK, column_BK = largest(self.local, min(k, num_local))
        item_BK = self.split.begin(num_local) + column_BK
        # Side by side in the order of the items, so that of equal scores the first item wins.
        score_BM, item_BM = (
            jax.lax.all_gather(each, axes, axis=1, tiled=True) for each in (score_BK, item_BK)
        )
        best_Bk, place_Bk = largest(score_BM, k)
        return best_Bk, jnp.take_along_axis(item_BM, place_Bk, axis=1)


Scores = Float[Array, "*S B V"] | ShardedScores
"""Scores [..., B, V] of all items for each user."""


def scores_of(user_BD: Float[Array, "*S B D"], table_VD: Table) -> Scores:
    """[..., B, V] inner products in full precision: coarse ones would make ties of other scores."""
    if not isinstance(table_VD, ShardedTable):
        return jnp.einsum("...bd,vd->...bv", user_BD, table_VD, precision="highest")
    user_BD = table_VD.split.all_shards(user_BD)
    local = jnp.einsum("...bd,vd->...bv", user_BD, table_VD.local, precision="highest")
    return ShardedScores(jnp.where(table_VD.is_row(), local, -jnp.inf), table_VD.split)


def with_sparse(scores: Scores, sparse: SparseLogits) -> Scores:
    """[..., B, V] the scores with what is sparse [..., B, K] added."""
    if not isinstance(scores, ShardedScores):
        return sparse.added_to(scores)
    sparse = scores.split.all_shards(sparse.in_range(scores.split.num_rows))
    index, here = scores.local_index(sparse.item)
    own = SparseLogits(index, jnp.where(here, sparse.value, 0))
    return scores.replace(local=own.added_to(scores.local))


def only_allowed(score_BV: Float[Array, "*B V"], allowed_V: Bool[Array, " V"]) -> Array:
    """[..., V] -inf where an item is not allowed; a NaN stays NaN."""
    return jnp.where(allowed_V | jnp.isnan(score_BV), score_BV, -jnp.inf)


def rank_points(score_BV: Float[Array, "B V"], target_score_B: Float[Array, " B"]) -> Array:
    """[B] scores above that of the target, and half of those equal to it, its own included.

    NaN, if a score is.
    """
    # One pass over floats: on CPUs a sum of booleans takes several times as long.
    target_score_B1 = target_score_B[:, None]
    below_or_nan_BV = jnp.where(score_BV < target_score_B1, 0.0, jnp.nan)
    not_above_BV = jnp.where(score_BV == target_score_B1, 0.5, below_or_nan_BV)
    return jnp.where(score_BV > target_score_B1, 1.0, not_above_BV).sum(-1)
