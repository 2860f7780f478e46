"""A compiled count of transitions, and two histories to count."""

import jax
import numpy as np

from mqsa_jax.data.transitions import count_transitions

SIZES = ("num_items", "time_span", "capacity")
count = jax.jit(count_transitions, static_argnums=2, static_argnames=("time_span", "capacity"))
EXAMPLE = np.array([0, 1, 2, 0, 1, 3, 3, 1, 0], np.int32), np.array([0] * 5 + [1] * 4, np.int32)
