"""Traits of the users of a batch, as its programs read them."""

import numpy as np
from flax import struct
from jaxtyping import Array, Float32, Int32

from mqsa_jax.data.attributes import Attributes
from mqsa_jax.pytree import pytree_dataclass


@pytree_dataclass
class UserTraits:
    """Traits of B users of S shards, at most K each.

    A user's column is the segment number of the history divided by `stride`.
    """

    index: Int32[Array, "*S B K"]
    """Trait; 0 behind the last."""
    weight: Float32[Array, "*S B K"]
    """What its vector counts; 0 behind the last."""
    stride: int = struct.field(pytree_node=False, default=1)

    @classmethod
    def of(
        cls, lists: Attributes | None, user_B: np.ndarray, stride: int = 1
    ) -> "UserTraits | None":
        """Those of users [..., B], by index; -1: of nobody. NumPy arrays; None without lists."""
        if lists is None:
            return None
        width = max(int(lists.lengths.max(initial=0)), 1)
        index, weight = lists.of_rows(np.maximum(user_B, 0).ravel()).padded(width)
        shape = (*user_B.shape, width)
        index, weight = index.reshape(shape), weight.reshape(shape)
        return cls(index, np.where(user_B[..., None] < 0, 0, weight), stride)
