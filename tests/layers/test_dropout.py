"""Dropout masks: what they hold, and whom they belong to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.layers import dropout
from mqsa_jax.layers.dropout import keep_mask, keep_masks, random_words


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_mask_holds_zero_and_the_inverse_of_the_rest(rate, getkey):
    mask = np.asarray(jax.jit(keep_mask, static_argnums=3)(getkey(), rate, jnp.arange(500), 64))
    assert mask.shape == (500, 64)
    np.testing.assert_allclose(np.unique(mask), [0, 1 / (1 - rate)], rtol=2**-16 / (1 - rate))
    # An entry has variance rate / (1 - rate); five standard errors over 32,000 entries.
    error = (rate / (1 - rate) / mask.size) ** 0.5
    assert abs(mask.mean() - 1) < 5 * error
    assert np.abs(mask.mean(0) - 1).max() < 5 * error * 64**0.5


def test_a_rate_of_zero_drops_nothing(getkey):
    assert (keep_mask(getkey(), 0.0, jnp.arange(500), 64) == 1).all()


def test_a_rate_of_zero_keeps_even_the_smallest_draw(getkey, monkeypatch):
    zeros = lambda key, unit_N, width: jnp.zeros((*unit_N.shape, width), jnp.uint32)  # noqa: E731
    monkeypatch.setattr(dropout, "random_words", zeros)
    assert (keep_mask(getkey(), 0.0, jnp.arange(5), 3) == 1).all()
    assert (keep_mask(getkey(), 1e-4, jnp.arange(5), 3) == 0).all()


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, np.nan, np.inf])
def test_a_rate_that_is_no_probability_below_1_gives_nan(getkey, rate):
    draw = jax.jit(keep_mask, static_argnums=3)
    assert np.isnan(draw(getkey(), rate, jnp.arange(5), 3)).all()


def test_masks_of_one_tree_lie_in_the_order_of_its_leaves(getkey):
    """Twelve blocks: as text, block 10 would come before block 2."""
    key, unit = getkey(), jnp.arange(3)
    masks = keep_masks(key, 0.5, unit, [{"b": 2, "a": 1}] * 12)
    whole = keep_mask(key, 0.5, unit, 36)
    for block, mask in enumerate(masks):
        np.testing.assert_array_equal(mask["a"], whole[:, 3 * block : 3 * block + 1])
        np.testing.assert_array_equal(mask["b"], whole[:, 3 * block + 1 : 3 * block + 3])


def test_a_mask_belongs_to_the_number_of_its_unit(getkey):
    key = getkey()
    draw = jax.jit(keep_mask, static_argnums=3)
    mask = draw(key, 0.5, jnp.array([[7, 8, 9], [9, 7, 7]]), 64)
    np.testing.assert_array_equal(mask[0, 0], mask[1, 1])
    np.testing.assert_array_equal(mask[1, 1], mask[1, 2])
    np.testing.assert_array_equal(mask[0, 2], mask[1, 0])
    assert (mask[0, 0] != mask[0, 1]).any()
    assert (mask[0, 0] != draw(getkey(), 0.5, jnp.array([[7, 8, 9], [9, 7, 7]]), 64)[0, 0]).any()


def test_masks_of_one_draw_share_nothing(getkey):
    widths = {"b": 64, "a": {"x": 32, "y": 64}}
    masks = keep_masks(getkey(), 0.5, jnp.arange(4), widths)
    assert jax.tree.map(lambda mask: mask.shape, masks) == {
        "b": (4, 64),
        "a": {"x": (4, 32), "y": (4, 64)},
    }
    assert (masks["b"] != masks["a"]["y"]).any(-1).all()
    assert (masks["a"]["x"] != masks["a"]["y"][:, :32]).any(-1).all()
    assert {0.0, 2.0} == set(np.unique(masks["b"]).tolist())


@pytest.mark.parametrize("width", [1, 2, 7])
def test_words_are_those_of_jax(getkey, width):
    key, unit = getkey(), jnp.array([[0, -1, 5], [2**31 - 1, -(2**31), 77]])
    words = jax.jit(random_words, static_argnums=2)(jax.random.key_data(key), unit, width)
    assert words.shape == (2, 3, width)
    for index in np.ndindex(unit.shape):
        expected = jax.random.bits(jax.random.fold_in(key, unit[index]), (width,))
        np.testing.assert_array_equal(words[index], expected)


def test_keys_are_of_no_other_generator():
    with pytest.raises(ValueError, match="^expected a key of threefry2x32, got one of rbg$"):
        keep_mask(jax.random.key(0, impl="rbg"), 0.5, jnp.arange(3), 2)
