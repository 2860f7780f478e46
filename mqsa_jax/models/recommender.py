"""The recommender: histories in, user vectors and scores of all items out.

`Recommender` (`architecture.py`) holds the sizes and parts of a model, nothing trained; `init`
makes its parameters and the other functions read them. All are pure, for `jit`, `vmap` and `grad`.

    score(u, j) = user_u . item_j [+ transition term of u's latest items, for a few j]
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mqsa_jax.config import TermConfig
from mqsa_jax.data.sequences import Sequences, position_units
from mqsa_jax.data.user_traits import UserTraits
from mqsa_jax.layers.dropout import keep_masks
from mqsa_jax.models.architecture import Params, Recommender, part_of
from mqsa_jax.models.encoder import rows_are_valid
from mqsa_jax.models.item_vectors import ItemTables, item_parts, item_tables
from mqsa_jax.models.relations import ItemRelations, neighbours_of
from mqsa_jax.models.trait_vectors import trait_parts, trait_vectors
from mqsa_jax.models.transition_term import (
    future_items,
    past_items,
    term_init,
    transition_term,
)
from mqsa_jax.ops.sharded_scores import Scores, scores_of, with_sparse
from mqsa_jax.ops.sharded_table import Table
from mqsa_jax.ops.sparse_logits import SparseLogits, is_index


def init(
    recommender: Recommender,
    key: Key[Array, ""],
    *,
    term_weight: Float[Array, ""] | float = TermConfig.term_weight,
    term_decay: Float[Array, ""] | float = TermConfig.term_decay,
) -> Params:
    """All parameters: normal(0.01) embeddings, Glorot uniform kernels, zero biases.

    Args:
      recommender: the model.
      key: randomness of the draws.
      term_weight: weight of the newest item's transitions in the transition term.
      term_decay: factor of that weight from an item to the one before it.

    Returns:
      `item_embedding` [V, D] and the encoder's others; `graph`, `attribute_embedding`,
      `trait_embedding` and `transition_term` for models that have such parts.
    """
    blank_1T = jnp.zeros((1, recommender.max_len), jnp.int32)
    blank = Sequences(blank_1T, blank_1T, blank_1T)
    params = recommender.encoder.init(key, blank, 1, 0.5)["params"]
    params = {**params, **item_parts(recommender, key), **trait_parts(recommender, key)}
    if recommender.num_recent:
        term = term_init(term_weight, term_decay, recommender.num_recent)
        params = {**params, "transition_term": term}
    return params


def apply(
    recommender: Recommender,
    params: Params,
    sequences: Sequences,
    *,
    window: Int[Array, ""] | int,
    alpha: Float[Array, ""] | float,
    dropout: Float[Array, ""] | float = 0.0,
    key: Key[Array, ""] | None = None,
    relations: ItemRelations | None = None,
    item_VD: Table | None = None,
    traits: UserTraits | None = None,
) -> Float[Array, "*B T D"]:
    """User vector at every position of every history.

    Args:
      recommender: the model.
      params: as `init` returns them.
      sequences: histories, packed or one a row, [..., T] each.
      window: L, the query window of the long branch; may be traced.
      alpha: weight of the short branch, 0 to 1; may be traced.
      dropout: probability of dropping a unit; may be traced. Used only with a key.
      key: randomness of dropout; None, as at evaluation: nothing is dropped.
      relations: what some models make their item vectors of, beside the parameters.
      item_VD: [V, D] `item_tables(...).input`, where it is at hand; None: made here.
      traits: of the users; None: nothing is known of them, and their traits add nothing.

    Returns:
      [..., T, D]; the last position of a history holds the vector that predicts its next item. A
      row is NaN if it has an item outside 0..V-1 or a position outside 0..`max_len` - 1.

    Raises:
      ValueError: if T is below `max_len`, the model needs relations that are missing, or `item_VD`
        has another shape.
    """
    if sequences.item.shape[-1] < recommender.max_len:
        raise ValueError(
            f"rows have {sequences.item.shape[-1]} positions, but the recommender's max_len is "
            f"{recommender.max_len}, and the newest item of a history has position max_len - 1"
        )
    if item_VD is None:
        item_VD = item_tables(recommender, params, relations).input
    _check_table(recommender, item_VD)
    sequences = jax.tree.map(jnp.asarray, sequences)
    encoder, masks = recommender.encoder, None
    if key is not None:
        widths = encoder.mask_widths(sequences.segment_ids.shape[-1])
        masks = keep_masks(key, dropout, position_units(sequences), widths)
    user_TD = encoder.apply({"params": params}, sequences, window, alpha, masks, item_VD)
    if traits is not None:
        user_TD += trait_vectors(recommender, params, traits, sequences.segment_ids)
    valid = rows_are_valid(sequences, recommender.num_items, recommender.max_len)
    return user_TD * jnp.where(valid, 1, jnp.nan)[..., None, None]


def _check_table(recommender: Recommender, item_VD: Table) -> None:
    expected = (recommender.num_items, recommender.dim)
    if item_VD.shape != expected:
        raise ValueError(f"item vectors have shape {item_VD.shape}, expected [V, D] = {expected}")


def score_term(
    recommender: Recommender,
    params: Params,
    sequences: Sequences,
    relations: ItemRelations | None,
    *,
    last_B: Int[Array, "*S B"] | None = None,
    target_T: Int[Array, "*S R T"] | None = None,
) -> SparseLogits | None:
    """The transition term of the scores, [..., K W] at every position; None if there is none.

    Args:
      recommender: the model.
      params: as `init` returns them.
      sequences: histories packed into rows, [..., R, T].
      relations: item transitions.
      last_B: [..., B] positions in the flat [R, T] to score at; None: at all of them.
      target_T: [..., R, T] next items, in training: what the histories themselves added to the
        counts is taken out again. None: the histories were not counted.

    Returns:
      [..., B, K W], or [..., R, T, K W].

    Raises:
      ValueError: if the neighbours, or the term's parameters, are missing.
    """
    if not recommender.num_recent:
        return None
    term_params = part_of(params, "transition_term", f"num_recent={recommender.num_recent}")
    neighbours = neighbours_of(relations, recommender.num_recent)
    span = neighbours.step_weight.shape[-1]
    past_P = past_items(sequences.item, sequences.segment_ids, recommender.num_recent + span)
    if last_B is not None:
        past_P = _at(past_P, last_B)
    future_F = None
    if target_T is not None:
        future_F = future_items(target_T, sequences.segment_ids, span)
    return transition_term(term_params, past_P, neighbours, future_F)


def scores(
    recommender: Recommender,
    params: Params,
    sequences: Sequences,
    last_B: Int[Array, "*S B"] | None = None,
    *,
    window: Int[Array, ""] | int,
    alpha: Float[Array, ""] | float,
    relations: ItemRelations | None = None,
    tables: ItemTables | None = None,
    traits: UserTraits | None = None,
) -> Scores:
    """[..., B, V] scores of all items as the next one of each history; none is left out.

    Args:
      recommender, params, window, alpha, relations, traits: as of `apply`.
      sequences: histories packed into rows, [..., R, T].
      last_B: [..., B] position of each history's newest item in the flat [R, T]; its scores are NaN
        if no history is there. None: the end of each row, for one history a row.
      tables: what `item_tables` gives, where it is at hand; None: made here.

    Raises:
      ValueError: as `apply`.
    """
    last_B = _last_positions(sequences, last_B)
    if tables is None:
        tables = item_tables(recommender, params, relations)
    user_TD = apply(
        recommender,
        params,
        sequences,
        window=window,
        alpha=alpha,
        item_VD=tables.input,
        traits=traits,
    )
    score_BV = scores_of(_at(user_TD, last_B), tables.score)
    term = score_term(recommender, params, sequences, relations, last_B=last_B)
    return score_BV if term is None else with_sparse(score_BV, term)


def _last_positions(sequences: Sequences, last_B: Array | None) -> Array:
    """[..., B] `last_B`, or the end of each row; R T, where a gather finds NaN, for no history."""
    *shards, rows, length = sequences.segment_ids.shape
    if last_B is None:
        last_B = jnp.broadcast_to(jnp.arange(1, rows + 1) * length - 1, (*shards, rows))
    segment_ids_B1 = _at(jnp.asarray(sequences.segment_ids)[..., None], last_B)
    valid_B = is_index(last_B, rows * length) & (segment_ids_B1[..., 0] >= 0)
    return jnp.where(valid_B, last_B, rows * length)


def _at(value_RTK: Array, index_B: Int[Array, "*S B"]) -> Array:
    """[..., B, K] the values [..., R, T, K] at those positions of the flat [R, T]."""
    *shards, _, _, width = value_RTK.shape
    return jnp.take_along_axis(value_RTK.reshape(*shards, -1, width), index_B[..., None], axis=-2)
