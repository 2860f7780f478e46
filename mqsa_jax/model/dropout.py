"""Dropout whose mask depends on what is masked, not on where it lies in memory.

Each unit (a position of a user, or an item) draws its bits from its own key, folded from the step's
key and the unit's number. So packing histories into rows, or spreading them over devices, leaves
every mask as it was.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Key

from mqsa_jax.pytree import Leaf


def keep_mask(key: Key[Array, ""], rate: Float[Array, ""] | float, unit_N, width: int):
    """Scaled dropout mask, [..., width]: 0 with probability `rate`, else 1 / (1 - rate).

    Args:
      key: the key of this step and purpose.
      rate: dropout probability in [0, 1); may be traced.
      unit_N: [...] int32, the number of each unit: equal numbers get equal masks.
      width: entries of a unit.

    Returns:
      [..., width] float32.
    """
    draw = jnp.vectorize(
        lambda unit: jax.random.bits(jax.random.fold_in(key, unit), (width,)), signature="()->(w)"
    )
    # 24 bits: every integer below 2**24 is exact in float32, so a rate of 0 drops nothing.
    keep = (draw(unit_N) >> 8).astype(jnp.float32) >= jnp.float32(rate) * 2**24
    return keep / (1 - jnp.float32(rate))


@struct.dataclass
class Noise:
    """What dropout needs to know of a batch. Absent (None) at evaluation."""

    rate: Leaf
    """float32 [] probability of dropping a unit."""
    unit_RT: Leaf
    """int32 [..., T] the number of each position, unlike for any two real positions of a batch."""
