"""Which attributes items, or users, have: sparse lists, on the host.

Shape legend: R items or users, A attributes, M entries of all lists together.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence

import numpy as np

from mqsa_jax.data.ids import Ids, Lookup, ids_like

MIN_OWNERS = 2
"""Fewest items of an attribute: what one item alone has, tells nothing beside its own vector."""


Id = int | str


@dataclasses.dataclass(frozen=True)
class Column:
    """Values of one field; without those that are missing."""

    name: str
    owners: list[Id]
    """[N] the item or user of each value; one of several values occurs several times."""
    values: list[float] | list[str]
    """[N] numbers, each owner once; or names of categories."""
    is_number: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Attributes:
    """Lists of attributes, each once and ascending (compressed sparse rows)."""

    row_start: np.ndarray
    """[R+1] int64 where each list begins; the last entry is M."""
    attribute: np.ndarray
    """[M] int32, 0..A-1."""
    names: tuple[str, ...]
    """[A] `field = value`, or `field in [from, to)` of a bin of numbers."""
    power: float
    """Sums of vectors are divided by their number to this power."""

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self.row_start) - 1

    @property
    def num_attributes(self) -> int:
        """A."""
        return len(self.names)

    @property
    def lengths(self) -> np.ndarray:
        """[R] int64 attributes of each."""
        return np.diff(self.row_start)

    @property
    def weight(self) -> np.ndarray:
        """[M] float32 `n^-power`, n the length of an entry's list."""
        return np.repeat(np.maximum(self.lengths, 1.0) ** -self.power, self.lengths).astype("f4")

    def of_rows(self, index: np.ndarray) -> "Attributes":
        """The lists of some rows, by index or mask [R]."""
        row = np.arange(self.num_rows)[index]
        length, start = self.lengths[row], self.row_start[row]
        end = np.cumsum(length)
        entry = np.arange(length.sum()) + np.repeat(start - (end - length), length)
        return dataclasses.replace(
            self, row_start=np.append(0, end), attribute=self.attribute[entry]
        )

    def filled_up(self, num_rows: int) -> "Attributes":
        """With empty lists behind, up to R = `num_rows`."""
        behind = (0, num_rows - self.num_rows)
        return dataclasses.replace(self, row_start=np.pad(self.row_start, behind, mode="edge"))

    def padded(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """[R, width] int32 attributes and float32 weights, both 0 behind the last one."""
        index, weight = (np.zeros((self.num_rows, width), kind) for kind in (np.int32, np.float32))
        row = np.repeat(np.arange(self.num_rows), self.lengths)
        column = np.arange(len(row)) - self.row_start[row]
        index[row, column], weight[row, column] = self.attribute, self.weight
        return index, weight

    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of the lists, the names and the power."""
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self.row_start.astype("<i8").tobytes())
        digest.update(self.attribute.astype("<i4").tobytes())
        digest.update(json.dumps([self.names, self.power]).encode())
        return digest.hexdigest()


def joined_attributes(parts: Sequence[Attributes]) -> Attributes:
    """Lists of the same attributes, one after the other."""
    lengths = np.concatenate([part.lengths for part in parts])
    return dataclasses.replace(
        parts[0],
        row_start=np.append(0, np.cumsum(lengths)),
        attribute=np.concatenate([part.attribute for part in parts]),
    )


def combined_fingerprint(data: str, *parts: Attributes | None) -> str:
    """That of data and what is known beside them; that of the data alone, if nothing is."""
    if not any(parts):
        return data
    texts = [data, *("" if part is None else part.fingerprint() for part in parts)]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Attributes of a vocabulary, and what is not among them."""

    attributes: Attributes
    num_known: int
    """Items of the vocabulary that the file describes."""
    num_unknown: int
    """Items of the file that are not in the vocabulary."""
    num_rare: int
    """Attributes left out: of fewer than `MIN_OWNERS`, or of none that trains."""


def encode(
    columns: Sequence[Column], vocabulary: Ids, trains_R: np.ndarray, bins: int, power: float
) -> Encoded:
    """The lists of attributes of a vocabulary, made of columns of values.

    Numbers are cut at the quantiles 1/bins, 2/bins, ... of those of the rows that train, each
    quantile being one of their values; equal ones make one bin. What a row has several times
    counts once.

    Args:
      columns: of a file.
      vocabulary: [R] ids.
      trains_R: bool [R], whether training reads the item or user.
      bins: of numbers.
      power: of `Attributes`.
    """
    lookup, names = Lookup(vocabulary), []
    row_M, attribute_M, known, unknown = [], [], set(), set()
    for column in columns:
        row_N = lookup.indices(ids_like(vocabulary, column.owners))
        unknown.update(np.array(column.owners, object)[row_N < 0].tolist())
        values_N = np.array(column.values, np.float64 if column.is_number else object)[row_N >= 0]
        row_N = row_N[row_N >= 0]
        known.update(row_N.tolist())
        code = _binned if column.is_number else _categories
        code_N, names_of_codes = code(column.name, values_N, trains_R[row_N], bins)
        row_M.append(row_N)
        attribute_M.append(code_N + len(names))
        names += names_of_codes
    row = np.concatenate([np.zeros(0, np.int64), *row_M])
    attribute = np.concatenate([np.zeros(0, np.int64), *attribute_M])
    pair = np.unique(row.astype(np.int64) * max(len(names), 1) + attribute)
    row, attribute = pair // max(len(names), 1), pair % max(len(names), 1)
    owners_A = np.bincount(attribute, minlength=len(names))
    kept_A = owners_A >= MIN_OWNERS
    kept_A &= np.bincount(attribute, trains_R[row], minlength=len(names)) > 0
    number_A = np.cumsum(kept_A) - 1
    row, attribute = row[kept_A[attribute]], attribute[kept_A[attribute]]
    lists = Attributes(
        row_start=np.append(0, np.cumsum(np.bincount(row, minlength=len(vocabulary)))),
        attribute=number_A[attribute].astype(np.int32),
        names=tuple(name for name, kept in zip(names, kept_A, strict=True) if kept),
        power=power,
    )
    return Encoded(lists, len(known), len(unknown), int((~kept_A).sum()))


def _categories(
    name: str, value_N: np.ndarray, trains_N: np.ndarray, bins: int
) -> tuple[np.ndarray, list[str]]:
    """[N] number of each value, and what they are called."""
    del trains_N, bins
    distinct, code_N = np.unique(value_N, return_inverse=True)
    return code_N, [f"{name} = {value}" for value in distinct]


def _binned(
    name: str, value_N: np.ndarray, trains_N: np.ndarray, bins: int
) -> tuple[np.ndarray, list[str]]:
    """[N] bin of each number, and what they are called."""
    inner = np.zeros(0)
    if trains_N.any():
        at = np.arange(1, bins) / bins
        inner = np.unique(np.quantile(value_N[trains_N], at, method="higher"))
        # A bin below the smallest value would hold none that trains.
        inner = inner[inner > value_N[trains_N].min()]
    borders = [-np.inf, *inner.tolist(), np.inf]
    called = [f"{name} in [{a:g}, {b:g})" for a, b in zip(borders, borders[1:], strict=False)]
    return np.searchsorted(inner, value_N, side="right"), called
