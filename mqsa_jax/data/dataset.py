"""What training and evaluation need of a data set, whether it is in memory or streamed."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from mqsa_jax.data.attributes import Attributes
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
        """[V] the vocabulary, ascending, and behind it the cold items."""

    @property
    def num_cold(self) -> int:
        """Items at the end of the vocabulary that no history holds."""

    @property
    def attributes(self) -> Attributes | None:
        """[V] lists of the items' attributes; None: nothing is known of them."""

    @property
    def traits(self) -> Attributes | None:
        """[U] lists of the users' traits; None: nothing is known of them."""

    def fingerprint(self) -> str:
        """A SHA-256 (hexadecimal) that differs where the histories differ."""

    def inputs_fingerprint(self) -> str:
        """A SHA-256 that differs where anything differs that a run reads; see `Histories`."""

    def blocks(self) -> Iterator[Histories]:
        """All histories, in their order: one block in memory, of bounded size from a stream.

        Raises:
          UserError: naming the file, if a shard is damaged or has changed.
        """
