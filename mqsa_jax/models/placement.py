"""Where item tables lie on a mesh: parameters, moments and averages with a row an item.

On a mesh that splits items, their tables are filled up with rows of zeros to a number that divides.
All else is replicated.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.tree_util import KeyPath, tree_map_with_path

from mqsa_jax.devices import DeviceLayout
from mqsa_jax.ops.sharded_table import ShardedTable

ITEM_TABLE = "item_embedding"
"""Name of the item vectors among the parameters."""


def is_item_table(path: KeyPath) -> bool:
    """Whether the leaf at a path has a row an item.

    They are the item vectors, in parameters and in what optimisers and averages keep of them, and
    the neighbours of the transition term.
    """
    names = [getattr(key, "key", getattr(key, "name", None)) for key in path]
    return ITEM_TABLE in names or ("neighbours" in names and names[-1] != "step_weight")


def specs(tree: Any, layout: DeviceLayout) -> Any:
    """How each leaf is partitioned, for `jax.shard_map`; a `PartitionSpec` a leaf."""

    def spec(path: KeyPath, leaf: Any) -> PartitionSpec:
        split = is_item_table(path) and jnp.ndim(leaf) and layout.item_axes
        return PartitionSpec(layout.item_axes) if split else PartitionSpec()

    return tree_map_with_path(spec, tree)


def shardings(tree: Any, layout: DeviceLayout) -> Any:
    """Where each leaf lies; a `NamedSharding` a leaf."""
    return jax.tree.map(
        lambda spec: NamedSharding(layout.mesh, spec),
        specs(tree, layout),
        is_leaf=lambda spec: isinstance(spec, PartitionSpec),
    )


def filled_up(tree: Any, layout: DeviceLayout, num_items: int) -> Any:
    """Item tables with rows of zeros behind the last, so that they divide over the mesh."""
    behind = layout.item_rows(num_items) - num_items

    def fill(path: KeyPath, leaf: Any) -> Any:
        if not behind or not is_item_table(path) or leaf.shape[:1] != (num_items,):
            return leaf
        return jnp.pad(leaf, ((0, behind), *[(0, 0)] * (leaf.ndim - 1)))

    return tree_map_with_path(fill, tree)


def place(tree: Any, layout: DeviceLayout, num_items: int) -> Any:
    """A pytree of the host on the devices, item tables filled up and split, all else replicated."""
    tree = filled_up(tree, layout, num_items)
    return layout.put(tree, shardings(tree, layout))


def cut(tree: Any, num_items: int) -> Any:
    """Item tables without the rows that fill them up."""

    def rows(path: KeyPath, leaf: Any) -> Any:
        return leaf[:num_items] if is_item_table(path) and jnp.ndim(leaf) else leaf

    return tree_map_with_path(rows, tree)


def as_tables(tree: Any, layout: DeviceLayout, num_items: int) -> Any:
    """Within `jax.shard_map`: this device's part of each item table as a `ShardedTable`."""
    if not layout.item_axes:
        return tree
    split = layout.row_split(num_items)
    return tree_map_with_path(
        lambda path, leaf: ShardedTable(leaf, split) if is_item_table(path) else leaf, tree
    )
