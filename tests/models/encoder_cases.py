"""Two encoders, and histories that lie side by side in the rows of their input."""

import jax
import jax.numpy as jnp
import numpy as np

from mqsa_jax.data.sequences import Sequences
from mqsa_jax.models.recommender import Recommender, apply, init

ROWS, T, D, V = 2, 7, 6, 17
DEEP = Recommender(num_items=V, dim=D, max_len=T, num_blocks=2, num_heads=2)
FLAT = Recommender(num_items=V, dim=D, max_len=T)
HISTORIES = {0: [3, 1, 4], 1: [1, 5, 9, 2], 2: [6, 5], 3: [3, 5, 8, 9]}
"""Items by segment number."""
STARTS = {0: (0, 0), 1: (0, 3), 2: (1, 0), 3: (1, 2)}
"""Row and first column; one position of padding is left, at the end."""
OTHER_STARTS = {0: (1, 4), 1: (0, 0), 2: (0, 4), 3: (1, 0)}


def packed(starts, histories=None, padding_item=0):
    """Sequences [ROWS, T] with each history at its start."""
    histories = histories or HISTORIES
    item, position = np.full((ROWS, T), padding_item, np.int32), np.zeros((ROWS, T), np.int32)
    segment = np.full((ROWS, T), -1, np.int32)
    for number, (row, first) in starts.items():
        length = len(histories[number])
        columns = slice(first, first + length)
        item[row, columns] = histories[number]
        position[row, columns] = np.arange(T - length, T)
        segment[row, columns] = number
    return Sequences(jnp.asarray(item), jnp.asarray(position), jnp.asarray(segment))


def taken(out, starts, number):
    """The positions of one history, from an array laid out as `packed`."""
    row, first = starts[number]
    return np.asarray(out)[row, first : first + len(HISTORIES[number])]


def random_params(encoder, seed):
    """Every parameter random, so that none is without effect."""
    shapes = jax.eval_shape(lambda key: init(encoder, key), jax.random.key(0))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.float32(rng.normal(size=leaf.shape) / 2), shapes)


def jitted(encoder):
    return jax.jit(
        lambda params, sequences, window, alpha: apply(
            encoder, params, sequences, window=window, alpha=alpha
        )
    )


encode_deep, encode_flat = jitted(DEEP), jitted(FLAT)
