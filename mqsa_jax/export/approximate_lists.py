"""Lists by an approximate index: its candidates and the transition term's, scored exactly.

    candidates = nearest items of the user vector in the index  +  items of the transition term

A list differs from the exact one only where the index misses an item; scores never do.

Shape legend: U users of a block, C candidates, K items of a list, D width.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from mqsa_jax.data.splits import Slices
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.export.item_index import ItemIndex
from mqsa_jax.export.program import exported_program
from mqsa_jax.export.tensors import trained_tensors
from mqsa_jax.inference.evaluation_set import Queries
from mqsa_jax.inference.lists import ListMaker, TrainedLists
from mqsa_jax.inference.loaded_run import TrainedRun
from mqsa_jax.inference.ranks import NO_ITEM

BLOCK_USERS = 256
MARGIN = 4
"""Candidates that are asked for in place of one, so that exact scores can correct their order."""


@dataclasses.dataclass(frozen=True, eq=False)
class IndexedRun(TrainedRun):
    """A trained model whose lists come from an approximate index."""

    index: ItemIndex

    @functools.cached_property
    def tensors(self) -> dict[str, Any]:
        """What the exported program takes, on the device."""
        return jax.device_put(trained_tensors(self))

    def list_maker(
        self, k: int, allowed_V: np.ndarray | None, layout: DeviceLayout
    ) -> "TrainedLists | ApproximateLists":
        """See `LoadedRun.list_maker`; exact, if only some items may be listed."""
        if allowed_V is not None:
            return super().list_maker(k, allowed_V, layout)
        return ApproximateLists(self, k)


class ApproximateLists(ListMaker):
    """Lists by a trained model and an index of its item vectors."""

    def __init__(self, run: IndexedRun, k: int):
        super().__init__(run.num_items, run.config.model.max_len, k, None)
        self._run, self._item_VD = run, np.asarray(run.tensors["item_vectors"])
        self._encode = functools.partial(_encoded, exported_program(run), run.tensors)

    @property
    def block_users(self) -> int:
        """Users that are best given at a time."""
        return BLOCK_USERS

    def _start(self, queries: Queries) -> Any:
        history_UT = _rows(queries.items, queries.inputs, self._max_len)
        outputs = jax.tree.map(np.asarray, self._encode(history_UT))
        num_users = queries.num_users
        items, scores = np.full((num_users, self.k), NO_ITEM), np.full((num_users, self.k), -np.inf)
        # Rows without a history, which pad a block, have no user vector.
        known_U = np.flatnonzero(queries.inputs.lengths > 0)
        if len(known_U):
            some = {name: array[known_U] for name, array in outputs.items()}
            seen_UN = _rows(queries.items, queries.seen[known_U])
            items[known_U], scores[known_U] = self._best(some, seen_UN)
        return items.astype(np.int32), scores.astype(np.float32)

    def _best(self, outputs: dict[str, np.ndarray], seen_UN: np.ndarray) -> tuple[Any, Any]:
        """Items [U, K] and their scores, of user vectors and the entries of a term."""
        user_UD, item_VD = outputs["user_vector"], self._item_VD
        count = MARGIN * self.k + seen_UN.shape[1]
        found = [self._run.index.candidates(user_UD, count).astype(np.int64)]
        if "term_item" in outputs:
            found.append(np.where(outputs["term_score"] > 0, outputs["term_item"], NO_ITEM))
        item_UC = _distinct(np.concatenate(found, axis=1))
        score_UC = np.einsum("ud,ucd->uc", user_UD, item_VD[item_UC])
        if "term_item" in outputs:
            score_UC += _term_at(item_UC, outputs["term_item"], outputs["term_score"])
        left_out_UC = (item_UC == NO_ITEM) | _among(item_UC, seen_UN)
        return _largest(item_UC, np.where(left_out_UC, -np.inf, score_UC), self.k)


@functools.partial(jax.jit, static_argnums=0)
def _encoded(program, tensors, history_BT):
    return program(tensors, history_BT)


def _rows(item_N: np.ndarray, slices: Slices, width: int | None = None) -> Int[np.ndarray, "U N"]:
    """Slices of items as int32 rows, the last ones, aligned right behind -1."""
    width = max([1, *slices.lengths.tolist()]) if width is None else width
    column = slices.end[:, None] - width + np.arange(width)
    real = column >= slices.begin[:, None]
    return np.where(real, item_N[np.where(real, column, 0)], NO_ITEM).astype(np.int32)


def _distinct(item_UC: Int[np.ndarray, "U C"]) -> Int[np.ndarray, "U C"]:
    """The items of each row in order, -1 in place of those that come again."""
    item_UC = np.sort(item_UC, axis=1)
    again_UC = np.pad(item_UC[:, 1:] == item_UC[:, :-1], ((0, 0), (1, 0)))
    return np.where(again_UC, NO_ITEM, item_UC)


def _among(item_UC: np.ndarray, seen_UN: np.ndarray) -> np.ndarray:
    """[U, C] whether each item is one of the same row's."""
    width = max(item_UC.max(initial=0), seen_UN.max(initial=0)) + 2
    offset_U1 = np.arange(len(item_UC), dtype=np.int64)[:, None] * width
    return np.isin(item_UC + offset_U1, seen_UN[seen_UN >= 0] + _owners(seen_UN, offset_U1))


def _owners(seen_UN: np.ndarray, offset_U1: np.ndarray) -> np.ndarray:
    """The offset of the row of each item that is not -1."""
    return np.broadcast_to(offset_U1, seen_UN.shape)[seen_UN >= 0]


def _term_at(
    item_UC: np.ndarray, term_item_UN: np.ndarray, term_score_UN: np.ndarray
) -> Float[np.ndarray, "U C"]:
    """[U, C] what the term adds to each candidate."""
    same_UNC = term_item_UN[:, :, None] == item_UC[:, None]
    return np.einsum("un,unc->uc", term_score_UN, same_UNC)


def _largest(item_UC: np.ndarray, score_UC: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k items of highest score, best first, of equal ones that of the smaller index."""
    order_UK = np.lexsort((item_UC, -score_UC), axis=1)[:, :k]
    item_UK = np.take_along_axis(item_UC, order_UK, axis=1)
    score_UK = np.take_along_axis(score_UC, order_UK, axis=1)
    behind = ((0, 0), (0, k - item_UK.shape[1]))
    item_UK = np.where(score_UK > -np.inf, item_UK, NO_ITEM)
    return (
        np.pad(item_UK, behind, constant_values=NO_ITEM),
        np.pad(score_UK, behind, constant_values=-np.inf),
    )
