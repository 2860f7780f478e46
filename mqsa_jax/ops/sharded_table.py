"""Tables whose rows lie on the devices of a mesh, a run of them on each.

Losses and models use the functions below on a table [V, D], whether it is an array or, inside
`jax.shard_map`, the part that one device holds. There a batch is split over the axis `data`, and
all devices along the other axes work on the same part of it.

Gradients of a `ShardedTable` are those of its own rows. Where the batch is split over an axis along
which the rows are too, they are already summed over it; else they are this device's part.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from mqsa_jax.ops.table_rows import TableRows
from mqsa_jax.pytree import pytree_dataclass


@dataclasses.dataclass(frozen=True)
class RowSplit:
    """How the rows of a table lie on a mesh."""

    num_rows: int
    """V, without the rows of zeros that make it divisible."""
    axes: tuple[str, ...]
    """Axes of the mesh that they are split over, the outermost first."""
    data_axis: str = "data"
    """The axis that a batch is split over, which may be one of them."""

    @property
    def batch_axis(self) -> str | None:
        """The axis along which parts of a batch share these rows; None, if each has all rows."""
        return self.data_axis if self.data_axis in self.axes else None

    @property
    def own_axes(self) -> tuple[str, ...]:
        """Axes along which all devices work on the same part of a batch."""
        return tuple(axis for axis in self.axes if axis != self.batch_axis)

    def begin(self, num_local: int) -> Int[Array, ""]:
        """Index of this device's first row, each device having `num_local`."""
        return jax.lax.axis_index(self.axes) * num_local

    def all_shards(self, tree: Any, axis: int = 0) -> Any:
        """Arrays of all parts of the batch, which lie along `axis`; differentiable."""
        if self.batch_axis is None:
            return tree
        return jax.tree.map(
            lambda leaf: jax.lax.all_gather(leaf, self.batch_axis, axis=axis, tiled=True), tree
        )

    def flat_shards(self, tree: Any) -> Any:
        """Arrays [S, N, ...] of all parts of the batch as those of one part, [1, S N, ...]."""
        if self.batch_axis is None:
            return tree
        return jax.tree.map(
            lambda leaf: leaf.reshape(1, -1, *leaf.shape[2:]), self.all_shards(tree)
        )

    def shared(self, total: Array) -> Array:
        """This device's share of a sum over all parts of the batch that these rows serve."""
        return total if self.batch_axis is None else total / jax.lax.axis_size(self.batch_axis)

    def own_shards(self, array_S: Array) -> Array:
        """What is this device's of an array with a first axis of all parts of the batch."""
        if self.batch_axis is None:
            return array_S
        parts = array_S.shape[0] // jax.lax.axis_size(self.batch_axis)
        begin = jax.lax.axis_index(self.batch_axis) * parts
        return jax.lax.dynamic_slice_in_dim(array_S, begin, parts)

    def summed(self, array_S: Array) -> Array:
        """Own part of the sum of arrays that hold all parts of the batch along the first axis."""
        if self.batch_axis is not None:
            array_S = jax.lax.psum_scatter(array_S, self.batch_axis, tiled=True)
        return self.sum_own(array_S)

    def sum_own(self, tree: Any) -> Any:
        """The sums over the devices that work on the same part of the batch."""
        return jax.lax.psum(tree, self.own_axes) if self.own_axes else tree

    def sum_batch(self, value: Array) -> Array:
        """The sum over the parts of the batch that these rows serve."""
        return value if self.batch_axis is None else jax.lax.psum(value, self.batch_axis)


