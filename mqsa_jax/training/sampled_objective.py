"""The objective of losses over sampled items, of a table whose rows that a step reads are given."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int32, Key

from mqsa_jax.data.batches import Batch
from mqsa_jax.layers.dropout import keep_mask
from mqsa_jax.losses.negatives import Negatives
from mqsa_jax.losses.sampled_distillation import distillation_losses
from mqsa_jax.losses.sampled_ranking import gbce_losses, softmax_losses
from mqsa_jax.losses.teacher import TeacherRows, teacher_rows
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.placement import ITEM_TABLE
from mqsa_jax.models.recommender import Params, Recommender, apply
from mqsa_jax.ops.sharded_table import rows_at
from mqsa_jax.ops.table_rows import TableRows
from mqsa_jax.pytree import pytree_dataclass
from mqsa_jax.sampling import Sampling
from mqsa_jax.training.objective import Losses, data_weight, decayed_squares


@pytree_dataclass
class StepItems:
    """What a step reads beside its batch. U items, K negatives."""

    index: Int32[Array, " U"]
    """All items that it reads, ascending, those of all devices; V behind the last."""
    negatives: Negatives
    """[S, K]."""


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
    table = TableRows(items.index, params[ITEM_TABLE], recommender.num_items)
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
        traits=batch.traits,
    )
    weight = data_weight(batch, axis_name)
    loss_rec = weight * _ranking(user_SRTD, table, batch, items.negatives, recommender, sampling)

    def distillation() -> Float[Array, ""]:
        return weight * _distillation(batch, student_key, table, hparams, items, recommender)

    loss_kd = jax.lax.cond(hparams.lambda_kd > 0, distillation, lambda: jnp.zeros(()))
    decayed = params if sampling.lazy else {**params, ITEM_TABLE: jnp.zeros(())}
    loss = loss_rec + hparams.lambda_kd * loss_kd + hparams.l2 / 2 * decayed_squares(decayed)
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
    student_SID = table.shape[-1] ** 0.5 * rows_at(table, item_SI) * mask_SID
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
