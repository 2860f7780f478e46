"""Weighted log-sum-exps of linear logits, and their gradients, against whole logits in float64."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqsa_jax.ops.chunk_loop import chunk_rows, tail_rows
from mqsa_jax.ops.linear_logsumexp import linear_logsumexp, row_logsumexps

pytestmark = pytest.mark.usefixtures("product_path")

S, N, D, V = 2, 7, 3, 5


def naive(x_SND, table_VD, weight_SN, pad_logit):
    """Value and gradients by x, E and w, with all logits at hand."""
    x_SND, table_VD, weight_SN = (
        np.asarray(array, np.float64) for array in (x_SND, table_VD, weight_SN)
    )
    logits = x_SND @ table_VD.T
    if pad_logit:
        logits = np.concatenate([logits, np.zeros_like(logits[..., :1])], axis=-1)
    top = logits.max(-1, keepdims=True)
    exp = np.exp(logits - top)
    lse = np.log(exp.sum(-1)) + top[..., 0]
    grad_SNV = (weight_SN[..., None] * exp / exp.sum(-1, keepdims=True))[..., : len(table_VD)]
    dtable_VD = np.einsum("snv,snd->vd", grad_SNV, x_SND)
    lse = np.where(weight_SN != 0, lse, 0)  # rows of weight 0 are skipped
    return (weight_SN * lse).sum(), (grad_SNV @ table_VD, dtable_VD, lse)


def total(*inputs, **options):
    return linear_logsumexp(*inputs, **options)[0]


fused = jax.jit(
    jax.value_and_grad(total, argnums=(0, 1, 2)), static_argnames=("pad_logit", "chunk")
)


def arrays(rng, scale=1.0):
    x = scale * rng.normal(size=(S, N, D))
    weight = rng.choice([0.0, 0.25, 1.0, 3.0], size=(S, N))
    return tuple(array.astype(np.float32) for array in (x, scale * rng.normal(size=(V, D)), weight))


@pytest.mark.parametrize("pad_logit", [False, True])
@pytest.mark.parametrize("chunk", [None, 1, 3, N, 20])
def test_agrees_with_whole_logits(pad_logit, chunk):
    @settings(max_examples=10, deadline=None, derandomize=True)
    @given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.01, 5))
    def run(seed, scale):
        inputs = arrays(np.random.default_rng(seed), scale)
        value, gradients = fused(*inputs, pad_logit=pad_logit, chunk=chunk)
        expected, expected_gradients = naive(*inputs, pad_logit)
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5 * scale)
        for actual, right in zip(gradients, expected_gradients, strict=True):
            np.testing.assert_allclose(actual, right, rtol=1e-4, atol=1e-5 * (1 + scale))

    run()


def test_visible_examples():
    x, table, weight = jnp.zeros((1, 2, 3)), jnp.ones((4, 3)), jnp.array([[1.0, 0.5]])
    # Four logits of 0: log 4; with the padding class log 5.
    np.testing.assert_allclose(total(x, table, weight), 1.5 * np.log(4), rtol=1e-6)
    np.testing.assert_allclose(total(x, table, weight, pad_logit=True), 1.5 * np.log(5), rtol=1e-6)


@pytest.mark.parametrize("pad_logit", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_large_logits_do_not_overflow(pad_logit, sign):
    x = np.full((S, N, D), sign * 1e4 / D, np.float32)
    table, weight = np.ones((V, D), np.float32), np.ones((S, N), np.float32)
    table[0] = 2
    value, gradients = fused(x, table, weight, pad_logit=pad_logit, chunk=3)
    # Logits 2e4 and 1e4: the first wins. Or -2e4 and -1e4: the four others, or else the 0, win.
    expected = {1: 2e4, -1: 0 if pad_logit else np.log(4) - 1e4}[sign]
    np.testing.assert_allclose(value, S * N * expected, rtol=1e-6)
    chex.assert_tree_all_finite(gradients)
    winners = {1: [0], -1: [] if pad_logit else [1, 2, 3, 4]}[sign]
    dtable = np.zeros((V, D))
    dtable[winners] = S * N * x[0, 0, 0] / max(len(winners), 1)
    np.testing.assert_allclose(gradients[1], dtable, rtol=1e-5)


@pytest.mark.parametrize("pad_logit", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 20])
def test_without_weight_all_is_zero(rng, pad_logit, chunk):
    x, table, weight = arrays(rng)
    value, gradients = fused(x, table, 0 * weight, pad_logit=pad_logit, chunk=chunk)
    assert value == 0
    chex.assert_tree_all_finite(gradients)
    assert not gradients[0].any()
    assert not gradients[1].any()


def test_rows_without_weight_change_nothing(rng):
    x, table, weight = arrays(rng)
    weight[:, 4:] = 0
    changed = x.copy()
    changed[:, 4:] = 1e3
    # Rows 4 and 5 lie in the same chunk as row 3, row 6 in the next.
    before, (dx, dtable, _) = fused(x, table, weight, pad_logit=True, chunk=3)
    after, (dx_after, dtable_after, _) = fused(changed, table, weight, pad_logit=True, chunk=3)
    chex.assert_trees_all_equal((before, dx, dtable), (after, dx_after, dtable_after))
    assert not dx[:, 4:].any()


def test_rows_that_do_not_count_are_skipped(rng):
    x, table, weight = arrays(rng)
    weight[:, [0, 3, 4]] = 0
    expected = naive(x, table, weight, False)
    x[:, [0, 3, 4]] = np.nan
    value, gradients = fused(x, table, weight, pad_logit=False, chunk=3)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradients[1], expected[1][1], atol=1e-5)
    assert not gradients[0][:, [0, 3, 4]].any()


def test_log_sum_exps_of_the_rows_that_count(rng):
    x, table, _ = arrays(rng)
    where = rng.random((S, N)) < 0.5
    pad_logit = rng.random((S, N)) < 0.5
    inputs = map(jnp.asarray, (x, table, np.where(where, np.float32(0.5), 0)))
    _, lse = linear_logsumexp(*inputs, pad_logit=jnp.asarray(pad_logit))
    ones = np.ones((S, N))
    with_zero, without = (naive(x, table, ones, zero)[1][2] for zero in (True, False))
    expected = np.where(where, np.where(pad_logit, with_zero, without), 0)
    np.testing.assert_allclose(lse, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pad_logit", [False, True])
@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_rows_one_by_one(rng, pad_logit, chunk):
    """The gradients by each cotangent are those of the sum that it weights."""
    x, table, weight = arrays(rng)
    where = np.ones((S, N), bool)
    where[:, [1, 5]] = False
    x[:, [1, 5]] = np.nan

    @jax.jit
    def run(x, table, where, cotangent):
        def rows(x, table):
            return row_logsumexps(x, table, where, pad_logit=pad_logit, chunk=chunk)

        value, pull = jax.vjp(rows, x, table)
        return value, pull(cotangent)

    value, (dx, dtable) = run(x, table, where, weight)
    clean = np.where(where[..., None], x, 0)
    _, (_, _, expected) = naive(clean, table, np.ones((S, N)), pad_logit)
    np.testing.assert_allclose(value, np.where(where, expected, 0), rtol=1e-5, atol=1e-6)
    _, (expected_dx, expected_dtable, _) = naive(clean, table, weight * where, pad_logit)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dtable, expected_dtable, rtol=1e-4, atol=1e-5)
    mapped = jax.vmap(run, in_axes=(0, None, 0, 0))(
        np.stack([x, 2 * x]),
        table,
        np.stack([where, np.zeros_like(where)]),
        np.stack([weight, weight]),
    )
    first = jax.tree.map(lambda leaf: leaf[0], mapped)
    chex.assert_trees_all_close(first, (value, (dx, dtable)), rtol=1e-4, atol=1e-6)
    assert not any(leaf[1].any() for leaf in jax.tree.leaves(mapped))


def test_rows_one_by_one_hold_one_chunk_of_logits():
    rows, items, chunk = 512, 4096, 16
    inputs = jnp.ones((1, rows, D)), jnp.ones((items, D)), jnp.ones((1, rows), bool)

    def largest(x, table, where):
        return row_logsumexps(x, table, where, chunk=chunk).max()

    program = jax.jit(jax.grad(largest, argnums=(0, 1))).lower(*inputs).compile()
    temporaries = program.memory_analysis().temp_size_in_bytes
    assert temporaries < 4 * rows * items / 4


@pytest.mark.parametrize(
    ("chunk", "tail", "rows", "used"),
    [(64, 16, 150, used) for used in (0, 1, 63, 64, 65, 80, 129, 150)]
    # Tails of 16 do not divide a chunk of 72, and every row counts.
    + [(72, 16, rows, rows) for rows in (71, 72, 73, 140, 144, 145)],
)
def test_full_chunks_then_smaller_ones(chunk, tail, rows, used):
    rng = np.random.default_rng(used)
    x = rng.normal(size=(1, rows, D)).astype(np.float32)
    table = rng.normal(size=(V, D)).astype(np.float32)
    weight = np.zeros((1, rows), np.float32)
    weight[0, rng.permutation(rows)[:used]] = 0.5
    assert tail_rows(chunk) == tail
    value, gradients = fused(x, table, weight, pad_logit=True, chunk=chunk)
    expected, expected_gradients = naive(x, table, weight, True)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for actual, right in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(actual, right, rtol=1e-4, atol=1e-4)


def test_one_shard_may_need_more_chunks_than_another(rng):
    x, table, weight = arrays(rng)
    weight[0, 1:] = 0
    expected, (dx, dtable, _) = naive(x, table, weight, True)
    value, gradients = fused(x, table, weight, pad_logit=True, chunk=1)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradients[0], dx, atol=1e-5)
    np.testing.assert_allclose(gradients[1], dtable, atol=1e-5)


def test_gradients_are_scaled_by_what_follows(rng):
    inputs = arrays(rng)
    doubled = jax.jit(jax.grad(lambda *inputs: total(*inputs, chunk=3) ** 2, argnums=(0, 1, 2)))(
        *inputs
    )
    value, gradients = naive(*inputs, False)
    expected = jax.tree.map(lambda gradient: 2 * value * gradient, gradients)
    for actual, right in zip(doubled, expected, strict=True):
        np.testing.assert_allclose(actual, right, rtol=1e-4, atol=1e-4)


def test_vmap_and_pmap_agree(rng):
    x, table, weight = map(jnp.asarray, arrays(rng))
    stack_x = np.stack([x * scale for scale in range(8)])
    stack_weight = np.stack([weight] * 8)
    stack_weight[3, :, 1:] = 0  # lanes differ in the chunks that they need

    def one(x, weight):
        gradient = jax.value_and_grad(total, argnums=(0, 1))
        return gradient(x, table, weight, pad_logit=True, chunk=3)

    mapped = jax.jit(jax.vmap(one))(stack_x, stack_weight)
    on_devices = jax.pmap(one)(stack_x, stack_weight)
    chex.assert_trees_all_close(mapped, on_devices, rtol=1e-5, atol=1e-5)
    for lane in range(8):
        value, (dx, dtable, _) = naive(stack_x[lane], table, stack_weight[lane], True)
        np.testing.assert_allclose(mapped[0][lane], value, rtol=1e-5)
        np.testing.assert_allclose(mapped[1][0][lane], dx, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(mapped[1][1][lane], dtable, rtol=1e-4, atol=1e-4)


def test_float32_where_jax_counts_in_64_bits(rng):
    inputs = arrays(rng)
    expected, expected_gradients = naive(*inputs, False)
    jax.config.update("jax_enable_x64", True)
    try:
        value, gradients = jax.value_and_grad(total, argnums=(0, 1, 2))(*map(jnp.asarray, inputs))
    finally:
        jax.config.update("jax_enable_x64", False)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for actual, right in zip(gradients, expected_gradients, strict=True):
        assert actual.dtype == jnp.float32
        np.testing.assert_allclose(actual, right, rtol=1e-4, atol=1e-5)


def test_no_rows_at_all():
    table = jnp.ones((V, D))
    value, (dx, dtable, _) = fused(
        jnp.zeros((1, 0, D)), table, jnp.zeros((1, 0)), pad_logit=True, chunk=None
    )
    assert value == 0
    assert dx.shape == (1, 0, D)
    assert not dtable.any()


@pytest.mark.parametrize(
    ("rows", "items", "backend", "expected"),
    [
        (1000, 11_924, "cpu", 256),  # 2**23 / 11,924 = 703 is more than the most
        (1000, 40_000, "cpu", 208),  # 2**23 / 40,000 = 209, down to a multiple of 8
        (1000, 10**7, "cpu", 64),
        (5, 10, "cpu", 5),
        (0, 10, "cpu", 1),
        (10**6, 11_924, "gpu", 4096),  # 2**26 / 11,924 = 5,628
        (10**6, 11_924, "tpu", 2048),  # 2**25 / 11,924 = 2,814
        (10**6, 11_924, "another", 4096),
    ],
)
def test_rows_of_a_chunk(rows, items, backend, expected):
    assert chunk_rows(rows, items, backend) == expected
