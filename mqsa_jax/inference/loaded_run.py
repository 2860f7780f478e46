"""A trained or counted run, loaded without its data set: scores and lists for any history."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mqsa_jax.data.sequences import Sequences
from mqsa_jax.data.splits import Slices
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import UserError
from mqsa_jax.inference.batch_shapes import batch_size, packed_batch
from mqsa_jax.inference.explanations import BRANCHES
from mqsa_jax.inference.lists import CountedLists, Lists, TrainedLists
from mqsa_jax.inference.ranks import best_items
from mqsa_jax.inference.serving import LoadedRun, RawHistories, Unknown
from mqsa_jax.inference.stored_attributes import read_attributes
from mqsa_jax.inference.stored_model import (
    TrainingCounts,
    read_counted_model,
    read_counts,
    read_relations,
)
from mqsa_jax.models.counted import CountedModel
from mqsa_jax.models.encoder import newest_attention
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.item_vectors import item_tables, item_vectors
from mqsa_jax.models.recommender import Params, Recommender, apply, scores
from mqsa_jax.models.registry import MODELS
from mqsa_jax.models.relations import ItemRelations, attribute_matrix
from mqsa_jax.models.transition_term import with_term_factor
from mqsa_jax.runs.best_checkpoint import best_checkpoint
from mqsa_jax.runs.files import read_json
from mqsa_jax.runs.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedRun(LoadedRun):
    """A trained model. `user @ item.T` of its vectors are the scores, but for a transition term."""

    recommender: Recommender
    params: Params
    """Those that validation chose: the average over steps, where there is one."""
    hparams: HParams
    relations: ItemRelations | None

    def item_vectors(self) -> Float[Array, "V D"]:
        """[V, D] vectors of the items, in the order of `item_ids`."""
        return item_vectors(self.recommender, self.params, self.relations)

    def user_vectors(self, histories: RawHistories, *, unknown: Unknown = "raise") -> np.ndarray:
        """float32 [B, D] vector of each history, after its newest item.

        Raises:
          ValueError: as `indices`.
        """
        rows = [self.indices(history, unknown) for history in histories]
        blank = np.zeros((0, self.recommender.dim), np.float32)
        return np.concatenate([blank, *map(self._user_vectors, self._batches(rows))])

    def similar_lists(
        self, item: int | str, k: int, allowed_V: np.ndarray | None
    ) -> tuple[Lists, int]:
        """A list [1, k], and the item's index; see `LoadedRun.similar_lists`."""
        (index,) = self.indices([item])
        vector_VD = self.item_vectors()
        length_V1 = jnp.linalg.norm(vector_VD, axis=-1, keepdims=True)
        unit_VD = vector_VD / jnp.maximum(length_V1, jnp.finfo(vector_VD.dtype).tiny)
        cosine_V = jnp.einsum("vd,d->v", unit_VD, unit_VD[index], precision="highest")
        cosine_V = cosine_V.at[index].set(-jnp.inf)
        if allowed_V is not None:
            cosine_V = jnp.where(allowed_V, cosine_V, -jnp.inf)
        return Lists(*map(np.asarray, best_items(cosine_V[None], k))), int(index)

    def attention(self, rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """[U, T] by branch; see `LoadedRun.attention`."""
        if self.recommender.backbone != "attention":
            return {}
        parts = [np.zeros((2, 0, self.recommender.max_len), np.float32)]
        for batch in self._batches(rows):
            sequences, _ = self._packed(batch)
            weight_2BT = _newest_attention(
                self.recommender, self.params, sequences, self.hparams, self.relations
            )
            parts.append(np.asarray(weight_2BT)[:, : len(batch)])
        alpha = float(self.hparams.alpha)
        by_branch = zip(BRANCHES, np.concatenate(parts, axis=1), (alpha, 1 - alpha), strict=True)
        return {branch: weight_UT for branch, weight_UT, share in by_branch if share}

    def list_maker(
        self, k: int, allowed_V: np.ndarray | None, layout: DeviceLayout
    ) -> TrainedLists:
        """See `LoadedRun.list_maker`."""
        model = (self.recommender, self.params, self.hparams, self.relations)
        return TrainedLists(*model, k, allowed_V=allowed_V, layout=layout)

    def _user_vectors(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        sequences, _ = self._packed(rows)
        user_BD = _user_vectors(
            self.recommender, self.params, sequences, self.hparams, self.relations
        )
        return np.asarray(user_BD)[: len(rows)]

    def _packed(self, rows: Sequence[np.ndarray]) -> tuple[Sequences, Int[np.ndarray, " B"]]:
        """Rows aligned right, filled up to few different numbers of them; where each ends."""
        max_len = self.recommender.max_len
        padding = (1 << (len(rows) - 1).bit_length()) - len(rows)
        sequences = Sequences.of([*rows, *[rows[0]] * padding], max_len)
        return sequences, np.arange(1, len(rows) + padding + 1, dtype=np.int32) * max_len - 1

    def batch_scores(self, rows: Sequence[np.ndarray]) -> Float[Array, "B V"]:
        """See `LoadedRun.batch_scores`."""
        return self._packed_scores(*packed_batch(rows, self.recommender.max_len))

    def _packed_scores(self, sequences: Sequences, last_B: Int[np.ndarray, " B"]) -> Array:
        model = (self.recommender, self.params)
        return _item_scores(*model, sequences, last_B, self.hparams, self.relations)

    def _scores(self, rows: Sequence[np.ndarray], column_n: np.ndarray | None) -> np.ndarray:
        score_BV = self._packed_scores(*self._packed(rows))
        score_Bn = score_BV if column_n is None else score_BV[:, column_n]
        return np.asarray(score_Bn)[: len(rows)]


@dataclasses.dataclass(frozen=True, eq=False)
class CountedRun(LoadedRun):
    """A counted model."""

    model: CountedModel

    def attention(self, rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """None: a counted model does not attend."""
        return {}

    def list_maker(
        self, k: int, allowed_V: np.ndarray | None, layout: DeviceLayout
    ) -> CountedLists:
        """See `LoadedRun.list_maker`; one device is used."""
        return CountedLists(self.model, self.config.model.max_len, k, allowed_V=allowed_V)

    def batch_scores(self, rows: Sequence[np.ndarray]) -> Float[Array, "B V"]:
        """See `LoadedRun.batch_scores`."""
        behind = batch_size(len(rows)) - len(rows)
        return jnp.pad(self._scores(rows, None), ((0, behind), (0, 0)))

    def _scores(self, rows: Sequence[np.ndarray], column_n: np.ndarray | None) -> np.ndarray:
        ends = np.cumsum([len(row) for row in rows])
        begins = ends - np.minimum([len(row) for row in rows], self.config.model.max_len)
        score_BV = self.model.scores(np.concatenate(rows), Slices(begins, ends)).toarray()
        prior = 0 if self.model.prior is None else self.model.prior
        score_BV = (score_BV + prior).astype(np.float32)
        return score_BV if column_n is None else score_BV[:, column_n]


@functools.partial(jax.jit, static_argnums=0)
def _user_vectors(recommender, params, sequences, hparams, relations):
    user_BTD = apply(
        recommender,
        params,
        sequences,
        window=hparams.window,
        alpha=hparams.alpha,
        relations=relations,
    )
    return user_BTD[:, -1]


@functools.partial(jax.jit, static_argnums=0)
def _item_scores(recommender, params, sequences, last_B, hparams, relations):
    return scores(
        recommender,
        params,
        sequences,
        last_B,
        window=hparams.window,
        alpha=hparams.alpha,
        relations=relations,
    )


@functools.partial(jax.jit, static_argnums=0)
def _newest_attention(recommender, params, sequences, hparams, relations):
    item_VD = item_tables(recommender, params, relations).input
    return newest_attention(recommender.encoder, params, sequences, hparams.window, item_VD)


def load_run(path: str | os.PathLike[str]) -> TrainedRun | CountedRun:
    """Loads the best epoch of a run; its data set is not needed.

    Args:
      path: folder of a run.

    Raises:
      UserError: naming the file and what to do, if a file is damaged, missing or edited.

    Example:
      run = mqsa_jax.load_model("runs/toys-2023")
      run.recommend([[17, 230, 5]], k=10)
    """
    run_dir = RunDirectory(Path(path))
    config = run_dir.config()
    if MODELS[config.model.model].counted:
        model, item_ids = read_counted_model(run_dir)
        return CountedRun(config, 0, item_ids, *_stored_beside(run_dir, len(item_ids)), model)
    best = best_checkpoint(run_dir)
    state = best.restore_plain()
    stored = read_attributes(run_dir, best.config.attributes, best.data_fingerprint)
    recommender = Recommender.of(best.config, len(best.item_ids), **stored.sizes).in_float32()
    params = state["params"] if state.get("ema_params") is None else state["ema_params"]
    if best.term_factor != 1:
        params = with_term_factor(params, best.term_factor)
    hparams = HParams(**state["hparams"])
    relations = read_relations(run_dir, recommender, best.data_fingerprint)
    if stored.items is not None:
        relations = relations or ItemRelations()
        relations = relations.replace(attributes=attribute_matrix(stored.items))
    if params["item_embedding"].shape != (recommender.num_items, recommender.dim):
        raise UserError(f"{best.folder}: parameters of another shape than the configuration's")
    return TrainedRun(
        best.config,
        best.epoch,
        best.item_ids,
        *_stored_beside(run_dir, len(best.item_ids)),
        recommender,
        params,
        hparams,
        relations,
    )


def _stored_beside(
    run_dir: RunDirectory, num_items: int
) -> tuple[Path, str | None, Callable[[], TrainingCounts]]:
    """The folder of a run, the fingerprint of its data, and what reads its counts."""
    fingerprint = read_json(run_dir.config_file).get("data_fingerprint")
    return run_dir.path, fingerprint, functools.partial(read_counts, run_dir, num_items)
