"""The combined objective of a batch: ranking, distillation and l2."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Key

from mqsa_jax.data.batches import Batch
from mqsa_jax.data.sequences import position_units
from mqsa_jax.layers.dropout import keep_mask
from mqsa_jax.layers.item_graph import regularisation
from mqsa_jax.losses.cross_entropy import LinearCrossEntropy, combine
from mqsa_jax.losses.distillation import distillation_cross_entropy
from mqsa_jax.losses.ranking import ranking_cross_entropy
from mqsa_jax.losses.teacher import teacher_rows
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.item_vectors import ItemTables, item_tables
from mqsa_jax.models.recommender import Params, Recommender, apply, score_term
from mqsa_jax.models.relations import ItemRelations, graph_of
from mqsa_jax.ops.sharded_table import rows_at, sum_of_squares
from mqsa_jax.ops.sparse_logits import SparseLogits
from mqsa_jax.pytree import pytree_dataclass
from mqsa_jax.training.leaf_stacks import LeafStacks

TERM_FOLD, ID_FOLD = 2, 3
"""Folded into a step's key for the term, and for items that lose their own vectors, so that either
leaves the other random streams unchanged."""


@pytree_dataclass
class Losses:
    """What a step reports, in nats per position; with one more leading axis, many steps."""

    loss: Float32[Array, "*steps"]
    """`loss_rec + lambda_kd loss_kd + l2 / 2 sum of squares`, and what a graph adds."""
    loss_rec: Float32[Array, "*steps"]
    """Ranking loss."""
    loss_kd: Float32[Array, "*steps"]
    """Distillation loss; 0 where `lambda_kd` is 0, as it is not computed then."""


def objective(
    params: Params,
    batch: Batch,
    key: Key[Array, ""],
    *,
    recommender: Recommender,
    hparams: HParams,
    relations: ItemRelations | None = None,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], Losses]:
    """The combined objective `L_rec + lambda L_kd + l2 / 2 |theta|^2` of a batch [S, ...].

    With `axis_name`, this device's part of it, so scaled that the mean over the axis is the whole.
    """
    encoder_key, student_key = jax.random.split(key)
    tables = item_tables(recommender, params, relations, jax.random.fold_in(key, ID_FOLD))
    tables = tables.of_first(recommender.num_items - recommender.num_cold)
    user_SRTD = apply(
        recommender,
        params,
        batch.inputs,
        window=hparams.window,
        alpha=hparams.alpha,
        dropout=hparams.dropout,
        key=encoder_key,
        item_VD=tables.input,
        traits=batch.traits,
    )
    shards, rows, length, dim = user_SRTD.shape
    weight = data_weight(batch, axis_name)
    # Both losses need the logits of rows over the catalogue: described here, computed by `combine`.
    ranking = ranking_cross_entropy(
        user_SRTD.reshape(shards, rows * length, dim),
        tables.score,
        batch.target.reshape(shards, -1),
        weight * (batch.inputs.segment_ids.reshape(shards, -1) >= 0),
        sparse=_term(recommender, params, batch, key, hparams, relations),
    )
    distillation = _distillation(batch, student_key, tables, hparams, weight)
    loss, (loss_rec, loss_kd) = combine(
        [ranking, distillation], tables.score, [1.0, hparams.lambda_kd], recommender.precision
    )
    loss += hparams.l2 / 2 * decayed_squares(params)
    if recommender.graph == "regularised":
        loss += hparams.lambda_graph * regularisation(
            tables.input, graph_of(relations, recommender.graph)
        )
    return loss, Losses(loss, loss_rec, loss_kd)


def data_weight(batch: Batch, axis_name: str | None) -> Float[Array, ""]:
    """Weight of a position in the mean over all; with `axis_name`, in a mean over its devices."""
    scale = 1.0 if axis_name is None else jax.lax.axis_size(axis_name)
    return scale / jnp.maximum(batch.num_positions, 1)


def decayed_squares(params: Params) -> Float[Array, ""]:
    """Of all parameters but the weights of the term, which are no vectors to be kept short."""
    decayed = {name: leaf for name, leaf in params.items() if name != "transition_term"}
    tables = LeafStacks.of(decayed).stacked(decayed).values()
    return sum(map(sum_of_squares, tables))


def _term(
    recommender: Recommender,
    params: Params,
    batch: Batch,
    key: Key[Array, ""],
    hparams: HParams,
    relations: ItemRelations | None,
) -> SparseLogits | None:
    """[S, R T, K W] the transition term of the scores, without what the history itself adds.

    Some positions train without it, so that the encoder learns what the term knows too: where it is
    left to the term, item vectors stay behind, and with them all that they generalise to.
    """
    if not recommender.term_trained:
        return None
    inputs = batch.inputs
    term = score_term(recommender, params, inputs, relations, target_T=batch.target)
    if term is None:
        return None
    term_key = jax.random.fold_in(key, TERM_FOLD)
    keep_SRT1 = keep_mask(term_key, hparams.term_dropout, position_units(inputs), 1) > 0
    term = term.replace(value=term.value * keep_SRT1)
    shards = inputs.item.shape[0]
    return jax.tree.map(lambda leaf: leaf.reshape(shards, -1, leaf.shape[-1]), term)


def _distillation(
    batch: Batch,
    key: Key[Array, ""],
    tables: ItemTables,
    hparams: HParams,
    weight: Float[Array, ""],
) -> LinearCrossEntropy:
    """The distillation loss of the distinct items of a batch, each weighted by its count."""
    # The occurrences of an item in a shard have one row of the student, with one dropout mask.
    dim = tables.input.shape[-1]
    mask_SID = keep_mask(key, hparams.dropout, batch.distinct_item, dim)
    labels = teacher_rows(
        batch.distinct_item,
        batch.successor_row,
        batch.successor,
        batch.successor_count,
        tables.score.shape[0],
        hparams.tau,
    )
    return distillation_cross_entropy(
        dim**0.5 * rows_at(tables.input, batch.distinct_item) * mask_SID,
        tables.score,
        weight * batch.distinct_count,
        labels,
        hparams.tau,
    )
