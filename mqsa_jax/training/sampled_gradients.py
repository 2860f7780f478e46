"""Gradients of losses over sampled items, by the rows of the item table that a step reads."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from mqsa_jax.data.batches import Batch
from mqsa_jax.losses.negatives import (
    ItemFrequency,
    Negatives,
    popularity_negatives,
    uniform_negatives,
    with_in_batch,
)
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.placement import ITEM_TABLE
from mqsa_jax.models.recommender import Params, Recommender
from mqsa_jax.models.relations import ItemRelations, frequency_of
from mqsa_jax.ops.sharded_table import Table, gathered, sum_of_squares, with_added
from mqsa_jax.ops.table_rows import TableRows, distinct_rows
from mqsa_jax.sampling import Sampling
from mqsa_jax.training.objective import Losses
from mqsa_jax.training.sampled_objective import StepItems, sampled_objective

_NEGATIVES_FOLD = 3
"""Separate fold, so that the other random streams are those of the full loss."""


def sampled_gradients(
    params: Params,
    batch: Batch,
    key: Key[Array, ""],
    hparams: HParams,
    relations: ItemRelations | None,
    *,
    recommender: Recommender,
    sampling: Sampling,
    axis_name: str | None = None,
) -> tuple[Params, Losses]:
    """As `gradients`, of sampled losses.

    The rows of the item table that the step reads are gathered first, on all devices, and gradients
    are by them: [U, D]. Devices exchange these and the rows, nothing of the size of the table.
    Devices that work on the same part of a batch all do the same.

    With `sampling.lazy` the gradient by the item table is `TableRows`, and l2 is of those rows.
    Without, it is whole, and so is l2.
    """
    table = params[ITEM_TABLE]
    items = step_items(batch, key, recommender, sampling, relations, axis_name)
    (_, losses), gradient = jax.value_and_grad(sampled_objective, has_aux=True)(
        {**params, ITEM_TABLE: gathered(table, items.index)},
        batch,
        key,
        items,
        recommender=recommender,
        hparams=hparams,
        sampling=sampling,
        axis_name=axis_name,
    )
    if axis_name is not None:
        gradient, losses = jax.lax.pmean((gradient, losses), axis_name)
    by_rows = TableRows(items.index, gradient[ITEM_TABLE], recommender.num_items)
    if sampling.lazy:
        return {**gradient, ITEM_TABLE: by_rows}, losses
    losses = losses.replace(loss=losses.loss + hparams.l2 / 2 * sum_of_squares(table))
    return {**gradient, ITEM_TABLE: with_added(_scaled(table, hparams.l2), by_rows)}, losses


def _scaled(table: Table, factor: Array) -> Table:
    return jax.tree.map(lambda rows: factor * rows, table)


def step_items(
    batch: Batch,
    key: Key[Array, ""],
    recommender: Recommender,
    sampling: Sampling,
    relations: ItemRelations | None = None,
    axis_name: str | None = None,
) -> StepItems:
    """Draws the negatives of a step, and finds the items that it reads.

    All positions of a step share the items drawn, on all devices, so that the number of devices
    changes no draw. Targets of the batch, where they are negatives too, are those of a shard.
    """
    shards = batch.target.shape[0]
    target_SN = batch.target.reshape(shards, -1)
    real_SN = batch.inputs.segment_ids.reshape(shards, -1) >= 0
    frequency = frequency_of(relations) if sampling.needs_frequency else None
    key = jax.random.fold_in(key, _NEGATIVES_FOLD)
    drawn = _drawn(key, sampling, recommender.num_items, frequency)
    negatives = _of_shards(drawn, sampling, frequency, target_SN, real_SN)
    return _located(batch, negatives, recommender.num_items, axis_name)


def _of_shards(
    drawn: Negatives,
    sampling: Sampling,
    frequency: ItemFrequency | None,
    target_SN: Array,
    real_SN: Array,
) -> Negatives:
    """[S, K] the negatives of each shard: those drawn, and its targets where they are some too."""
    if not sampling.in_batch:
        shards = target_SN.shape[0]
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (shards, *leaf.shape)), drawn)

    def mixed(target_N: Array, where_N: Array) -> Negatives:
        by_popularity = sampling.negatives == "popularity"
        return with_in_batch(drawn, target_N, where_N, frequency, by_popularity=by_popularity)

    return jax.vmap(mixed)(target_SN, real_SN)


def _located(
    batch: Batch, negatives: Negatives, num_items: int, axis_name: str | None
) -> StepItems:
    """Finds the items of a step, and the slot of each."""
    real_SRT = batch.inputs.segment_ids >= 0
    every_SK = jnp.ones(negatives.item.shape, bool)
    parts = [
        (batch.inputs.item, real_SRT),
        (batch.target, real_SRT),
        (batch.distinct_item, batch.distinct_count > 0),
        (negatives.item, every_SK),
    ]
    own_N, slots = _distinct_of(parts, num_items)
    input_slot, target_slot, distinct_slot, negative_slot = slots
    parts = [(own_N, own_N < num_items), (batch.successor, batch.successor_count != 0)]
    index_U, (own_slot_N, successor_slot) = _distinct_of(parts, num_items, axis_name)
    return StepItems(
        index_U,
        own_slot_N,
        input_slot,
        target_slot,
        distinct_slot,
        negatives.replace(item=negative_slot),
        successor_slot,
    )


def _distinct_of(
    parts: list[tuple[Array, Array]], num_items: int, axis_name: str | None = None
) -> tuple[Array, list[Array]]:
    """The distinct items of arrays that count, on all devices; and the arrays' slots among them."""
    item_N = jnp.concatenate([item.ravel() for item, _ in parts])
    where_N = jnp.concatenate([where.ravel() for _, where in parts])
    size = item_N.size
    if axis_name is not None:
        item_N, where_N = jax.lax.all_gather((item_N, where_N), axis_name, tiled=True)
    index_U, slot_N = distinct_rows(item_N, where_N, num_items)
    if axis_name is not None:
        slot_N = jax.lax.dynamic_slice_in_dim(slot_N, jax.lax.axis_index(axis_name) * size, size)
    ends = np.cumsum([item.size for item, _ in parts])[:-1]
    slots = jnp.split(slot_N, ends)
    return index_U, [slot.reshape(item.shape) for slot, (item, _) in zip(slots, parts, strict=True)]


def _drawn(
    key: Key[Array, ""], sampling: Sampling, num_items: int, frequency: ItemFrequency | None
) -> Negatives:
    if sampling.negatives == "popularity":
        return popularity_negatives(key, frequency, sampling.num_negatives)
    return uniform_negatives(key, num_items, sampling.num_negatives)
