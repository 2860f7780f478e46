"""Dropout whose mask depends on what is masked, not on where it lies in memory.

Each unit (a position of a user, or an item) draws its bits from its own key, folded from the step's
key and the unit's number. So packing histories into rows, or spreading them over devices, leaves
every mask as it was.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt32

from mqsa_jax.ops.platforms import bound, by_platform


@dataclasses.dataclass(frozen=True)
class Copies:
    """Masks of several modules that are alike, stacked along a first axis K."""

    count: int
    """K."""
    widths: Any
    """Pytree of the widths W of one; the draws of one module follow those of the module before."""


_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def keep_mask(
    key: Key[Array, ""], rate: Float[Array, ""] | float, unit_N: Int[Array, "*N"], width: int
) -> Float[Array, "*N W"]:
    """Scaled dropout mask: 0 with probability `rate`, else 1 / (1 - rate).

    Args:
      key: the key of this step and purpose.
      rate: dropout probability in [0, 1), held to within 2**-16; may be traced. At 0 the mask is
        exactly 1; outside [0, 1) it is NaN.
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
      widths: pytree of the widths W, or of `Copies`.

    Returns:
      The same pytree of masks, [..., W] float32 each; in the place of `Copies` the pytree of
      theirs, [K, ..., W] each.

    Raises:
      ValueError: as `keep_mask`.
    """
    check_key(key)
    parts, tree = jax.tree.flatten(widths)
    blocks = tuple(_block(part) for part in parts)
    draw = bound(_draw, blocks=blocks)
    # XLA for CPUs would make the masks again in every pass that reads them.
    functions = {"cpu": bound(_in_memory, draw=draw), "gpu": draw}
    rate = jax.lax.stop_gradient(jnp.float32(rate))
    masks = by_platform(functions, jax.random.key_data(key), rate, unit_N)
    return tree.unflatten(
        jax.tree.structure(part.widths).unflatten(own) if isinstance(part, Copies) else own[0]
        for part, own in zip(parts, masks, strict=True)
    )


def _block(part: int | Copies) -> tuple[int | None, tuple[int, ...]]:
    """How many copies, None outside of `Copies`, of which widths."""
    if isinstance(part, Copies):
        return part.count, tuple(jax.tree.leaves(part.widths))
    return None, (part,)


def _draw(
    key_2: Array, rate: Array, unit_N: Array, *, blocks: tuple[tuple[int | None, tuple], ...]
) -> list[list[Array]]:
    sizes = [(count or 1) * sum(widths) for count, widths in blocks]
    # Two draws a word of 32 bits: making the words is most of the work.
    word_NW = random_words(key_2, unit_N, -(-sum(sizes) // 2))
    draws_NW2 = jax.lax.bitcast_convert_type(word_NW, jnp.uint16)
    draws_NW = draws_NW2.reshape(*unit_N.shape, -1).astype(jnp.float32)
    # No draw lies below 0, so that a rate of 0 drops nothing.
    dropped = jnp.minimum(jnp.round(rate * 2**16), 2**16 - 1)
    kept = 1 / (1 - dropped / 2**16)
    # A rate that is no probability drops nothing, so that all of the mask is NaN.
    valid = (rate >= 0) & (rate < 1)
    dropped, kept = jnp.where(valid, dropped, 0), jnp.where(valid, kept, jnp.nan)
    mask_NW = jnp.where(draws_NW >= dropped, kept, 0)
    masks = []
    for (count, widths), own_NW in zip(blocks, _split(mask_NW, sizes), strict=True):
        if count is not None:
            own_NKW = own_NW.reshape(*unit_N.shape, count, -1)
            own_NW = jnp.moveaxis(own_NKW, -2, 0)
        masks.append(_split(own_NW, widths))
    return masks


def _split(array_NW: Array, widths: Sequence[int]) -> list[Array]:
    """[..., W] parts of these widths, one after the other; what is left behind them is dropped."""
    return jnp.split(array_NW, np.cumsum(widths), axis=-1)[:-1]


def _in_memory(
    key_2: Array, rate: Array, unit_N: Array, *, draw: Callable[..., list[list[Array]]]
) -> list[list[Array]]:
    """What `draw` makes, once: XLA takes nothing out of a loop whose turns it cannot count.

    There is one turn, whatever the key.
    """
    turns = jnp.minimum(key_2[0], 1).astype(jnp.int32) | 1
    shapes = jax.eval_shape(draw, key_2, rate, unit_N)
    blank = jax.tree.map(lambda mask: jnp.zeros(mask.shape, mask.dtype), shapes)
    return jax.lax.fori_loop(0, turns, lambda *_: draw(key_2, rate, unit_N), blank)


def check_key(key: Key[Array, ""]) -> None:
    """Raises ValueError if a key is not of JAX's default generator, `threefry2x32`."""
    if jax.random.key_impl(key) != "threefry2x32":
        raise ValueError(f"expected a key of threefry2x32, got one of {jax.random.key_impl(key)}")


def random_words(
    key_2: UInt32[Array, "2"], unit_N: Int[Array, "*N"], width: int
) -> UInt32[Array, "*N W"]:
    """`jax.random.bits(jax.random.fold_in(key, unit), (W,))` of every unit.

    JAX's generator is a loop on CPUs, whose turns copy all words. Here the rounds are written out,
    so that XLA makes one pass of them; the words are the same, those of JAX's default
    `jax_threefry_partitionable`.

    Args:
      key_2: [2] `jax.random.key_data` of a key of `threefry2x32`.
      unit_N: [...] int32, the number of each unit.
      width: W, words of a unit.

    Returns:
      [..., W] uint32.

    Reference:
      Salmon et al., SC 2011: Parallel random numbers: as easy as 1, 2, 3.
    """
    zero = jnp.uint32(0)
    unit_key = _threefry(*key_2, zero, unit_N.astype(jnp.uint32)[..., None])
    first, second = _threefry(*unit_key, zero, jnp.arange(width, dtype=jnp.uint32))
    return first ^ second


def _threefry(key_0: Array, key_1: Array, x_0: Array, x_1: Array) -> tuple[Array, Array]:
    """A block of Threefry-2x32 with 20 rounds."""
    keys = (key_0, key_1, key_0 ^ key_1 ^ jnp.uint32(_PARITY))
    x_0, x_1 = x_0 + keys[0], x_1 + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x_0 += x_1
            x_1 = x_0 ^ ((x_1 << rotation) | (x_1 >> (32 - rotation)))
        x_0 += keys[(group + 1) % 3]
        x_1 += keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x_0, x_1
