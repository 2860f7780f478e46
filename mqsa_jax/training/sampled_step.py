"""The training step of losses over sampled items: it reads few rows of the item table."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Int32, Key

from mqsa_jax.data.batches import Batch
from mqsa_jax.layers.dropout import keep_mask
from mqsa_jax.losses.negatives import (
    ItemFrequency,
    Negatives,
    popularity_negatives,
    uniform_negatives,
    with_in_batch,
)
from mqsa_jax.losses.sampled_distillation import distillation_losses
from mqsa_jax.losses.sampled_ranking import gbce_losses, softmax_losses
from mqsa_jax.losses.teacher import TeacherRows, teacher_rows
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Params, Recommender, apply
from mqsa_jax.models.relations import ItemRelations, frequency_of
from mqsa_jax.ops.table import TableRows, distinct_rows, lookup, rows_of
from mqsa_jax.pytree import pytree_dataclass
from mqsa_jax.sampling import Sampling
from mqsa_jax.training.optimizer import TF_ADAM
from mqsa_jax.training.state import TrainState
from mqsa_jax.training.step import Losses, after_update, data_weight, sum_of_squares

ITEMS = "item_embedding"
"""The parameter that is the item table."""
_NEGATIVES_FOLD = 3
"""Separate fold, so that the other random streams are those of the full loss."""


@pytree_dataclass
class StepItems:
    """What a step reads beside its batch. U items, K negatives."""

    index: Int32[Array, " U"]
    """All items that it reads, ascending, those of all devices; V behind the last."""
    negatives: Negatives
    """[S, K]."""


def sampled_train_step(
    state: TrainState,
    batch: Batch,
    key: Key[Array, ""],
    *,
    recommender: Recommender,
    sampling: Sampling,
    relations: ItemRelations | None = None,
    optimizer: optax.GradientTransformation = TF_ADAM,
    axis_name: str | None = None,
) -> tuple[TrainState, Losses]:
    """`train_step` with sampled losses.

    The rows of the table that the step reads are gathered first, and gradients are by them: [U, D].
    Only the optimiser, unless it is lazy, and with it l2, go over all V.

    With `sampling.lazy`, the optimiser updates the rows that the step reads, and their moments,
    alone, and l2 is of those rows: "lazy Adam". That is not Adam: moments of an item do not decay
    in steps that do not read it, nor do they move it there, and an item's l2 counts only in steps
    that read it.

    Args:
      sampling: what is sampled.
      state, batch, key, recommender, relations, optimizer, axis_name: as of `train_step`.

    Returns:
      As `train_step`.
    """
    key = jax.random.fold_in(key, state.step)
    items = step_items(batch, key, recommender, sampling, relations, axis_name)
    table_VD, l2 = state.params[ITEMS], state.hparams.l2
    params = {**state.params, ITEMS: rows_of(table_VD, items.index)}
    (_, losses), gradient = jax.value_and_grad(sampled_objective, has_aux=True)(
        params,
        batch,
        key,
        items,
        recommender=recommender,
        hparams=state.hparams,
        sampling=sampling,
        axis_name=axis_name,
    )
    if axis_name is not None:
        gradient, losses = jax.lax.pmean((gradient, losses), axis_name)
    if sampling.lazy:
        return _lazily_updated(state, gradient, items.index, optimizer), losses
    # What is left out of the objective: l2 of the table.
    losses = losses.replace(loss=losses.loss + l2 / 2 * jnp.square(table_VD).sum())
    gradient_VD = (l2 * table_VD).at[items.index].add(gradient[ITEMS], mode="drop")
    return after_update(state, {**gradient, ITEMS: gradient_VD}, optimizer), losses


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
    read = [
        (batch.distinct_item, batch.distinct_count > 0),
        (target_SN, real_SN),
        (batch.successor, batch.successor_count != 0),
        (drawn.item, jnp.ones(drawn.item.shape, bool)),
    ]
    item_N = jnp.concatenate([item.ravel() for item, _ in read])
    where_N = jnp.concatenate([where.ravel() for _, where in read])
    if axis_name is not None:
        item_N, where_N = jax.lax.all_gather((item_N, where_N), axis_name, tiled=True)
    index_U = distinct_rows(item_N, where_N, recommender.num_items)
    if sampling.in_batch:

        def mixed(target_N: Array, where_N: Array) -> Negatives:
            by_popularity = sampling.negatives == "popularity"
            return with_in_batch(drawn, target_N, where_N, frequency, by_popularity=by_popularity)

        return StepItems(index_U, jax.vmap(mixed)(target_SN, real_SN))
    shared = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (shards, *leaf.shape)), drawn)
    return StepItems(index_U, shared)


def _drawn(
    key: Key[Array, ""], sampling: Sampling, num_items: int, frequency: ItemFrequency | None
) -> Negatives:
    if sampling.negatives == "popularity":
        return popularity_negatives(key, frequency, sampling.num_negatives)
    return uniform_negatives(key, num_items, sampling.num_negatives)


def sampled_objective(
    params: Params,
    batch: Batch,
    key: Key[Array, ""],
    items: StepItems,
    *,
    recommender: Recommender,
    hparams: HParams,
    sampling: Sampling,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], Losses]:
    """`objective` with sampled losses; l2 of the item table only if updates are lazy.

    Args:
      params: the item table is given by its rows `items.index`, [U, D].
      batch, key, recommender, hparams, axis_name: as of `objective`; the key is the step's own.
      items: as `step_items` gives them.
      sampling: what is sampled.
    """
    encoder_key, student_key = jax.random.split(key)
    table = TableRows(items.index, params[ITEMS], recommender.num_items)
    batch = _without_blanks(batch, items.index[0])
    user_SRTD = apply(
        recommender,
        params,
        batch.inputs,
        window=hparams.window,
        alpha=hparams.alpha,
        dropout=hparams.dropout,
        key=encoder_key,
        item_VD=table,
    )
    weight = data_weight(batch, axis_name)
    loss_rec = weight * _ranking(user_SRTD, table, batch, items.negatives, recommender, sampling)

    def distillation() -> Float[Array, ""]:
        return weight * _distillation(batch, student_key, table, hparams, items, recommender)

    loss_kd = jax.lax.cond(hparams.lambda_kd > 0, distillation, lambda: jnp.zeros(()))
    decayed = params if sampling.lazy else {**params, ITEMS: jnp.zeros(())}
    loss = loss_rec + hparams.lambda_kd * loss_kd + hparams.l2 / 2 * sum_of_squares(decayed)
    return loss, Losses(loss, *jax.lax.stop_gradient((loss_rec, loss_kd)))


def _without_blanks(batch: Batch, item: Int[Array, ""]) -> Batch:
    """The batch with an item that the step reads where it has none: its loss is not counted."""
    real = batch.inputs.segment_ids >= 0
    inputs = batch.inputs.replace(item=jnp.where(real, batch.inputs.item, item))
    return batch.replace(inputs=inputs, target=jnp.where(real, batch.target, item))


def _ranking(
    user_SRTD: Array,
    table: TableRows,
    batch: Batch,
    negatives: Negatives,
    recommender: Recommender,
    sampling: Sampling,
) -> Array:
    """Sum of the ranking losses of all positions."""
    shards, rows, length, dim = user_SRTD.shape

    def losses(user_ND: Array, target_N: Array, negatives: Negatives) -> Array:
        if sampling.ranking_loss == "gbce":
            calibration, precision = sampling.calibration, recommender.precision
            return gbce_losses(user_ND, table, target_N, negatives, calibration, precision)
        return softmax_losses(user_ND, table, target_N, negatives, recommender.precision)

    user_SND = user_SRTD.reshape(shards, rows * length, dim)
    loss_SN = jax.vmap(losses)(user_SND, batch.target.reshape(shards, -1), negatives)
    real_SN = batch.inputs.segment_ids.reshape(shards, -1) >= 0
    return jnp.where(real_SN, loss_SN, 0).sum()


def _distillation(
    batch: Batch,
    key: Key[Array, ""],
    table: TableRows,
    hparams: HParams,
    items: StepItems,
    recommender: Recommender,
) -> Array:
    """Sum of the distillation losses of the distinct items, each times its count."""
    # One dropout mask for all occurrences of an item in a shard, as with the full loss.
    mask_SID = keep_mask(key, hparams.dropout, batch.distinct_item, table.shape[-1])
    real_SI = batch.distinct_count > 0
    item_SI = jnp.where(real_SI, batch.distinct_item, items.index[0])
    student_SID = table.shape[-1] ** 0.5 * lookup(table, item_SI) * mask_SID
    labels = teacher_rows(
        item_SI,
        batch.successor_row,
        jnp.where(batch.successor_count != 0, batch.successor, items.index[0]),
        batch.successor_count,
        recommender.num_items,
        hparams.tau,
    )

    def losses(student_ID: Array, labels: TeacherRows, negatives: Negatives) -> Array:
        precision = recommender.precision
        return distillation_losses(student_ID, table, labels, hparams.tau, negatives, precision)

    loss_SI = jax.vmap(losses)(student_SID, labels, items.negatives)
    return (batch.distinct_count * jnp.where(real_SI, loss_SI, 0)).sum()


def _lazily_updated(
    state: TrainState, gradient: Params, index_U: Array, optimizer: optax.GradientTransformation
) -> TrainState:
    """The state after an update of some rows of the item table, and of their moments."""
    key = jax.tree_util.DictKey(ITEMS)
    whole = {"params": state.params, "opt_state": state.opt_state}

    def taken(path, leaf: Array) -> Array:
        return rows_of(leaf, index_U) if key in path else leaf

    def put(path, leaf: Array, new: Array) -> Array:
        if key not in path:
            return new
        return leaf.at[index_U].set(new, mode="drop", indices_are_sorted=True)

    few = state.replace(**jax.tree_util.tree_map_with_path(taken, whole))
    after = after_update(few, gradient, optimizer)
    new = {"params": after.params, "opt_state": after.opt_state}
    return after.replace(**jax.tree_util.tree_map_with_path(put, whole, new))
