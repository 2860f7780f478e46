"""The two-branch encoder and its initial parameters."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mqsa_jax.models.encoder import Block
from mqsa_jax.models.recommender import Recommender, apply, init
from tests import oracle
from tests.models.encoder_cases import (
    DEEP,
    FLAT,
    HISTORIES,
    OTHER_STARTS,
    ROWS,
    STARTS,
    D,
    T,
    V,
    encode_deep,
    encode_flat,
    packed,
    random_params,
    taken,
)


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
