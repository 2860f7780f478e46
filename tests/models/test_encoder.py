"""The two-branch encoder, its initial parameters and its dropout."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mqsa_jax.data.sequences import Sequences, position_units
from mqsa_jax.models.encoder import Block, attention_mask
from mqsa_jax.models.recommender import Recommender, apply, init
from tests import oracle

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


@jax.jit
def encode_noisily(params, sequences, dropout, key):
    return apply(DEEP, params, sequences, window=3, alpha=0.4, dropout=dropout, key=key)


@pytest.fixture(scope="module")
def params():
    return random_params(DEEP, 0)


@pytest.mark.parametrize(
    ("encoder", "encode"), [(FLAT, encode_flat), (DEEP, encode_deep)], ids=["flat", "deep"]
)
def test_agrees_with_the_oracle(encoder, encode):
    @settings(max_examples=12, deadline=None, derandomize=True, phases=[Phase.generate])
    @given(
        cuts=st.tuples(*[st.integers(0, T)] * 2 * ROWS),
        window=st.integers(1, T + 2),
        alpha=st.floats(0, 1, width=32),
        seed=st.integers(0, 2**32 - 1),
    )
    def run(cuts, window, alpha, seed):
        rng = np.random.default_rng(seed)
        histories, starts = {}, {}
        for row in range(ROWS):
            first, second = sorted(cuts[2 * row : 2 * row + 2])
            for begin, end in ((first, second), (second, T)):
                if end > begin:
                    starts[len(histories)] = row, begin
                    histories[len(histories)] = rng.integers(0, V, end - begin)
        params = random_params(encoder, seed)
        out = encode(params, packed(starts, histories, padding_item=2), window, np.float32(alpha))
        flat = traverse_util.flatten_dict(params, sep="/")
        for number, items in histories.items():
            row, begin = starts[number]
            expected = oracle.encode(
                flat,
                items,
                max_len=T,
                window=window,
                alpha=alpha,
                num_blocks=encoder.num_blocks,
                num_heads=encoder.num_heads,
            )
            actual = out[row, begin : begin + len(items)]
            np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)

    run()


def test_alpha_mixes_the_branches(params):
    sequences = packed(STARTS)
    short, long, mixed = (encode_deep(params, sequences, 3, alpha) for alpha in (1.0, 0.0, 0.3))
    np.testing.assert_allclose(mixed, 0.3 * short + 0.7 * long, atol=1e-5)
    other = random_params(DEEP, 1)
    without_long = encode_deep({**params, "long": other["long"]}, sequences, 3, 1.0)
    without_short = encode_deep({**params, "short": other["short"]}, sequences, 3, 0.0)
    np.testing.assert_array_equal(without_long, short)
    np.testing.assert_array_equal(without_short, long)
    assert np.abs(short - long).max() > 0.1


def test_window_one_makes_the_long_branch_a_short_one(params):
    twin = {**params, "long": params["short"]}
    sequences = packed(STARTS)
    short = encode_deep(twin, sequences, 1, 1.0)
    np.testing.assert_allclose(encode_deep(twin, sequences, 1, 0.0), short, atol=1e-5)
    assert np.abs(encode_deep(twin, sequences, 2, 0.0) - short).max() > 0.01


def test_the_window_does_not_touch_the_short_branch(params):
    sequences = packed(STARTS)
    one, all_items = (encode_deep(params, sequences, window, 1.0) for window in (1, T))
    np.testing.assert_array_equal(one, all_items)


def test_a_window_beyond_the_row_takes_the_whole_history(params):
    sequences = packed(STARTS)
    row, beyond = (encode_deep(params, sequences, window, 0.0) for window in (T, 2**31 - 1))
    np.testing.assert_array_equal(row, beyond)


def test_histories_do_not_see_their_neighbours(params):
    here, there = packed(STARTS), packed(OTHER_STARTS)
    at_home, elsewhere = (encode_deep(params, each, 3, 0.4) for each in (here, there))
    for number, starts in STARTS.items():
        alone = encode_deep(params, packed({number: starts}), 3, 0.4)
        expected = taken(at_home, STARTS, number)
        np.testing.assert_allclose(taken(elsewhere, OTHER_STARTS, number), expected, atol=1e-5)
        np.testing.assert_allclose(taken(alone, STARTS, number), expected, atol=1e-5)


def test_items_at_padding_are_never_read(params):
    real = np.asarray(packed(STARTS).segment_ids) >= 0
    assert not real.all()
    outs = [encode_deep(params, packed(STARTS, padding_item=item), 3, 0.4) for item in (0, 11)]
    np.testing.assert_array_equal(*(np.asarray(out)[real] for out in outs))


def test_gradient_reaches_earlier_positions_of_the_same_history_only(params):
    """One item a position, so that a gradient in an item's vector is one in a position."""
    item = np.arange(ROWS * T, dtype=np.int32).reshape(ROWS, T)
    sequences = packed(STARTS).replace(item=item)
    segment = np.asarray(sequences.segment_ids)
    direction_D = np.random.default_rng(1).normal(size=D).astype(np.float32)

    @jax.jit
    @jax.jacrev
    def jacobian(item_VD):
        moved = {**params, "item_embedding": item_VD}
        return apply(DEEP, moved, sequences, window=3, alpha=0.4) @ direction_D

    slope = np.abs(jacobian(params["item_embedding"])).max(-1)  # [row, t, item]
    reached = np.zeros((ROWS, T, V), bool)
    for number, (row, first) in STARTS.items():
        for t in range(first, first + len(HISTORIES[number])):
            reached[row, t, item[row, first : t + 1]] = True
    assert reached.any(-1).tolist() == (segment >= 0).tolist()
    assert (slope[reached] > 0).all()
    # The difference of two cumulative sums leaves rounding errors at earlier neighbours.
    assert slope[~reached].max() < 1e-7 * slope[reached].max()
    earlier = (np.arange(V) // T == np.arange(ROWS)[:, None, None]) & (
        item[..., None] >= np.arange(V)
    )
    assert not slope[~earlier].any()


