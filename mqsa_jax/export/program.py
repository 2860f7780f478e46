"""What an export computes: histories in, user vectors and the transition term's entries out.

A pure function of the tensors and of one array of histories, so that it needs nothing of this
package once it is lowered.

Shape legend: B histories, N items given of each, T items that are read, V items, D width, K recent
items, W neighbours of an item, M entries of a counted model's matrix.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from mqsa_jax.data.sequences import Sequences
from mqsa_jax.export.tensors import Tensors, params_of
from mqsa_jax.models.recommender import Recommender, apply
from mqsa_jax.models.transition_term import transition_term

PLATFORMS = ("cpu", "cuda", "tpu")
Program = Callable[[Tensors, Int[Array, "B N"]], dict[str, Array]]
"""Tensors and histories to outputs by name."""


def trained_program(recommender: Recommender, window: int, alpha: float) -> Program:
    """The program of a trained model, which gives

    - `user_vector` [B, D]; its product with `item_vectors` are the scores, but for a term,
    - `term_item`, `term_score` [B, K W] of a model with a transition term: what is to be added to
      the scores of some items. An item that is named twice gets both.

    Histories are [B, N] int32 item indices, the newest last, -1 in front of the oldest; N is any
    number, and the last `max_len` are read. A row gives NaN if it has no item, -1 behind an item,
    or an index of V or above.
    """
    return partial(_encode, recommender, window, alpha)


def _encode(recommender, window, alpha, tensors, history_BN):
    item_BT = _last_items(history_BN, recommender.max_len)
    params, relations = params_of(tensors)
    position_BT = jnp.broadcast_to(jnp.arange(recommender.max_len, dtype=jnp.int32), item_BT.shape)
    real_BT = item_BT >= 0
    sequences = Sequences(
        jnp.where(real_BT, item_BT, 0), position_BT, jnp.where(real_BT, 0, -1).astype(jnp.int32)
    )
    # In full on every device, as scores are at evaluation.
    with jax.default_matmul_precision("highest"):
        user_BTD = apply(recommender, params, sequences, window=window, alpha=alpha)
    valid_B1 = _is_history(item_BT)[:, None]
    outputs = {"user_vector": jnp.where(valid_B1, user_BTD[:, -1], jnp.nan)}
    if recommender.num_recent:
        span = relations.neighbours.step_weight.shape[-1]
        past_BP = _last_items(item_BT, recommender.num_recent + span)[:, ::-1]
        term = transition_term(params["transition_term"], past_BP, relations.neighbours)
        outputs |= {"term_item": term.item, "term_score": term.value}
    return outputs


def counted_program(num_items: int, max_len: int, decay: float, num_recent: int) -> Program:
    """The program of a counted model, which gives `score` [B, V]; histories as `trained_program`.

    Items of score 0 are never recommended.
    """
    return partial(_count, num_items, min(max_len, num_recent), max_len, decay)


def _count(num_items, num_recent, max_len, decay, tensors, history_BN):
    item_BT = _last_items(history_BN, max_len)
    valid_B = _is_history(item_BT) & (item_BT < num_items).all(-1)
    prior_V = tensors.get("prior", jnp.zeros(num_items))
    score_BV = jnp.broadcast_to(prior_V, (*item_BT.shape[:1], num_items))
    if num_recent:
        score_BV = score_BV + _recent_scores(tensors, item_BT, num_items, num_recent, decay)
    return {"score": jnp.where(valid_B[:, None], score_BV, jnp.nan)}


def _recent_scores(tensors, item_BT, num_items, num_recent, decay):
    """[B, V] `sum_k decay^k M[item k back]`, an entry of M at a time for all histories."""
    item_V = jnp.arange(num_items)
    recent_BV = 0.0
    for back in range(num_recent):
        is_recent_BV = item_BT[:, -1 - back][:, None] == item_V
        recent_BV = recent_BV + jnp.where(is_recent_BV, decay**back, 0.0)
    item_M, row_start = tensors["matrix.item"], tensors["matrix.row_start"]
    row_M = jnp.searchsorted(row_start, jnp.arange(item_M.shape[0]), side="right") - 1
    entry_BM = jnp.take(recent_BV, row_M, axis=1) * tensors["matrix.weight"]
    return jnp.zeros_like(recent_BV).at[:, item_M].add(entry_BM)


def _last_items(item_BN: Int[Array, "B N"], length: int) -> Int[Array, "B T"]:
    """The last items of each row, -1 in front where there are fewer."""
    return jnp.pad(item_BN, ((0, 0), (length, 0)), constant_values=-1)[:, -length:]


def _is_history(item_BT: Int[Array, "B T"]) -> Bool[Array, " B"]:
    """[B] whether a row ends with an item, and has no gap."""
    real_BT = item_BT >= 0
    return real_BT[:, -1] & ~(real_BT[:, :-1] & ~real_BT[:, 1:]).any(-1)


def stablehlo(program: Program, tensors: Tensors) -> bytes:
    """The program lowered for all of `PLATFORMS`, as `jax.export.deserialize` reads it.

    `call` takes the tensors, all of those in the file, and int32 histories [B, N] of any B and N.
    """
    shapes = {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in tensors.items()
    }
    num_users, num_given = jax.export.symbolic_shape("b, n")
    history = jax.ShapeDtypeStruct((num_users, num_given), jnp.int32)
    exported = jax.export.export(jax.jit(program), platforms=PLATFORMS)(shapes, history)
    return bytes(exported.serialize())
