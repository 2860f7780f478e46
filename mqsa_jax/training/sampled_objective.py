"""The objective of losses over sampled items, of a table whose rows that a step reads are given."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key

from mqsa_jax.data.batches import Batch
from mqsa_jax.layers.dropout import keep_mask
from mqsa_jax.losses.negatives import Negatives
from mqsa_jax.losses.sampled_distillation import distillation_losses
from mqsa_jax.losses.sampled_ranking import gbce_losses, softmax_losses
from mqsa_jax.losses.teacher import TeacherRows, teacher_rows
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.placement import ITEM_TABLE
from mqsa_jax.models.recommender import Params, Recommender, apply
from mqsa_jax.ops.table_rows import TableRows
from mqsa_jax.pytree import pytree_dataclass
from mqsa_jax.sampling import Sampling
from mqsa_jax.training.objective import Losses, data_weight, decayed_squares


@pytree_dataclass
class StepItems:
    """What a step reads of the item table, and where each item of its batch is among that.

    U items of all devices; N of this one's without successors. A slot is a column of one of these.
    """

    index: Int32[Array, " U"]
    """All items that the step reads, ascending, those of all devices; V behind the last."""
    own: Int32[Array, " N"]
    """Slots in `index` of the inputs, targets and negatives of this device, each item once."""
    input: Int32[Array, "S R T"]
    """Slots in `own` of the input items; like those below, 0 at padding."""
    target: Int32[Array, "S R T"]
    """Slots in `own` of the targets."""
    distinct: Int32[Array, "S I"]
    """Slots in `own` of the batch's distinct items."""
    negatives: Negatives
    """[S, K]; their items are slots in `own`."""
    successor: Int32[Array, "S M"]
    """Slots in `index` of the successors, which are many: their rows are read once, in one pass."""


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
    read = TableRows(items.index, params[ITEM_TABLE], recommender.num_items)
    # Every pass over the rows that a step reads has a gradient of their size.
    own = TableRows(items.index[items.own], read.at(items.own), recommender.num_items)
    user_SRTD = apply(
        recommender,
        params,
        batch.inputs.replace(item=items.input),
        window=hparams.window,
        alpha=hparams.alpha,
        dropout=hparams.dropout,
        key=encoder_key,
        item_VD=own,
        traits=batch.traits,
    )
    weight = data_weight(batch, axis_name)
    loss_rec = weight * _ranking(user_SRTD, own, batch, items, recommender, sampling)

    def distillation() -> Float[Array, ""]:
        return weight * _distillation(batch, student_key, read, own, hparams, items, recommender)

    loss_kd = jax.lax.cond(hparams.lambda_kd > 0, distillation, lambda: jnp.zeros(()))
    decayed = params if sampling.lazy else {**params, ITEM_TABLE: jnp.zeros(())}
    loss = loss_rec + hparams.lambda_kd * loss_kd + hparams.l2 / 2 * decayed_squares(decayed)
    return loss, Losses(loss, *jax.lax.stop_gradient((loss_rec, loss_kd)))


def _ranking(
    user_SRTD: Array,
    own: TableRows,
    batch: Batch,
    items: StepItems,
    recommender: Recommender,
    sampling: Sampling,
) -> Array:
    """Sum of the ranking losses of all positions."""
    shards, rows, length, dim = user_SRTD.shape

    def losses(user_ND: Array, target_N: Array, negatives: Negatives) -> Array:
        if sampling.ranking_loss == "gbce":
            calibration, precision = sampling.calibration, recommender.precision
            return gbce_losses(user_ND, own, target_N, negatives, calibration, precision)
        return softmax_losses(user_ND, own, target_N, negatives, recommender.precision)

    user_SND = user_SRTD.reshape(shards, rows * length, dim)
    loss_SN = jax.vmap(losses)(user_SND, items.target.reshape(shards, -1), items.negatives)
    real_SN = batch.inputs.segment_ids.reshape(shards, -1) >= 0
    return jnp.where(real_SN, loss_SN, 0).sum()


def _distillation(
    batch: Batch,
    key: Key[Array, ""],
    read: TableRows,
    own: TableRows,
    hparams: HParams,
    items: StepItems,
    recommender: Recommender,
) -> Array:
    """Sum of the distillation losses of the distinct items, each times its count."""
    # One dropout mask for all occurrences of an item in a shard, as with the full loss.
    mask_SID = keep_mask(key, hparams.dropout, batch.distinct_item, own.shape[-1])
    real_SI = batch.distinct_count > 0
    student_SID = own.shape[-1] ** 0.5 * own.at(items.distinct) * mask_SID
    labels = teacher_rows(
        items.distinct,
        batch.successor_row,
        items.successor,
        batch.successor_count,
        recommender.num_items,
        hparams.tau,
    )

    def losses(
        student_ID: Array, successor_MD: Array, labels: TeacherRows, negatives: Negatives
    ) -> Array:
        negative_KD = own.at(negatives.item)
        # Successors are slots in all that is read, and negatives are compared with them.
        negatives = negatives.replace(item=items.own[negatives.item])
        return distillation_losses(
            student_ID,
            successor_MD,
            negative_KD,
            labels,
            hparams.tau,
            negatives,
            recommender.precision,
        )

    successor_SMD = read.at(items.successor)
    loss_SI = jax.vmap(losses)(student_SID, successor_SMD, labels, items.negatives)
    return (batch.distinct_count * jnp.where(real_SI, loss_SI, 0)).sum()
