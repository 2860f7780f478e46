"""What an export computes: histories in, user vectors and the transition term's entries out.

A pure function of the tensors and of one array of histories, so that it needs nothing of this
package once it is lowered.

Shape legend: B histories, N items given of each, T items that are read, V items, D width, K recent
items, W neighbours of an item, M entries of a counted model's matrix.
"""

import dataclasses

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from mqsa_jax.data.sequences import Sequences
from mqsa_jax.export.tensors import Tensors, exported_recommender, params_of
from mqsa_jax.inference.loaded_run import CountedRun, TrainedRun
from mqsa_jax.models.recommender import Recommender, apply
from mqsa_jax.models.transition_term import transition_term

PLATFORMS = ("cpu", "cuda", "tpu")


def exported_program(run: TrainedRun | CountedRun) -> "TrainedProgram | CountedProgram":
    """The program of a run; equal ones are compiled once."""
    max_len = run.config.model.max_len
    if isinstance(run, CountedRun):
        model = run.model
        return CountedProgram(run.num_items, max_len, float(model.decay), int(model.num_recent))
    recommender = exported_recommender(run.recommender)
    return TrainedProgram(recommender, int(run.hparams.window), float(run.hparams.alpha))


@dataclasses.dataclass(frozen=True)
class TrainedProgram:
    """The program of a trained model, which gives

    - `user_vector` [B, D]; its product with `item_vectors` are the scores, but for a term,
    - `term_item`, `term_score` [B, K W] of a model with a transition term: what is to be added to
      the scores of some items. An item that is named twice gets both.

    Histories are [B, N] int32 item indices, the newest last, -1 in front of the oldest; N is any
    number, and the last `max_len` are read. A row gives NaN if it has no item, -1 behind an item,
    or an index of V or above.
    """

    recommender: Recommender
    window: int
    alpha: float

    @property
    def outputs(self) -> list[str]:
        """Names of what it gives."""
        return [
            *(["term_item", "term_score"] if self.recommender.num_recent else []),
            "user_vector",
        ]

    def __call__(self, tensors: Tensors, history_BN: Int[Array, "B N"]) -> dict[str, Array]:
        """The outputs by name."""
        recommender = self.recommender
        item_BT = _last_items(history_BN, recommender.max_len)
        params, relations = params_of(tensors)
        real_BT = item_BT >= 0
        # Indices outside the table are an error in ONNX Runtime, even of rows that give NaN.
        known_BT = real_BT & (item_BT < recommender.num_items)
        position_T = jnp.arange(recommender.max_len, dtype=jnp.int32)
        sequences = Sequences(
            jnp.where(known_BT, item_BT, 0),
            jnp.broadcast_to(position_T, item_BT.shape),
            jnp.where(real_BT, 0, -1).astype(jnp.int32),
        )
        # In full on every device, as scores are at evaluation.
        with jax.default_matmul_precision("highest"):
            settings = {"window": self.window, "alpha": self.alpha}
            user_BTD = apply(recommender, params, sequences, **settings)
        valid_B1 = (_is_history(item_BT) & (known_BT == real_BT).all(-1))[:, None]
        outputs = {"user_vector": jnp.where(valid_B1, user_BTD[:, -1], jnp.nan)}
        if recommender.num_recent:
            span = relations.neighbours.step_weight.shape[-1]
            past_BP = _last_items(jnp.where(known_BT, item_BT, -1), recommender.num_recent + span)
            term_params = params["transition_term"]
            term = transition_term(term_params, past_BP[:, ::-1], relations.neighbours)
            outputs |= {"term_item": term.item, "term_score": term.value}
        return outputs


@dataclasses.dataclass(frozen=True)
class CountedProgram:
    """The program of a counted model, which gives `score` [B, V]; histories as `TrainedProgram`.

    Items of score 0 are never recommended.
    """

    num_items: int
    max_len: int
    decay: float
    num_recent: int

    @property
    def outputs(self) -> list[str]:
        """Names of what it gives."""
        return ["score"]

    def __call__(self, tensors: Tensors, history_BN: Int[Array, "B N"]) -> dict[str, Array]:
        """The outputs by name."""
        item_BT = _last_items(history_BN, self.max_len)
        valid_B = _is_history(item_BT) & (item_BT < self.num_items).all(-1)
        prior_V = tensors.get("prior", jnp.zeros(self.num_items))
        score_BV = jnp.broadcast_to(prior_V, (*item_BT.shape[:1], self.num_items))
        if self.num_recent:
            score_BV = score_BV + self._recent_scores(tensors, item_BT)
        return {"score": jnp.where(valid_B[:, None], score_BV, jnp.nan)}

    def _recent_scores(self, tensors: Tensors, item_BT: Array) -> Array:
        """[B, V] `sum_k decay^k M[item k back]`, an entry of M at a time for all histories."""
        item_V = jnp.arange(self.num_items)
        recent_BV = 0.0
        for back in range(min(self.num_recent, self.max_len)):
            is_recent_BV = item_BT[:, -1 - back][:, None] == item_V
            recent_BV = recent_BV + jnp.where(is_recent_BV, self.decay**back, 0.0)
        entry_BM = recent_BV[:, tensors["matrix.row"]] * tensors["matrix.weight"]
        return jnp.zeros_like(recent_BV).at[:, tensors["matrix.item"]].add(entry_BM)


def _last_items(item_BN: Int[Array, "B N"], length: int) -> Int[Array, "B T"]:
    """The last items of each row, -1 in front where there are fewer."""
    return jnp.pad(item_BN, ((0, 0), (length, 0)), constant_values=-1)[:, -length:]


def _is_history(item_BT: Int[Array, "B T"]) -> Bool[Array, " B"]:
    """[B] whether a row ends with an item, and has no gap."""
    real_BT = item_BT >= 0
    return real_BT[:, -1] & ~(real_BT[:, :-1] & ~real_BT[:, 1:]).any(-1)


def stablehlo(program: TrainedProgram | CountedProgram, tensors: Tensors) -> bytes:
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
