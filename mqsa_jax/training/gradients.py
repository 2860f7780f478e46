"""Gradients of the objective: of a whole batch, or averaged over devices."""

from collections.abc import Callable

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Key

from mqsa_jax.data.batches import Batch
from mqsa_jax.devices import DATA_AXIS, DeviceLayout
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.placement import ITEM_TABLE, as_tables, specs
from mqsa_jax.models.recommender import Params, Recommender
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.ops.sharded_table import ShardedTable
from mqsa_jax.training.objective import Losses, objective

Gradients = Callable[..., tuple[Params, Losses]]
"""`gradients`, or another function of the same arguments."""


def gradients(
    params: Params,
    batch: Batch,
    key: Key[Array, ""],
    hparams: HParams,
    relations: ItemRelations | None,
    *,
    recommender: Recommender,
    axis_name: str | None = None,
) -> tuple[Params, Losses]:
    """Gradient of `objective` by the parameters, and the losses.

    With `axis_name`, those of this device's part of the batch, averaged over that mapped axis.
    """
    (_, losses), gradient = jax.value_and_grad(objective, has_aux=True)(
        params,
        batch,
        key,
        recommender=recommender,
        hparams=hparams,
        relations=relations,
        axis_name=axis_name,
    )
    if axis_name is not None:
        gradient, losses = _averaged(gradient, losses, axis_name)
    return gradient, losses


def _averaged(gradient: Params, losses: Losses, axis_name: str) -> tuple[Params, Losses]:
    """One reduction for all; tables that are split over the axis too are summed already."""

    def is_table(leaf: object) -> bool:
        return isinstance(leaf, ShardedTable)

    leaves, tree = jax.tree.flatten(gradient, is_leaf=is_table)
    summed = [is_table(leaf) and axis_name in leaf.split.axes for leaf in leaves]
    parts = [leaf for leaf, done in zip(leaves, summed, strict=True) if not done]
    parts, losses = jax.lax.pmean((parts, losses), axis_name)
    parts, size = iter(parts), jax.lax.axis_size(axis_name)
    leaves = [
        jax.tree.map(lambda rows: rows / size, leaf) if done else next(parts)
        for leaf, done in zip(leaves, summed, strict=True)
    ]
    return tree.unflatten(leaves), losses


def mesh_gradients(
    layout: DeviceLayout, of_part: Gradients = gradients, by_rows: bool = False
) -> Gradients:
    """Gradients of arrays on a mesh: each device takes its part of the batch and of the tables.

    `of_part` makes those of a part; with `by_rows`, that of the item table as `TableRows`.

    Between devices go the rows that are looked up, the sums of the softmax, and once a step the
    gradients: of tables that are split over all axes, none.
    """

    def on_mesh(params, batch, key, hparams, relations, *, recommender):
        def body(params, batch, key, hparams, relations):
            params, relations = as_tables((params, relations), layout, recommender.num_items)
            gradient, losses = of_part(
                params,
                batch,
                key,
                hparams,
                relations,
                recommender=recommender,
                axis_name=DATA_AXIS,
            )
            return _without_tables(gradient), losses

        whole, split = PartitionSpec(), PartitionSpec(DATA_AXIS)
        batch_specs = jax.tree.map(lambda leaf: split if leaf.ndim else whole, batch)
        param_specs = specs(params, layout)
        out_specs = {**param_specs, ITEM_TABLE: whole} if by_rows else param_specs
        in_specs = (param_specs, batch_specs, whole, whole, specs(relations, layout))
        # Checks of what varies along an axis would make the reductions that are made here by hand.
        mapped = jax.shard_map(
            body,
            mesh=layout.mesh,
            in_specs=in_specs,
            out_specs=(out_specs, whole),
            check_vma=False,
        )
        return mapped(params, batch, key, hparams, relations)

    return on_mesh


def _without_tables(tree):
    return jax.tree.map(
        lambda leaf: leaf.local if isinstance(leaf, ShardedTable) else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, ShardedTable),
    )
