"""Dropout of the two-branch encoder."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from mqsa_jax.data.sequences import position_units
from mqsa_jax.layers.dropout import keep_masks
from mqsa_jax.models.encoder import BRANCHES, attention_mask
from mqsa_jax.models.recommender import apply
from tests.models.encoder_cases import (
    DEEP,
    HISTORIES,
    OTHER_STARTS,
    ROWS,
    STARTS,
    D,
    T,
    encode_deep,
    packed,
    taken,
)


@jax.jit
def encode_noisily(params, sequences, dropout, key):
    return apply(DEEP, params, sequences, window=3, alpha=0.4, dropout=dropout, key=key)


def test_positions_are_numbered_by_history_and_place_in_it():
    units = np.asarray(position_units(packed(STARTS)))
    # T = 7: history 1 has 7 * 1 + 6 at its newest item, history 2 has 7 * 2 + 6.
    assert taken(units, STARTS, 1).tolist() == [10, 11, 12, 13]
    assert taken(units, STARTS, 2).tolist() == [19, 20]
    real = units[np.asarray(packed(STARTS).segment_ids) >= 0]
    assert np.unique(real).size == real.size


def test_a_dropout_of_zero_is_none(params, getkey):
    without = encode_deep(params, packed(STARTS), 3, 0.4)
    with_key = encode_noisily(params, packed(STARTS), 0.0, getkey())
    np.testing.assert_allclose(with_key, without, atol=1e-5)


def test_dropout_is_a_function_of_its_key(params):
    sequences = packed(STARTS)
    one, again, other = (
        encode_noisily(params, sequences, 0.5, jax.random.key(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    real = np.asarray(sequences.segment_ids) >= 0
    assert (np.abs(one - other).max(-1)[real] > 1e-3).all()


@pytest.mark.parametrize("rate", [0.3, 0.7])
def test_dropout_does_not_depend_on_packing(params, getkey, rate):
    key = getkey()
    here = encode_noisily(params, packed(STARTS), rate, key)
    there = encode_noisily(params, packed(OTHER_STARTS), rate, key)
    for number in HISTORIES:
        expected = taken(here, STARTS, number)
        np.testing.assert_allclose(taken(there, OTHER_STARTS, number), expected, atol=1e-4)


def test_equal_histories_are_dropped_differently(params, getkey):
    histories = {0: [3, 1, 4], 1: [3, 1, 4]}
    starts = {0: (0, 0), 1: (1, 2)}
    out = np.asarray(encode_noisily(params, packed(starts, histories), 0.5, getkey()))
    assert (np.abs(out[0, 0:3] - out[1, 2:5]).max(-1) > 1e-3).all()


def silenced(params, prefix, names):
    """Parameters with zeros in place of those under `prefix` whose names begin with one given."""
    flat = traverse_util.flatten_dict(params, sep="/")
    starts = tuple(f"{prefix}{name}" for name in names)
    flat = {name: 0 * leaf if name.startswith(starts) else leaf for name, leaf in flat.items()}
    return traverse_util.unflatten_dict(flat, sep="/")


WIDTHS = traverse_util.flatten_dict(DEEP.encoder.mask_widths(T)["two_branches"].widths, sep="/")
SILENT = {
    "input": ("item_embedding", "position_embedding"),
    "attention": ("value/",),
    "hidden": ("ffn_out/kernel",),
    "output": ("ffn_out/",),
}
"""What is without effect where the mask is zero."""


@jax.jit
def encode_masked(params, masks):
    return DEEP.encoder.apply({"params": params}, packed(STARTS), 3, 0.4, masks)


def ones_but(branch, masked):
    """Masks of ones, and of zeros where they are named."""
    masks = {name: np.ones((2, ROWS, T, width)) for name, width in WIDTHS.items()}
    if masked in masks:
        masks[masked][BRANCHES.index(branch)] = 0
    ones_D = jnp.full((ROWS, T, D), float(masked != "input"))
    return {"input": ones_D, "two_branches": traverse_util.unflatten_dict(masks, sep="/")}


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("masked", ["input", *sorted(WIDTHS)])
def test_a_mask_of_zeros_silences_its_layer(params, branch, masked):
    ones = ones_but(branch, None)
    np.testing.assert_allclose(
        encode_masked(params, ones), encode_deep(params, packed(STARTS), 3, 0.4), atol=1e-5
    )
    zeros = ones_but(branch, masked)
    block, _, kind = masked.rpartition("/")
    quiet = silenced(params, f"{branch}/{block}/" if block else "", SILENT[kind])
    np.testing.assert_allclose(encode_masked(params, zeros), encode_masked(quiet, ones), atol=1e-5)


def test_draws_lie_in_the_order_of_the_names_of_parameters(getkey):
    """Those of stored runs: input, then the long branch's, then the short one's."""
    key, units = getkey(), jnp.arange(3)
    one = DEEP.encoder.mask_widths(T)["two_branches"].widths
    masks = keep_masks(key, 0.5, units, DEEP.encoder.mask_widths(T))
    by_name = keep_masks(key, 0.5, units, {"input": D, "long": one, "short": one})
    np.testing.assert_array_equal(masks["input"], by_name["input"])
    expected = jax.tree.map(lambda *both: jnp.stack(both), by_name["long"], by_name["short"])
    chex.assert_trees_all_equal(masks["two_branches"], expected)


def test_attention_is_dropped_by_the_distance_to_the_key():
    # Two heads, three positions; draws are numbered 100 query + 10 head + distance.
    query, head, back = np.ogrid[:3, :2, :3]
    draws = (100 * query + 10 * head + back).reshape(3, 6).astype(np.float32)
    mask = np.asarray(attention_mask(jnp.asarray(draws), 2))
    assert np.tril(mask[0]).tolist() == [[0, 0, 0], [101, 100, 0], [202, 201, 200]]
    assert np.tril(mask[1]).tolist() == [[10, 0, 0], [111, 110, 0], [212, 211, 210]]
