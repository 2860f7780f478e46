"""Lists of all users of a data set, as evaluation ranks for them."""

import numpy as np

from mqsa_jax.inference.lists import ListMaker
from mqsa_jax.inference.ranks import NO_ITEM
from mqsa_jax.inference.recommend import KnownUsers, lists_of_blocks


def listed_items(maker: ListMaker, histories, protocol, max_len, k) -> np.ndarray:
    """[U, k] items, best first; -1 behind the last."""
    known = KnownUsers(histories, max_len, protocol, held_out=True)
    users = np.arange(histories.num_users)
    size = maker.block_users
    blocks = (
        (None, known.queries(users[begin : begin + size])) for begin in range(0, len(users), size)
    )
    items = np.concatenate([lists.items for _, _, lists in lists_of_blocks(maker, blocks)])
    behind = ((0, 0), (0, k - items.shape[1]))
    return np.pad(items, behind, constant_values=NO_ITEM)
