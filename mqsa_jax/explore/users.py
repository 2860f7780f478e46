"""The users of a run's data, to be picked by a person."""

import functools

import numpy as np

from mqsa_jax.data.histories import Histories
from mqsa_jax.data.ids import Lookup, ids_like


class Users:
    """Users and their histories, found by id."""

    def __init__(self, histories: Histories):
        self.histories = histories

    def search(self, text: str, limit: int) -> list[str]:
        """Ids that begin with a text, that very id first, then in the order of the data."""
        wanted = text.strip().casefold()
        exact = [user for user in self._names if user.casefold() == wanted]
        begins = (user for user in self._names if user.casefold().startswith(wanted))
        for user in begins:
            if len(exact) >= limit:
                break
            if user not in exact:
                exact.append(user)
        return exact

    def name(self, index: int) -> str:
        """Id of a user by position in the data."""
        return self._names[index]

    def index(self, user: str) -> int | None:
        """Position of a user in the data, by id; None: no such user."""
        (index,) = self._lookup.indices(ids_like(self.histories.user_ids, [user]))
        return None if index < 0 else int(index)

    def history(self, index: int) -> list[int]:
        """Item indices of a user's whole history, oldest first."""
        begin, end = self.histories.offsets[index : index + 2]
        return self.histories.items[begin:end].tolist()

    def traits(self, index: int) -> list[str]:
        """Names of what is known of a user."""
        lists = self.histories.traits
        if lists is None:
            return []
        return [lists.names[trait] for trait in lists.of_rows(np.array([index])).attribute]

    @functools.cached_property
    def _names(self) -> list[str]:
        return [str(user) for user in self.histories.user_ids.tolist()]

    @functools.cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.histories.user_ids)
