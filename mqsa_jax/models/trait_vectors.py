"""What the traits of users add to their vectors: `sum_{t of u} G_t / n_u^power`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mqsa_jax.data.user_traits import UserTraits
from mqsa_jax.models.architecture import Params, Recommender, part_of
from mqsa_jax.models.encoder import EMBEDDING_STDDEV

_FOLD = 2**31 - 3
"""Folded into the key: other parameters are drawn as in a model without traits."""


def trait_parts(recommender: Recommender, key: Key[Array, ""]) -> Params:
    """Parameters: vectors of the traits, where there are any."""
    if not recommender.num_traits:
        return {}
    shape = (recommender.num_traits, recommender.dim)
    drawn = jax.random.normal(jax.random.fold_in(key, _FOLD), shape)
    return {"trait_embedding": EMBEDDING_STDDEV * drawn}


def trait_vectors(
    recommender: Recommender,
    params: Params,
    traits: UserTraits,
    segment_ids_T: Int[Array, "*S R T"],
) -> Float[Array, "*S R T D"]:
    """[..., T, D] what the traits of the user add at every position of packed histories.

    Raises:
      ValueError: if the vectors of the traits are missing.
    """
    table = part_of(params, "trait_embedding", f"num_traits={recommender.num_traits}")
    user_BD = jnp.einsum("...bk,...bkd->...bd", traits.weight, table[traits.index])
    *shards, num_users, dim = user_BD.shape
    column_T = jnp.maximum(segment_ids_T, 0) // traits.stride
    flat_N1 = column_T.reshape(*shards, -1, 1)
    return jnp.take_along_axis(user_BD, flat_N1, axis=-2).reshape(*segment_ids_T.shape, dim)
