"""A model with its programs compiled: histories of item indices in, scores and lists out.

Shape legend: B histories of a batch, as its static shape has them, U of them real; V items; K items
of a list.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mqsa_jax.errors import UserError
from mqsa_jax.inference.batch_shapes import SHAPES, batch_size
from mqsa_jax.inference.explanations import Explanations
from mqsa_jax.inference.lists import Lists
from mqsa_jax.inference.ranks import best_items
from mqsa_jax.inference.recommend import queries_of
from mqsa_jax.inference.serving import LoadedRun
from mqsa_jax.inference.stored_model import TrainingCounts
from mqsa_jax.models.counted import recommendable
from mqsa_jax.models.registry import MODELS

EXPLAINED = 8
"""Lists that get reasons at a time."""
LIST_SIZES = (16, 128, 1024)
"""K of the programs that make lists; a list is cut to what was asked for."""


class Engine:
    """What a server computes with. Used by one thread at a time."""

    def __init__(self, model: LoadedRun, max_k: int):
        """Takes the model, and the length of the longest lists."""
        self.model = model
        self._sizes = [*(size for size in LIST_SIZES if size < max_k), max_k]
        self._is_counted = MODELS[model.config.model.model].counted
        # Read now: later the folder may hold another model, or be gone.
        self.counts: TrainingCounts | None = None
        self.without_counts = ""
        try:
            self.counts = model.counts
        except UserError as error:
            self.without_counts = str(error)

    @property
    def has_vectors(self) -> bool:
        """Whether the model has item vectors, which `cosines` compares."""
        return not self._is_counted

    @functools.cached_property
    def _unit_VD(self) -> Array:
        vector_VD = self.model.item_vectors()
        length_V1 = jnp.linalg.norm(vector_VD, axis=-1, keepdims=True)
        return vector_VD / jnp.maximum(length_V1, jnp.finfo(vector_VD.dtype).tiny)

    @functools.cached_property
    def _by_popularity(self) -> np.ndarray:
        """Items that occur in training, the most frequent first."""
        order_V = np.argsort(-self.counts.items, kind="stable")
        return order_V[: np.count_nonzero(self.counts.items)]

    def warm_up(self) -> None:
        """Compiles every program that requests need, and runs it once.

        Raises:
          FloatingPointError: if a score is NaN.
        """
        max_len = self.model.config.model.max_len
        for shape in SHAPES:
            length = max_len if shape.rows == shape.histories else 1
            rows = [np.arange(length) % self.model.num_items] * shape.histories
            score_BV = self.scores(rows)
            for k in self._sizes:
                self.lists(score_BV, k, np.zeros(score_BV.shape, bool), len(rows))
        if self.has_vectors:
            for size in sorted({shape.histories for shape in SHAPES}):
                self.cosines([0] * size)
        if self.counts is not None:
            lists = self.lists(self.scores(rows[:1]), 1, np.zeros((1, self.model.num_items), bool))
            self.explanations(rows[:1], lists)
            assert self._by_popularity is not None

    def scores(self, rows: Sequence[np.ndarray]) -> Float[Array, "B V"]:
        """[B, V] scores of all items after at most `MAX_BATCH` histories of indices."""
        return self.model.batch_scores(rows)

    def cosines(self, items: Sequence[int]) -> Float[Array, "B V"]:
        """[B, V] cosines between the vectors of some items, at most `MAX_BATCH`, and all others."""
        item_B = np.zeros(batch_size(len(items)), np.int32)
        item_B[: len(items)] = items
        return _cosines(self._unit_VD, item_B)

    def lists(
        self,
        score_BV: Float[Array, "B V"],
        k: int,
        excluded_BV: Bool[np.ndarray, "B V"],
        num_users: int = 1,
        *,
        of_cosines: bool = False,
    ) -> Lists:
        """The k items of highest score of each of the first U = `num_users` rows.

        Args:
          score_BV: [B, V] as `scores` or `cosines` give them.
          k: length of the lists.
          excluded_BV: [B, V] whether an item is left out of a list.
          num_users: U.
          of_cosines: whether the scores are cosines, which may be 0 or less in any model's lists.

        Raises:
          FloatingPointError: if a score is NaN.
        """
        size = min(size for size in self._sizes if size >= k)
        above_zero = self._is_counted and not of_cosines
        best = _best(score_BV, excluded_BV, k=size, above_zero=above_zero)
        item_UK, score_UK = (np.asarray(each)[:num_users, :k] for each in best)
        if np.isnan(score_UK).any():
            raise FloatingPointError("scores are not numbers (NaN)")
        return Lists(item_UK, score_UK)

    def popular(self, k: int, allowed_V: np.ndarray | None) -> np.ndarray:
        """The k most frequent items of training, or as many as there are.

        Raises:
          UserError: if the model does not hold the counts.
        """
        if self.counts is None:
            raise UserError(self.without_counts)
        order_N = self._by_popularity
        return (order_N if allowed_V is None else order_N[allowed_V[order_N]])[:k]

    def explanations(self, rows: Sequence[np.ndarray], lists: Lists) -> Explanations:
        """Why the items of at most `EXPLAINED` lists are there.

        Raises:
          UserError: if the model does not hold the counts.
        """
        if self.counts is None:
            raise UserError(self.without_counts)
        behind = EXPLAINED - len(rows)
        rows = [*rows, *[rows[0]] * behind]
        length_U = np.array([len(row) for row in rows])
        sizes = (self.model.num_items, self.model.config.model.max_len)
        queries = queries_of(np.concatenate(rows), length_U, *sizes, "none")
        padded = (
            np.pad(each, ((0, behind), (0, 0)), "edge") for each in (lists.items, lists.scores)
        )
        return self.model.explanations(queries, Lists(*padded))

    def followers(self, item: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k items that followed one most often in training, and their weighted counts."""
        matrix = self.counts.transitions
        some = slice(*matrix.indptr[item : item + 2])
        item_N, count_N = matrix.indices[some], matrix.data[some]
        order_N = np.lexsort((item_N, -count_N))[:k]
        return item_N[order_N], count_N[order_N]

    def examples(self, number: int) -> list[Any]:
        """Ids for examples: the most frequent items, or the first ones."""
        found = self._by_popularity if self.counts is not None else np.arange(number)
        return self.names(found[:number])

    def names(self, item_N: np.ndarray) -> list[Any]:
        """Ids of items as the data have them, nested as the indices are."""
        return self.model.item_ids[item_N].tolist()


@functools.partial(jax.jit, static_argnames=("k", "above_zero"))
def _best(
    score_BV: Float[Array, "B V"], excluded_BV: Bool[Array, "B V"], *, k: int, above_zero: bool
) -> tuple[Int[Array, "B k"], Float[Array, "B k"]]:
    if above_zero:
        score_BV = recommendable(score_BV)
    # A minimum, since NaN wins it: a score that is not a number must not disappear here.
    return best_items(jnp.minimum(score_BV, jnp.where(excluded_BV, -jnp.inf, jnp.inf)), k)


@jax.jit
def _cosines(unit_VD: Float[Array, "V D"], item_B: Int[Array, " B"]) -> Float[Array, "B V"]:
    cosine_BV = jnp.einsum("bd,vd->bv", unit_VD[item_B], unit_VD, precision="highest")
    return cosine_BV.at[jnp.arange(item_B.shape[0]), item_B].set(-jnp.inf)
