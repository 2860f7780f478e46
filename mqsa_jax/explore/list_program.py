"""One compiled program for the lists of a history by every part of a model.

alpha, the window and the weight of the transition term are traced: another value compiles nothing.

Shape legend: P parts of the scores, V items, K items of a list, T positions, R recent items of the
term.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mqsa_jax.data.sequences import Sequences
from mqsa_jax.data.user_traits import UserTraits
from mqsa_jax.inference.ranks import best_items, ranks_of
from mqsa_jax.models.encoder import newest_attention
from mqsa_jax.models.item_vectors import item_tables
from mqsa_jax.models.recommender import Params, Recommender, apply, score_term
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.models.transition_term import with_term_factor
from mqsa_jax.ops.sharded_scores import only_allowed, scores_of, with_sparse
from mqsa_jax.pytree import pytree_dataclass

PARTS = ("model", "mixed", "short", "long", "term")
"""The scores as a whole; the encoder's, of both branches and of each; the transition term's."""


@pytree_dataclass
class Settings:
    """What a person moves."""

    window: Int[Array, ""]
    """L of the long branch."""
    alpha: Float[Array, ""]
    """Weight of the short branch."""
    term_factor: Float[Array, ""]
    """Times the weight of the transition term; 0 or above."""


@pytree_dataclass
class PartLists:
    """Lists by the parts of the scores, and what they say of one item."""

    items: Int[Array, "P K"]
    """Best first; -1 behind the last."""
    scores: Float[Array, "P K"]
    item_score: Float[Array, " P"]
    """Score of the one item."""
    item_rank: Float[Array, " P"]
    """Its rank; inf if it is left out, or the term has nothing to say of it."""
    attention: Float[Array, "B T"]
    """Attention of the newest item by branch, short and long; [0, T] without attention."""
    from_recent: Float[Array, " R"]
    """Of the one item: its term's score by the recent item it comes from, newest first."""


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def part_lists(
    recommender: Recommender,
    parts: Sequence[str],
    k: int,
    params: Params,
    sequences: Sequences,
    settings: Settings,
    allowed_V: Bool[Array, " V"],
    item: Int[Array, ""],
    relations: ItemRelations | None,
    traits: UserTraits | None,
) -> PartLists:
    """The lists of one history by some of `PARTS`.

    Args:
      recommender: the model.
      parts: P names of `PARTS`; a tuple.
      k: length of the lists.
      params: of the model.
      sequences: the history, [1, T].
      settings: window, alpha and the factor of the term's weight.
      allowed_V: [V] whether an item may be listed.
      item: index of an item to say more of.
      relations: item transitions, if the model needs them.
      traits: of the user whose history it is; None: the model has none.
    """
    tables = item_tables(recommender, params, relations)
    score_3V = _branch_scores(recommender, params, sequences, settings, tables, traits)
    score_of = dict(zip(("mixed", "short", "long"), score_3V, strict=True))
    score_of |= {"model": score_of["mixed"], "term": jnp.full_like(score_3V[0], -jnp.inf)}
    from_recent = jnp.zeros(0)
    if recommender.num_recent:
        term = _newest_term(recommender, params, sequences, settings.term_factor, relations)
        score_of["model"] = with_sparse(score_of["mixed"][None], term)[0]
        term_V = with_sparse(jnp.zeros_like(score_3V[:1]), term)[0]
        # Most items have no term: they tie, and none of them belongs into a list.
        score_of["term"] = jnp.where(term_V > 0, term_V, -jnp.inf)
        own_N = jnp.where(term.item[0] == item, term.value[0], 0)
        from_recent = own_N.reshape(recommender.num_recent, -1).sum(-1)
    score_PV = jnp.stack([score_of[part] for part in parts])
    listed_PV = only_allowed(score_PV, allowed_V)
    return PartLists(
        *best_items(listed_PV, k),
        score_PV[:, item],
        ranks_of(listed_PV, jnp.broadcast_to(item, len(parts))),
        _attention(recommender, params, sequences, settings.window, tables.input),
        from_recent,
    )


def _branch_scores(recommender, params, sequences, settings, tables, traits):
    """[3, V] scores by both branches, the short and the long one, without the term."""

    def user_vector(alpha: Array) -> Array:
        user_1TD = apply(
            recommender,
            params,
            sequences,
            window=settings.window,
            alpha=alpha,
            item_VD=tables.input,
            traits=traits,
        )
        return user_1TD[0, -1]

    # Only the mixture depends on alpha: the branches themselves run once.
    alphas = jnp.stack([settings.alpha, jnp.float32(1), jnp.float32(0)])
    return scores_of(jax.vmap(user_vector)(alphas), tables.score)


def _newest_term(recommender, params, sequences, factor, relations):
    """The transition term after the newest item, its weight times a factor."""
    term = score_term(recommender, with_term_factor(params, factor), sequences, relations)
    return jax.tree.map(lambda leaf_1TN: leaf_1TN[:, -1], term)


def _attention(recommender, params, sequences, window, item_VD):
    """[2, T] of the short and the long branch; [0, T] for other backbones."""
    if recommender.backbone != "attention":
        return jnp.zeros((0, recommender.max_len))
    return newest_attention(recommender.encoder, params, sequences, window, item_VD)[:, 0]
