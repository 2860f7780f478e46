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
      rate: dropout probability in [0, 1), held to within 2**-16; may be traced. At 0 the mask is
        exactly 1.
      unit_N: [...] int32, the number of each unit: equal numbers get equal masks.
      width: W, entries of a unit.

    Returns:
      [..., W] float32.
    """
    draw = jnp.vectorize(
        lambda unit: jax.random.bits(jax.random.fold_in(key, unit), (-(-width // 2),)),
        signature="()->(w)",
    )
    # Two draws a word of 32 bits: making the words is most of the work.
    draws_NW2 = jax.lax.bitcast_convert_type(draw(unit_N), jnp.uint16)
    draws_NW = draws_NW2.reshape(*unit_N.shape, 2 * draws_NW2.shape[-2])[..., :width]
    # No draw lies below 0, so that a rate of 0 drops nothing.
    dropped = jnp.minimum(jnp.round(jnp.float32(rate) * 2**16), 2**16 - 1)
    keep = draws_NW.astype(jnp.float32) >= dropped
    return keep / (1 - dropped / 2**16)


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
