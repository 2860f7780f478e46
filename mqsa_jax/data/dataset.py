"""What training and evaluation need of a data set, whether it is in memory or streamed."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from mqsa_jax.data.histories import Histories
from mqsa_jax.data.ids import Ids


@runtime_checkable
class Dataset(Protocol):
    """`Histories` in memory, or `StreamedHistories`, read block by block.

    Shape legend: U users, V items.
    """

    @property
    def num_users(self) -> int:
        """U."""

    @property
    def num_items(self) -> int:
        """V."""

    @property
    def user_ids(self) -> Ids:
        """[U] ids of the users in the source."""

    @property
    def item_ids(self) -> Ids:
        """[V] the vocabulary, ascending."""

    def fingerprint(self) -> str:
        """A SHA-256 (hexadecimal) that differs where the data differ."""

    def blocks(self) -> Iterator[Histories]:
        """All histories, in their order: one block in memory, of bounded size from a stream.

        Raises:
          UserError: naming the file, if a shard is damaged or has changed.
        """
