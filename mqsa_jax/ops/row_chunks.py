"""Row-wise functions of wide intermediates, a chunk of rows at a time."""

from collections.abc import Callable

import jax
from jaxtyping import Array

CHUNK_ELEMENTS = 2**22
"""Entries of a chunk's intermediates, 16 MiB in float32: few chunks, each within large caches."""


def map_rows(function: Callable[..., Array], width: int, *rows: Array) -> Array:
    """`vmap` over rows, `width` entries of intermediates each, of which a chunk at most is held.

    Where there is more than one chunk, the backward pass forms a chunk's intermediates again.
    """
    chunk = max(CHUNK_ELEMENTS // max(width, 1), 1)
    if len(rows[0]) <= chunk:
        return jax.vmap(function)(*rows)
    again = jax.checkpoint(lambda row: function(*row))
    return jax.lax.map(again, rows, batch_size=chunk)
