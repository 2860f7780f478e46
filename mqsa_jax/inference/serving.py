"""What every loaded model offers: lists, scores and reasons, with the ids of the data."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np
from jaxtyping import Array, Float

from mqsa_jax.config import Config, ExcludeSeen
from mqsa_jax.data.ids import Ids, Lookup, is_text
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import DataError, UserError
from mqsa_jax.inference.evaluation_set import Queries
from mqsa_jax.inference.explanations import (
    Explanations,
    TransitionLookup,
    largest_attention,
    rows_read,
    strongest_origins,
)
from mqsa_jax.inference.lists import ListMaker, Lists
from mqsa_jax.inference.named_lists import Recommendation, Scored, named_lists
from mqsa_jax.inference.recommend import (
    allowed_items,
    lists_of_blocks,
    queries_of,
    with_popular,
)
from mqsa_jax.inference.stored_model import TrainingCounts
from mqsa_jax.ops.chunk_loop import chunk_rows

RawItems = Sequence[int] | Sequence[str] | np.ndarray
"""Item ids as in the data."""
RawHistories = Sequence[RawItems]
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
    """int64 or strings [V] id of each item, cold ones last; its position is its index."""
    folder: Path
    """Of the run, or of the export."""
    data_fingerprint: str | None
    """`Histories.fingerprint` of the data that it was made on; None in runs that are too old."""
    read_counts: Callable[[], TrainingCounts]
    """Reads how often items and transitions occur in training; UserError if that is not there."""

    @property
    def num_items(self) -> int:
        """V."""
        return len(self.item_ids)

    @functools.cached_property
    def lookup(self) -> Lookup:
        """Finds the indices of ids."""
        return Lookup(self.item_ids)

    @functools.cached_property
    def counts(self) -> TrainingCounts:
        """How often items and transitions occur in training.

        Raises:
          UserError: naming the file, if it is missing or damaged.
        """
        return self.read_counts()

    def check_data(self, fingerprint: str) -> None:
        """Raises DataError if the model was made on other data."""
        if self.data_fingerprint not in (None, fingerprint):
            raise DataError(f"{self.folder} holds a run on other data (fingerprints differ)")

    @functools.cached_property
    def transition_lookup(self) -> TransitionLookup:
        """Finds the counts of transitions in training; raises UserError as `counts`."""
        return TransitionLookup(self.counts.transitions)

    def indices(self, history: RawItems, unknown: Unknown = "raise") -> np.ndarray:
        """int32 indices of a history's items, in its order.

        Raises:
          ValueError: naming ids that are not in the vocabulary, if they are not to be skipped; if
            no id is left; or if the history is no sequence of ids of the data's kind.
        """
        index_N = self._indices(history, unknown)
        if not len(index_N):
            raise ValueError("a history holds no item of the training data")
        return index_N

    def _indices(self, history: RawItems, unknown: Unknown) -> np.ndarray:
        """`indices`, which may be none."""
        if unknown not in get_args(Unknown):
            raise ValueError(f"unknown must be one of {get_args(Unknown)}, got {unknown!r}")
        ids = self._ids(history, "a history")
        index_N = self.lookup.indices(ids)
        if (index_N < 0).any() and unknown == "raise":
            odd = ids[index_N < 0][:5].tolist()
            raise ValueError(f"items {odd} are not among the {self.num_items} of the training data")
        return index_N[index_N >= 0]

    def _ids(self, items: RawItems, what: str) -> Ids:
        ids = np.asarray(items)
        if ids.ndim != 1:
            raise ValueError(f"{what} must be a sequence of item ids, got {items!r}")
        if ids.size and (ids.dtype.kind not in ("TU" if is_text(self.item_ids) else "iu")):
            wanted = "strings" if is_text(self.item_ids) else "integers"
            raise ValueError(f"item ids must be {wanted}, got {ids.dtype}")
        return ids.astype(self.item_ids.dtype)

    def recommend(
        self,
        histories: RawHistories,
        k: int = 10,
        *,
        allow: RawItems | None = None,
        deny: RawItems | None = None,
        explain: bool = False,
        exclude_seen: ExcludeSeen | None = None,
        unknown: Unknown = "raise",
    ) -> list[list[Scored]] | list[list[Recommendation]]:
        """For each history the k items of highest score, best first, as pairs (id, score).

        Args:
          histories: any number of them, of which the last `config.model.max_len` items are read.
          k: length of the lists, at least 1; a list is shorter where fewer items are left.
          allow: ids of the items that may be recommended; None: all.
          deny: ids of items that are not recommended.
          explain: give a `Recommendation`, with reasons, in place of each pair.
          exclude_seen: left out of a list: all items of its history (`history`), the last
            `max_len` (`window`) or `none`; None: as in training.
          unknown: what becomes of ids that the training data do not have. A history of which none
            is left, or which is empty, gets the most popular items if they are skipped; those have
            no score.

        Raises:
          ValueError: as `indices`; or if k is below 1.
          UserError: if popular items or reasons are needed and the run does not hold the counts.
        """
        check = self.indices if unknown == "raise" else self._indices
        rows = [check(history, unknown) for history in histories]
        allowed_V, missing = self.allowed(allow, deny)
        if len(missing) and unknown == "raise":
            raise ValueError(f"{len(missing)} ids to allow or deny are not in the training data")
        policy = exclude_seen or self.config.evaluation.exclude_seen
        maker = self.list_maker(k, allowed_V, DeviceLayout.of(1))
        blocks = self._blocks(rows, maker.block_users, policy)
        out: list[Any] = []
        for _, queries, lists in lists_of_blocks(maker, blocks):
            lists = self.completed(queries, lists, allowed_V)
            reasons = self.explanations(queries, lists) if explain else None
            out += named_lists(self.item_ids, lists, reasons)
        return out

    def _blocks(
        self, rows: Sequence[np.ndarray], size: int, policy: ExcludeSeen
    ) -> Iterator[tuple[None, Queries]]:
        for begin in range(0, len(rows), size):
            block = rows[begin : begin + size]
            length_U = np.array([len(row) for row in block])
            sizes = (self.num_items, self.config.model.max_len)
            yield None, queries_of(np.concatenate(block), length_U, *sizes, policy)

    def allowed(
        self, allow: RawItems | None, deny: RawItems | None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """`allowed_items` of ids in the run's own vocabulary."""
        lists = (allow, deny)
        ids = (None if each is None else self._ids(each, "a list of items") for each in lists)
        return allowed_items(self.lookup, self.num_items, *ids)

    def completed(self, queries: Queries, lists: Lists, allowed_V: np.ndarray | None) -> Lists:
        """The lists, with popular items for empty histories; raises UserError as `counts`."""
        empty_U = queries.inputs.lengths == 0
        if not empty_U.any():
            return lists
        return with_popular(lists, empty_U, self.counts.items, allowed_V)

    def explanations(self, queries: Queries, lists: Lists) -> Explanations:
        """Why the items of the lists of a block are there; raises UserError as `counts`."""
        rows = rows_read(queries)
        attention = {
            branch: largest_attention(weight_UT, rows)
            for branch, weight_UT in self.attention(rows).items()
        }
        return Explanations(attention, strongest_origins(self.transition_lookup, lists, rows))

    @abc.abstractmethod
    def attention(self, rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """[U, T] attention of the newest item of each history of indices, by branch.

        Aligned right; the mean over heads, in the last block. Branches that do not take part in
        the scores are missing.
        """

    @abc.abstractmethod
    def list_maker(self, k: int, allowed_V: np.ndarray | None, layout: DeviceLayout) -> ListMaker:
        """Makes lists of k items by this model.

        Args:
          k: length of the lists, at least 1.
          allowed_V: [V] whether an item may be recommended; None: all may.
          layout: the devices to use.
        """

    def score(
        self,
        histories: RawHistories,
        items: RawItems | None = None,
        *,
        unknown: Unknown = "raise",
    ) -> np.ndarray:
        """float32 [B, n] score of items as the next one; items already consumed included.

        Args:
          histories: B histories, of which the last `config.model.max_len` items are read.
          items: ids of n items; None: all V, in the order of `item_ids`.
          unknown: what becomes of ids in histories that the training data do not have.

        Raises:
          ValueError: as `indices`, of the items too.
        """
        rows = [self.indices(history, unknown) for history in histories]
        column_n = None if items is None else self._indices(items, "raise")
        width = self.num_items if column_n is None else len(column_n)
        parts = (self._scores(batch, column_n) for batch in self._batches(rows))
        return np.concatenate([np.zeros((0, width), np.float32), *parts])

    @abc.abstractmethod
    def _scores(self, rows: Sequence[np.ndarray], column_n: np.ndarray | None) -> np.ndarray:
        """float32 [B, n] scores of some items after histories of indices; None: of all items."""

    @abc.abstractmethod
    def batch_scores(self, rows: Sequence[np.ndarray]) -> Float[Array, "B V"]:
        """[B, V] scores of all items, on the device and not waited for.

        Args:
          rows: at most `MAX_BATCH` histories of indices, none of them empty. Batches are filled up
            to few static shapes (`batch_shapes.py`), so that few programs are compiled; rows
            behind the last history hold anything, NaN too.
        """

    def similar(self, item: int | str, k: int = 10) -> list[Scored]:
        """The k items whose vectors are nearest by cosine, best first, as pairs (id, cosine).

        Raises:
          ValueError: if the item is not in the training data, or k is below 1.
          UserError: if the model has no item vectors.
        """
        lists, _ = self.similar_lists(item, k, None)
        return named_lists(self.item_ids, lists)[0]

    def similar_lists(
        self, item: int | str, k: int, allowed_V: np.ndarray | None
    ) -> tuple[Lists, int]:
        """A list [1, k] of the items of nearest vectors, and the item's index; see `similar`."""
        raise UserError(
            f"{self.config.model.model} is counted, not trained: it has no item vectors to compare"
        )

    def _batches(self, rows: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
        """As many histories at a time as evaluation scores at once."""
        size = chunk_rows(len(rows), self.num_items, jax.local_devices()[0].platform)
        for begin in range(0, len(rows), size):
            yield rows[begin : begin + size]
