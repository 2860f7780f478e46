"""Dropout whose mask depends on what is masked, not on where it lies in memory.

Each unit (a position of a user, or an item) draws its bits from its own key, folded from the step's
key and the unit's number. So packing histories into rows, or spreading them over devices, leaves
every mask as it was.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mqsa_jax.layers.random_bits import random_words


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

    Raises:
      ValueError: if the key is not of JAX's default generator, `threefry2x32`.
    """
    return keep_masks(key, rate, unit_N, width)


def keep_masks(
    key: Key[Array, ""], rate: Float[Array, ""] | float, unit_N: Int[Array, "*N"], widths: Any
) -> Any:
    """Several masks of the same units from one draw, which compiles and runs faster than many.

    Args:
      key, rate, unit_N: as of `keep_mask`.
      widths: pytree of the widths W.

    Returns:
      The same pytree of masks, [..., W] float32 each.

    Raises:
      ValueError: as `keep_mask`.
    """
    leaves, tree = jax.tree.flatten(widths)
    rate = jax.lax.stop_gradient(jnp.float32(rate))

    def draw() -> list[Array]:
        # Two draws a word of 32 bits: making the words is most of the work.
        word_NW = random_words(key, unit_N, -(-sum(leaves) // 2))
        draws_NW2 = jax.lax.bitcast_convert_type(word_NW, jnp.uint16)
        draws_NW = draws_NW2.reshape(*unit_N.shape, -1).astype(jnp.float32)
        # No draw lies below 0, so that a rate of 0 drops nothing.
        dropped = jnp.minimum(jnp.round(rate * 2**16), 2**16 - 1)
        mask_NW = (draws_NW >= dropped) / (1 - dropped / 2**16)
        return jnp.split(mask_NW, np.cumsum(leaves), axis=-1)[:-1]

    return tree.unflatten(_in_memory(draw, key) if jax.default_backend() == "cpu" else draw())


def _in_memory(draw: Callable[[], list[Array]], key: Key[Array, ""]) -> list[Array]:
    """What `draw` makes, once: on CPUs XLA would make masks again in every pass that reads them.

    XLA takes nothing out of a loop whose turns it cannot count. They are 1, whatever the key.
    """
    turns = jnp.minimum(jax.random.key_data(key)[0], 1).astype(jnp.int32) | 1
    blank = jax.tree.map(lambda mask: jnp.zeros(mask.shape, mask.dtype), jax.eval_shape(draw))
    return jax.lax.fori_loop(0, turns, lambda *_: draw(), blank)
