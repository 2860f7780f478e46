"""Dropout whose mask depends on what is masked, not on where it lies in memory.

Each unit (a position of a user, or an item) draws its bits from its own key, folded from the step's
key and the unit's number. So packing histories into rows, or spreading them over devices, leaves
every mask as it was.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key


def keep_mask(
    key: Key[Array, ""], rate: Float[Array, ""] | float, unit_N: Int[Array, "*N"], width: int
) -> Float[Array, "*N W"]:
    """Scaled dropout mask: 0 with probability `rate`, else 1 / (1 - rate).

    Args:
      key: the key of this step and purpose.
      rate: dropout probability in [0, 1); may be traced. At 0 the mask is exactly 1.
      unit_N: [...] int32, the number of each unit: equal numbers get equal masks.
      width: W, entries of a unit.

    Returns:
      [..., W] float32.
    """
    draw = jnp.vectorize(
        lambda unit: jax.random.bits(jax.random.fold_in(key, unit), (width,)), signature="()->(w)"
    )
    # 24 bits: every integer below 2**24 is exact in float32, so a rate of 0 drops nothing.
    keep = (draw(unit_N) >> 8).astype(jnp.float32) >= jnp.float32(rate) * 2**24
    return keep / (1 - jnp.float32(rate))


def keep_masks(
    key: Key[Array, ""], rate: Float[Array, ""] | float, unit_N: Int[Array, "*N"], widths: Any
) -> Any:
    """Several masks of the same units from one draw, which compiles and runs faster than many.

    Args:
      key, rate, unit_N: as of `keep_mask`.
      widths: pytree of the widths W.

    Returns:
      The same pytree of masks, [..., W] float32 each.
    """
    leaves, tree = jax.tree.flatten(widths)
    whole_NW = keep_mask(key, rate, unit_N, sum(leaves))
    return tree.unflatten(jnp.split(whole_NW, np.cumsum(leaves)[:-1], axis=-1))
