"""What holds for every backbone of packed rows, whatever it computes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.layers.fmlp import FMLP
from mqsa_jax.layers.gru import GRU

ROWS, T, D = 2, 7, 6
BACKBONES = {"gru": GRU(num_layers=2), "fmlp": FMLP(num_blocks=1)}
LAYOUT = np.array([[0, 0, 0, 1, 1, 1, -1], [-1, 2, 2, 2, 2, 2, 3]], np.int32)
HISTORIES = [(0, slice(0, 3)), (0, slice(3, 6)), (1, slice(1, 6)), (1, slice(6, 7))]
REAL = LAYOUT >= 0


@pytest.fixture(params=BACKBONES, scope="module")
def backbone(request):
    return BACKBONES[request.param]


@pytest.fixture(scope="module")
def run(backbone):
    """`run(params, x, segment, masks)`, compiled once for all tests."""
    return jax.jit(lambda params, *inputs: backbone.apply({"params": params}, *inputs))


@pytest.fixture(scope="module")
def params(backbone):
    """Every parameter random, so that none is without effect."""
    blank = jnp.zeros((ROWS, T, D)), jnp.zeros((ROWS, T), jnp.int32), None
    shapes = jax.eval_shape(backbone.init, jax.random.key(0), *blank)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.float32(rng.normal(size=leaf.shape) / 2), shapes)


@pytest.fixture
def x(rng):
    return rng.normal(size=(ROWS, T, D)).astype(np.float32)


def ones(backbone):
    return jax.tree.map(lambda width: np.ones((ROWS, T, width), np.float32), widths(backbone))


def widths(backbone):
    return backbone.mask_widths(D, T)


def test_packed_histories_are_as_if_alone(params, run, x):
    packed = run(params, x, LAYOUT, None)
    assert np.abs(packed[REAL]).min(-1).max() > 0
    for row, columns in HISTORIES:
        length = columns.stop - columns.start
        for first in (0, T - length):
            alone, segment = np.zeros_like(x), np.full_like(LAYOUT, -1)
            mine = slice(first, first + length)
            alone[0, mine], segment[0, mine] = x[row, columns], 5
            out = run(params, alone, segment, None)
            np.testing.assert_allclose(out[0, mine], packed[row, columns], rtol=1e-4, atol=1e-5)


def test_gradient_reaches_earlier_positions_of_the_same_history_only(backbone, params, x):
    direction_D = np.random.default_rng(1).normal(size=D).astype(np.float32)

    @jax.jit
    @jax.jacrev
    def jacobian(x):
        return backbone.apply({"params": params}, x, jnp.asarray(LAYOUT), None) @ direction_D

    slope = np.abs(jacobian(x)).max(-1)  # [row, t, row', t']
    reached = np.zeros((ROWS, T, ROWS, T), bool)
    for row, columns in HISTORIES:
        for t in range(columns.start, columns.stop):
            reached[row, t, row, columns.start : t + 1] = True
    assert (slope[reached] > 0).all()
    assert not slope[~reached].any()


@pytest.mark.parametrize("filling", [1e30, np.nan])
def test_padding_is_zero_and_never_leaks(params, run, x, filling):
    clean = run(params, np.where(REAL[..., None], x, 0), LAYOUT, None)
    filled = run(params, np.where(REAL[..., None], x, np.float32(filling)), LAYOUT, None)
    np.testing.assert_array_equal(filled, clean)
    assert not np.asarray(clean)[~REAL].any()


def test_gradients_are_finite_and_none_comes_from_padding(backbone, params, x):
    """Whatever stands there, and with a row of nothing but padding."""
    x = np.where(REAL[..., None], x, np.float32(np.nan))
    x = np.concatenate([x, np.full_like(x[:1], np.nan)])
    segment = jnp.asarray(np.concatenate([LAYOUT, np.full_like(LAYOUT[:1], -1)]))

    @jax.jit
    @jax.grad
    def gradient(inputs):
        params, x = inputs
        return jnp.square(backbone.apply({"params": params}, x, segment, None)).sum()

    gradients = gradient((params, x))
    chex.assert_tree_all_finite(gradients)
    of_params, of_x = gradients
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(of_params))
    assert (np.asarray(of_x).any(-1) == (np.asarray(segment) >= 0)).all()


def test_masks_of_ones_change_nothing(backbone, params, run, x):
    out = run(params, x, LAYOUT, None)
    np.testing.assert_allclose(run(params, x, LAYOUT, ones(backbone)), out, atol=1e-5)


def test_each_mask_reaches_its_position_and_what_follows(backbone, params, run, x):
    out = run(params, x, LAYOUT, ones(backbone))
    for index, name in enumerate(jax.tree.leaves_with_path(widths(backbone))):
        masks = ones(backbone)
        jax.tree.leaves(masks)[index][1, 3] = 0  # the third of five items
        changed = (run(params, x, LAYOUT, masks) != out).any(-1)
        assert changed[1, 3], name
        assert not changed[0].any(), name
        assert not changed[1, [0, 1, 2, 6]].any(), name


def test_any_leading_axes(params, run, x):
    stack = np.stack([x, x[::-1]])[None]  # [1, 2, ROWS, T, D]
    segment = np.stack([LAYOUT, LAYOUT[::-1]])[None]
    out = run(params, stack, segment, None)
    assert out.shape == stack.shape
    expected = run(params, x, LAYOUT, None)
    np.testing.assert_allclose(out[0, 0], expected, atol=1e-5)
    np.testing.assert_allclose(out[0, 1], expected[::-1], atol=1e-5)


def test_vmap_and_pmap_agree_with_a_batch(backbone, params, run, rng):
    x = rng.normal(size=(8, T, D)).astype(np.float32)
    segment = np.concatenate([LAYOUT] * 4)

    def one(x_TD, segment_ids_T):
        return backbone.apply({"params": params}, x_TD, segment_ids_T, None)

    batch = run(params, x, segment, None)
    mapped, on_devices = jax.jit(jax.vmap(one))(x, segment), jax.pmap(one)(x, segment)
    chex.assert_trees_all_close(batch, mapped, on_devices, rtol=1e-4, atol=1e-5)


def test_bfloat16_products_are_near(backbone, params, run, x):
    full = run(params, x, LAYOUT, None)
    rounded = backbone.clone(precision="bfloat16")
    coarse = jax.jit(rounded.apply)({"params": params}, x, LAYOUT, None)
    assert coarse.dtype == np.float32
    assert 1e-5 < np.abs(coarse - full).max() < 0.1 * np.abs(full).max()