def test_a_block_is_zero_at_padding_and_reads_nothing_there(params, rng):
    segment = packed(STARTS).segment_ids
    real = np.asarray(segment) >= 0
    x = rng.normal(size=(ROWS, T, D)).astype(np.float32)
    block = Block(num_heads=2)

    @jax.jit
    def run(x):
        def total(x):
            out = block.apply({"params": params["long"]["block_0"]}, x, 3, segment, None)
            return jnp.square(out).sum(), out

        return jax.grad(total, has_aux=True)(x)

    gradient, out = run(x)
    assert not np.asarray(out)[~real].any()
    assert np.abs(np.asarray(out)[real]).min(-1).max() > 0
    assert not np.asarray(gradient)[~real].any()
    assert (np.abs(np.asarray(gradient)[real]).max(-1) > 0).all()


def test_works_under_vmap_pmap_and_grad():
    params = random_params(FLAT, 0)
    both = packed(STARTS), packed(OTHER_STARTS)
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves * 4), *both)
    expected = jnp.stack([encode_flat(params, each, 3, 0.4) for each in both] * 4)

    def one(params, sequences):
        return apply(FLAT, params, sequences, window=3, alpha=0.4)

    mapped = jax.jit(jax.vmap(one, in_axes=(None, 0)))(params, stack)
    on_devices = jax.pmap(one, in_axes=(None, 0))(params, stack)
    chex.assert_trees_all_close(mapped, on_devices, expected, atol=1e-5)

    @jax.jit
    @jax.value_and_grad
    def total(params):
        """With one more leading axis, as batches have."""
        user = one(params, stack)
        return (user @ params["item_embedding"].T).max(-1).sum()

    value, gradient = total(params)
    expected = (np.asarray(expected) @ params["item_embedding"].T).max(-1).sum()
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    chex.assert_tree_all_finite(gradient)


# Initial parameters


def test_initial_parameters():
    encoder = Recommender(num_items=800, dim=32, max_len=50, num_blocks=2, num_heads=2)
    params = jax.device_get(jax.jit(lambda key: init(encoder, key))(jax.random.key(3)))
    for name, rows in (("item_embedding", 800), ("position_embedding", 50)):
        assert params[name].shape == (rows, 32)
        # The standard error of a deviation over n values is 1 / sqrt(2 n): 2 % at 1600.
        np.testing.assert_allclose(params[name].std(), 0.01, rtol=0.08)
        np.testing.assert_allclose(params[name].mean(), 0, atol=0.001)
    limit = (6 / (32 + 32)) ** 0.5
    kernels = []
    for branch in ("short", "long"):
        for block in ("block_0", "block_1"):
            layers = params[branch][block]
            for name in ("query", "key", "value", "ffn_in", "ffn_out"):
                kernel = layers[name]["kernel"]
                assert 0.98 * limit < np.abs(kernel).max() <= limit
                # A uniform distribution on [-a, a] has deviation a / sqrt(3).
                np.testing.assert_allclose(kernel.std(), limit / 3**0.5, rtol=0.08)
                assert not layers[name]["bias"].any()
                kernels.append(kernel.tobytes())
            for norm in (layers["query_norm"], layers["attention_norm"]):
                assert (norm["scale"] == 1).all()
                assert not norm["bias"].any()
        assert (params[branch]["output_norm"]["scale"] == 1).all()
        assert not params[branch]["output_norm"]["bias"].any()
    assert len(set(kernels)) == 2 * 2 * 5


def test_initial_parameters_are_a_function_of_the_key():
    fresh = jax.jit(lambda seed: init(FLAT, jax.random.key(seed)))
    one, again, other = map(fresh, (1, 1, 2))
    chex.assert_trees_all_equal(one, again)
    assert (one["item_embedding"] != other["item_embedding"]).all()


# Dropout


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


WIDTHS = DEEP.encoder.mask_widths(T)
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


@pytest.mark.parametrize("masked", sorted(traverse_util.flatten_dict(WIDTHS, sep="/")))
def test_a_mask_of_zeros_silences_its_layer(params, masked):
    flat = traverse_util.flatten_dict(WIDTHS, sep="/")
    masks = {name: jnp.ones((ROWS, T, width)) for name, width in flat.items()}
    ones = traverse_util.unflatten_dict(masks, sep="/")
    np.testing.assert_allclose(
        encode_masked(params, ones), encode_deep(params, packed(STARTS), 3, 0.4), atol=1e-5
    )
    zeros = traverse_util.unflatten_dict({**masks, masked: 0 * masks[masked]}, sep="/")
    prefix, _, kind = masked.rpartition("/")
    quiet = silenced(params, f"{prefix}/" if prefix else "", SILENT[kind])
    np.testing.assert_allclose(encode_masked(params, zeros), encode_masked(quiet, ones), atol=1e-5)


def test_attention_is_dropped_by_the_distance_to_the_key():
    # Two heads, three positions; draws are numbered 100 query + 10 head + distance.
    query, head, back = np.ogrid[:3, :2, :3]
    draws = (100 * query + 10 * head + back).reshape(3, 6).astype(np.float32)
    mask = np.asarray(attention_mask(jnp.asarray(draws), 2))
    assert np.tril(mask[0]).tolist() == [[0, 0, 0], [101, 100, 0], [202, 201, 200]]
    assert np.tril(mask[1]).tolist() == [[10, 0, 0], [111, 110, 0], [212, 211, 210]]
