"""The users of a run's data, to be picked by a person."""

import functools

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

    def history(self, user: str) -> list[int] | None:
        """Item indices of a user's whole history, oldest first; None: no such user."""
        ids = self.histories.user_ids
        (index,) = self._lookup.indices(ids_like(ids, [user]))
        if index < 0:
            return None
        begin, end = self.histories.offsets[index : index + 2]
        return self.histories.items[begin:end].tolist()

    @functools.cached_property
    def _names(self) -> list[str]:
        return [str(user) for user in self.histories.user_ids.tolist()]

    @functools.cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.histories.user_ids)