@pytree_dataclass
class ShardedTable:
    """The rows of a table that one device holds, within `jax.shard_map`."""

    local: Float[Array, "N ..."]
    """[N, ...] one run of rows; those from V on are 0."""
    split: RowSplit = struct.field(pytree_node=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole table, [V, ...]."""
        return (self.split.num_rows, *self.local.shape[1:])

    @property
    def dtype(self) -> jnp.dtype:
        """Of its entries."""
        return self.local.dtype

    def local_index(self, index: Int[Array, "*N"]) -> tuple[Array, Array]:
        """[...] index in `local` of each row, 0 where it lies elsewhere; and [...] whether it does
        not."""
        index = index - self.split.begin(self.local.shape[0])
        here = (index >= 0) & (index < self.local.shape[0])
        return jnp.where(here, index, 0), here

    def is_row(self) -> Bool[Array, " N"]:
        """[N] whether a local row is one of the table."""
        num_local = self.local.shape[0]
        return self.split.begin(num_local) + jnp.arange(num_local) < self.split.num_rows


Table = Float[Array, "V D"] | ShardedTable | TableRows
"""A table [V, D] of vectors, one a class; of `TableRows`, some classes alone."""


def local_rows(table: Table) -> Float[Array, "N D"]:
    """The rows that are at hand: all of an array, or a device's part."""
    return table.local if isinstance(table, ShardedTable) else table


def gathered(table: Table, index_U: Int[Array, " U"]) -> Float[Array, "U D"]:
    """[U, D] rows of a table at indices that are the same on all devices; 0 where there is none."""
    if not isinstance(table, ShardedTable):
        return table.at[index_U].get(mode="fill", fill_value=0)
    index_U, here_U = table.local_index(index_U)
    rows_UD = jnp.where(here_U[:, None], table.local[index_U], 0)
    return jax.lax.psum(rows_UD, table.split.axes)


def with_added(table: Table, rows: TableRows) -> Table:
    """The table with some rows added to its own; each device has all of them."""
    if not isinstance(table, ShardedTable):
        return table.at[rows.index].add(rows.rows, mode="drop")
    index_U, here_U = table.local_index(rows.index)
    index_U = jnp.where(here_U, index_U, table.local.shape[0])
    return table.replace(local=table.local.at[index_U].add(rows.rows, mode="drop"))


def rows_at(table: Table | Array, index: Int[Array, "*N"]) -> Array:
    """[..., D] rows of a table at indices 0..V-1; the table may have other trailing axes.

    The first axis of `index` is that of the parts of a batch, if rows are split over them too.
    """
    if isinstance(table, TableRows):
        return table.at(index)
    if not isinstance(table, ShardedTable):
        return table[index]
    return _rows_at(table.split, table.local, index)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _rows_at(split: RowSplit, local: Array, index: Array) -> Array:
    index, here = ShardedTable(local, split).local_index(split.all_shards(index))
    here = here.reshape(*here.shape, *[1] * (local.ndim - 1))
    return split.summed(jnp.where(here, local[index], 0))


def _rows_at_forward(split, local, index):
    return _rows_at(split, local, index), (local, index)


def _rows_at_backward(split, inputs, cotangent):
    local, index = inputs
    index, here = ShardedTable(local, split).local_index(split.all_shards(index))
    index = jnp.where(here, index, local.shape[0])
    cotangent = split.all_shards(cotangent)
    return jnp.zeros_like(local).at[index].add(cotangent, mode="drop"), None


_rows_at.defvjp(_rows_at_forward, _rows_at_backward)


def sum_of_rows(table: Table) -> Float[Array, " D"]:
    """[D] the sum of all rows."""
    if not isinstance(table, ShardedTable):
        return table.sum(0)
    return _sum_of_rows(table.split, table.local)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_of_rows(split: RowSplit, local: Array) -> Array:
    return jax.lax.psum(local.sum(0), split.axes)


def _sum_of_rows_backward(split, local, cotangent):
    is_row = ShardedTable(local, split).is_row()[:, None]
    return (jnp.where(is_row, split.sum_batch(cotangent), 0).astype(local.dtype),)


_sum_of_rows.defvjp(lambda split, local: (_sum_of_rows(split, local), local), _sum_of_rows_backward)


def sum_of_squares(table: Table | Array) -> Float[Array, ""]:
    """The sum of the squares of all entries."""
    if not isinstance(table, ShardedTable):
        return jnp.square(table).sum()
    return _sum_of_squares(table.split, table.local)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_of_squares(split: RowSplit, local: Array) -> Array:
    return jax.lax.psum(jnp.square(local).sum(), split.axes)


def _sum_of_squares_backward(split, local, cotangent):
    return (2 * split.sum_batch(cotangent) * local,)


_sum_of_squares.defvjp(
    lambda split, local: (_sum_of_squares(split, local), local), _sum_of_squares_backward
)
