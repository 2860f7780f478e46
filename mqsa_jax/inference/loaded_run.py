"""A trained or counted run, loaded without its data set: scores and lists for any history."""

import abc
import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mqsa_jax.config import Config
from mqsa_jax.data.ids import is_text
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.data.splits import Slices
from mqsa_jax.errors import UserError
from mqsa_jax.inference.ranks import NO_ITEM, top_items
from mqsa_jax.inference.stored_model import read_counted_model, read_relations
from mqsa_jax.models.counted import CountedModel, recommendable
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Params, Recommender, apply, item_vectors, scores
from mqsa_jax.models.registry import MODELS
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.models.transition_term import with_term_factor
from mqsa_jax.ops.chunk_loop import chunk_rows
from mqsa_jax.runs.best_checkpoint import best_checkpoint
from mqsa_jax.runs.run_directory import RunDirectory

RawHistories = Sequence[Sequence[int] | Sequence[str] | np.ndarray]
"""Items of each user, ids as in the data, oldest first."""
Unknown = Literal["raise", "skip"]
"""What becomes of an id that the training data do not have."""


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedRun(abc.ABC):
    """The best epoch of a run, or a counted model, with the vocabulary that it was made on."""

    config: Config
    """As it was trained."""
    epoch: int
    """The best epoch; 0 for a counted model."""
    item_ids: np.ndarray
    """int64 or strings [V] id of each item in the data, ascending; its position is its index."""

    @property
    def num_items(self) -> int:
        """V."""
        return len(self.item_ids)

    def indices(
        self, history: Sequence[int] | Sequence[str] | np.ndarray, unknown: Unknown = "raise"
    ) -> np.ndarray:
        """int32 indices of a history's items, in its order.

        Raises:
          ValueError: naming ids that are not in the vocabulary, if they are not to be skipped; if
            no id is left; or if the history is no sequence of ids of the data's kind.
        """
        if unknown not in get_args(Unknown):
            raise ValueError(f"unknown must be one of {get_args(Unknown)}, got {unknown!r}")
        ids = np.asarray(history)
        if ids.ndim != 1:
            raise ValueError(f"a history must be a sequence of item ids, got {history!r}")
        if ids.size and (ids.dtype.kind not in ("TU" if is_text(self.item_ids) else "iu")):
            wanted = "strings" if is_text(self.item_ids) else "integers"
            raise ValueError(f"item ids must be {wanted}, got {ids.dtype}")
        ids = ids.astype(self.item_ids.dtype)
        index = np.minimum(np.searchsorted(self.item_ids, ids), self.num_items - 1)
        known = self.item_ids[index] == ids
        if not known.all() and unknown == "raise":
            odd = ids[~known][:5].tolist()
            raise ValueError(f"items {odd} are not among the {self.num_items} of the training data")
        if not known.any():
            raise ValueError("a history holds no item of the training data")
        return index[known].astype(np.int32)

    def scores(self, histories: RawHistories, *, unknown: Unknown = "raise") -> np.ndarray:
        """float32 [B, V] score of every item as the next one; items already consumed included.

        Args:
          histories: B histories, of which the last `config.model.max_len` items are read.
          unknown: what becomes of ids that the training data do not have.

        Raises:
          ValueError: as `indices`.
        """
        rows = [self.indices(history, unknown) for history in histories]
        blank = np.zeros((0, self.num_items), np.float32)
        return np.concatenate([blank, *map(self._scores, self._batches(rows))])

    def top_items(
        self,
        histories: RawHistories,
        k: int,
        *,
        exclude_seen: bool = True,
        unknown: Unknown = "raise",
    ) -> list[list[tuple[int | str, float]]]:
        """For each history the k items of highest score, best first, as pairs (id, score).

        Args:
          histories, unknown: as of `scores`.
          k: length of the lists, at least 1; a list is shorter where fewer items are left.
          exclude_seen: leave out every item of the history itself, also beyond `max_len`.

        Raises:
          ValueError: as `indices`, or if k is below 1.
        """
        rows, lists = [self.indices(history, unknown) for history in histories], []
        for batch in self._batches(rows):
            score_BV = self._scores(batch)
            seen = [np.unique(row) for row in batch] if exclude_seen else []
            user_M = np.repeat(np.arange(len(seen)), [len(items) for items in seen])
            item_M = np.concatenate(seen) if seen else user_M
            arrays = (self._recommendable(score_BV), user_M.astype(np.int32), item_M)
            best_BK = np.asarray(top_items(*map(jnp.asarray, arrays), k))
            for best_K, score_V in zip(best_BK, score_BV, strict=True):
                kept = best_K[best_K != NO_ITEM]
                ids, values = self.item_ids[kept].tolist(), score_V[kept].tolist()
                lists.append(list(zip(ids, values, strict=True)))
        return lists

    def _batches(self, rows: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """As many histories at a time as evaluation scores at once."""
        size = chunk_rows(len(rows), self.num_items, jax.local_devices()[0].platform)
        for begin in range(0, len(rows), size):
            yield rows[begin : begin + size]

    @abc.abstractmethod
    def _scores(self, rows: list[np.ndarray]) -> np.ndarray:
        """float32 [B, V] scores after each history of indices."""

    def _recommendable(self, score_BV: np.ndarray) -> np.ndarray:
        """The scores, -inf at items that are never recommended."""
        return score_BV


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

    def _user_vectors(self, rows: list[np.ndarray]) -> np.ndarray:
        sequences, _ = self._packed(rows)
        user_BD = _user_vectors(
            self.recommender, self.params, sequences, self.hparams, self.relations
        )
        return np.asarray(user_BD)[: len(rows)]

    def _packed(self, rows: list[np.ndarray]) -> tuple[Sequences, Int[np.ndarray, " B"]]:
        """Rows aligned right, filled up to few different numbers of them; where each ends."""
        max_len = self.recommender.max_len
        padding = (1 << (len(rows) - 1).bit_length()) - len(rows)
        sequences = Sequences.of([*rows, *[rows[0]] * padding], max_len)
        return sequences, np.arange(1, len(rows) + padding + 1, dtype=np.int32) * max_len - 1

    def _scores(self, rows: list[np.ndarray]) -> np.ndarray:
        sequences, last_B = self._packed(rows)
        score_BV = _item_scores(
            self.recommender, self.params, sequences, last_B, self.hparams, self.relations
        )
        return np.asarray(score_BV)[: len(rows)]


@dataclasses.dataclass(frozen=True, eq=False)
class CountedRun(LoadedRun):
    """A counted model."""

    model: CountedModel

    def _scores(self, rows: list[np.ndarray]) -> np.ndarray:
        ends = np.cumsum([len(row) for row in rows])
        begins = ends - np.minimum([len(row) for row in rows], self.config.model.max_len)
        score_BV = self.model.scores(np.concatenate(rows), Slices(begins, ends)).toarray()
        prior = 0 if self.model.prior is None else self.model.prior
        return (score_BV + prior).astype(np.float32)

    def _recommendable(self, score_BV: np.ndarray) -> np.ndarray:
        return recommendable(score_BV)


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


def load_run(path: str | os.PathLike[str]) -> TrainedRun | CountedRun:
    """Loads the best epoch of a run; its data set is not needed.

    Args:
      path: folder of a run.

    Raises:
      UserError: naming the file and what to do, if a file is damaged, missing or edited.

    Example:
      run = mqsa_jax.load_run("runs/toys-2023")
      run.top_items([[17, 230, 5]], k=10)
    """
    run_dir = RunDirectory(Path(path))
    config = run_dir.config()
    if MODELS[config.model.model].counted:
        model, item_ids = read_counted_model(run_dir)
        return CountedRun(config, 0, item_ids, model)
    best = best_checkpoint(run_dir)
    state = best.restore_plain()
    recommender = Recommender.of(best.config, len(best.item_ids)).in_float32()
    params = state["params"] if state.get("ema_params") is None else state["ema_params"]
    if best.term_factor != 1:
        params = with_term_factor(params, best.term_factor)
    hparams = HParams(**state["hparams"])
    relations = read_relations(run_dir, recommender, best.data_fingerprint)
    if params["item_embedding"].shape != (recommender.num_items, recommender.dim):
        raise UserError(f"{best.folder}: parameters of another shape than the configuration's")
    return TrainedRun(
        best.config, best.epoch, best.item_ids, recommender, params, hparams, relations
    )
