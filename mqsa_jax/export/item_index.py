"""Approximate indexes of item vectors by inner product: USearch's and Faiss's.

An index only finds candidates. Their scores are computed anew, exactly (`approximate_lists.py`).
"""

import abc
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mqsa_jax.export.folder import INDEXES, ExportFolder
from mqsa_jax.extras import check_extra

CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH = 16, 128, 256
"""Of USearch's graph: neighbours of an item, and candidates kept while adding and searching."""
ITEMS_OF_CLUSTER = 256
"""Items a cluster of Faiss's, in the mean."""
CLUSTERS_OF_SEARCH, FEWEST_OF_SEARCH = 1 / 16, 16
"""Share of Faiss's clusters that a search goes through, and how many at least."""


class ItemIndex(abc.ABC):
    """Finds the items whose vectors have about the largest inner products with a user's."""

    @abc.abstractmethod
    def candidates(self, user_BD: Float[np.ndarray, "B D"], count: int) -> Int[np.ndarray, "B C"]:
        """[B, C] indices of items, C at most `count`; -1 where fewer are found."""


class UsearchIndex(ItemIndex):
    """A navigable graph (HNSW) over the vectors, by USearch."""

    def __init__(self, index: Any):
        self._index = index

    @classmethod
    def build(cls, item_VD: Float[np.ndarray, "V D"]) -> "UsearchIndex":
        """Adds all items, on all cores."""
        from usearch.index import Index

        index = Index(
            ndim=item_VD.shape[1],
            metric="ip",
            dtype="f32",
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION_ADD,
            expansion_search=EXPANSION_SEARCH,
        )
        index.add(np.arange(len(item_VD)), item_VD)
        return cls(index)

    @classmethod
    def of(cls, content: bytes) -> "UsearchIndex":
        """The index in a file's content."""
        from usearch.index import Index

        index = Index.restore(content)
        index.expansion_search = EXPANSION_SEARCH
        return cls(index)

    def write(self, path: Path) -> None:
        """Writes the index into a file."""
        self._index.save(str(path))

    def candidates(self, user_BD: Float[np.ndarray, "B D"], count: int) -> Int[np.ndarray, "B C"]:
        """See `ItemIndex.candidates`."""
        count = min(count, len(self._index))
        # Of a single user, USearch returns matches of another kind: always give it two.
        found = self._index.search(np.concatenate([user_BD, user_BD[:1]]), count)
        real_BC = np.arange(count) < found.counts[:, None]
        return np.where(real_BC, found.keys.astype(np.int64), -1)[:-1]


class FaissIndex(ItemIndex):
    """Clusters of vectors (IVF), of which a search goes through a few, by Faiss."""

    def __init__(self, index: Any):
        self._index = index

    @classmethod
    def build(cls, item_VD: Float[np.ndarray, "V D"]) -> "FaissIndex":
        """Clusters the items, at most 64 of each cluster, and adds all."""
        import faiss

        num_items, dim = item_VD.shape
        clusters = max(num_items // ITEMS_OF_CLUSTER, 1)
        quantiser = faiss.IndexFlatIP(dim)
        index = faiss.IndexIVFFlat(quantiser, dim, clusters, faiss.METRIC_INNER_PRODUCT)
        index.cp.max_points_per_centroid = 64
        index.cp.min_points_per_centroid = 1
        index.train(item_VD)
        index.add(item_VD)
        index.nprobe = max(round(clusters * CLUSTERS_OF_SEARCH), min(clusters, FEWEST_OF_SEARCH))
        return cls(index)

    @classmethod
    def of(cls, content: bytes) -> "FaissIndex":
        """The index in a file's content."""
        import faiss

        return cls(faiss.deserialize_index(np.frombuffer(content, np.uint8)))

    def write(self, path: Path) -> None:
        """Writes the index into a file."""
        import faiss

        faiss.write_index(self._index, str(path))

    def candidates(self, user_BD: Float[np.ndarray, "B D"], count: int) -> Int[np.ndarray, "B C"]:
        """See `ItemIndex.candidates`."""
        return self._index.search(user_BD, min(count, self._index.ntotal))[1]


KINDS = {"usearch": UsearchIndex, "faiss": FaissIndex}
"""By the names of `INDEXES`."""


def write_index(library: str, path: Path, item_VD: Float[np.ndarray, "V D"]) -> dict[str, Any]:
    """Builds and writes an index; returns what `config.json` says of it."""
    KINDS[library].build(item_VD).write(path)
    return {"library": library, "metric": "inner product"}


def read_index(folder: ExportFolder, library: str) -> ItemIndex:
    """The index of an export; UserError if it is damaged or its library is missing."""
    check_extra(library, f"the index of {folder.path}")
    return KINDS[library].of(folder.read(INDEXES[library]))
