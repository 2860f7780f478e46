"""Random words: those of JAX's own generator, unit by unit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.layers.random_bits import random_words


@pytest.mark.parametrize("width", [1, 2, 7])
def test_are_those_of_jax(getkey, width):
    key, unit = getkey(), jnp.array([[0, -1, 5], [2**31 - 1, -(2**31), 77]])
    words = jax.jit(random_words, static_argnums=2)(key, unit, width)
    assert words.shape == (2, 3, width)
    for index in np.ndindex(unit.shape):
        expected = jax.random.bits(jax.random.fold_in(key, unit[index]), (width,))
        np.testing.assert_array_equal(words[index], expected)


def test_of_no_other_generator():
    with pytest.raises(ValueError, match="^expected a key of threefry2x32, got one of rbg$"):
        random_words(jax.random.key(0, impl="rbg"), jnp.arange(3), 2)
