"""Small parameters of equal shape as one array, so that an operation on all of them is one kernel.

A model has a table of item vectors and tens of small leaves, for each of which an optimiser
launches kernels of its own. On a GPU the launches take longer than the work.
"""

import dataclasses
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp

from mqsa_jax.models.placement import ITEM_TABLE
from mqsa_jax.models.recommender import Params
from mqsa_jax.ops.sharded_table import ShardedTable


@dataclasses.dataclass(frozen=True)
class LeafStacks:
    """Which leaves of a parameter tree are stacked, and in which order."""

    structure: Any
    """Of the tree: a `PyTreeDef`."""
    groups: tuple[tuple[str, tuple[int, ...]], ...]
    """Name of each stack, that of its first leaf, and the indices of its leaves in the tree."""

    @classmethod
    def of(cls, params: Params) -> "LeafStacks":
        """Stacks of the leaves of equal shape and dtype.

        Within a stack leaves are sorted by their names without the first one: those of the long and
        of the short branch are neighbours, so that the encoder's own stack of the two is a slice.
        """
        leaves, structure = jax.tree.flatten_with_path(
            params, is_leaf=lambda leaf: isinstance(leaf, ShardedTable)
        )
        by_kind: dict[Hashable, list[tuple[str, int]]] = {}
        for index, (path, leaf) in enumerate(leaves):
            first, *rest = (str(key.key) for key in path)
            # The item table is left as it is: it may be sharded over devices, by rows.
            kind = first if first == ITEM_TABLE else (leaf.shape, leaf.dtype)
            by_kind.setdefault(kind, []).append(("/".join([*rest, first]), index))
        groups = map(sorted, by_kind.values())
        return cls(structure, tuple((g[0][0], tuple(index for _, index in g)) for g in groups))

    def stacked(self, params: Params) -> Params:
        """One array a group: [K, ...] of K leaves; of one alone, the leaf itself."""
        leaves = self.structure.flatten_up_to(params)
        return {
            name: leaves[group[0]] if len(group) == 1 else jnp.stack([leaves[at] for at in group])
            for name, group in self.groups
        }

    def unstacked(self, stacks: Params) -> Params:
        """The inverse of `stacked`."""
        leaves: list[Any] = [None] * self.structure.num_leaves
        for name, group in self.groups:
            parts = [stacks[name]] if len(group) == 1 else list(stacks[name])
            for at, leaf in zip(group, parts, strict=True):
                leaves[at] = leaf
        return self.structure.unflatten(leaves)
