"""The implementation goes by the platform that a program is lowered for, not by the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mqsa_jax.layers.dropout import keep_mask
from mqsa_jax.losses.ranking import ranking_loss
from mqsa_jax.ops.kernels import build
from mqsa_jax.ops.kernels.registration import LINEAR_LOGSUMEXP, SPARSE_BILINEAR
from mqsa_jax.ops.platforms import bound, by_platform
from mqsa_jax.ops.sparse_bilinear import sparse_bilinear

needs_kernels = pytest.mark.skipif(build.load() is None, reason="no C++ compiler")


def _plus(x, *, number):
    return {"y": x + number}


def name_of(platforms):
    """A function whose result tells which implementation it is."""
    order = ["gpu", "cpu", "cpu_kernel", "tpu"]
    functions = {name: bound(_plus, number=order.index(name)) for name in platforms}
    return lambda x: by_platform(functions, x)["y"]


@pytest.mark.parametrize(
    ("platforms", "expected"),
    [(["gpu"], 0), (["gpu", "cpu"], 1), (["gpu", "cpu", "cpu_kernel"], 2), (["gpu", "tpu"], 0)],
)
def test_the_nearest_one_is_taken(platforms, expected):
    f = name_of(platforms)
    for run in (f, jax.jit(f), jax.vmap(f), jax.jit(jax.vmap(jax.vmap(f)))):
        assert float(jnp.max(run(jnp.zeros((2, 2))))) == expected


def test_works_where_jit_is_switched_off():
    with jax.disable_jit():
        assert float(name_of(["gpu", "cpu"])(jnp.zeros(()))) == 1
        loss, _ = loss_gradient(*INPUTS)
    assert float(loss) == float(loss_gradient(*INPUTS)[0])


def test_a_kernel_that_is_not_at_hand_is_passed_over():
    functions = {"gpu": jnp.negative, "cpu": jnp.exp, "cpu_kernel": lambda x: None}
    for run in (lambda x: x, jax.vmap):
        f = run(lambda x: by_platform(functions, x))
        np.testing.assert_allclose(f(jnp.ones(3)), jnp.exp(jnp.ones(3)))


def mesh(count: int) -> Mesh:
    return Mesh(np.array(jax.devices()[:count]), ("data",), axis_types=(AxisType.Auto,))


def test_several_devices_take_no_kernel():
    f = name_of(["gpu", "cpu", "cpu_kernel"])
    spec = PartitionSpec("data")
    x = jnp.zeros(8)
    assert jax.jit(f, in_shardings=NamedSharding(mesh(1), spec))(np.asarray(x)).max() == 2
    assert jax.jit(f, in_shardings=NamedSharding(mesh(8), spec))(np.asarray(x)).max() == 1
    mapped = jax.shard_map(f, mesh=mesh(8), in_specs=spec, out_specs=spec, check_vma=False)
    assert jax.jit(mapped)(np.asarray(x)).max() == 1
    assert jax.pmap(f)(jnp.zeros((8, 1))).max() == 1


def loss_gradient(user_ND, item_VD, target_N):
    return jax.value_and_grad(ranking_loss, argnums=(0, 1))(user_ND, item_VD, target_N)


def bilinear_gradient(x_ND, table_VD, index_N):
    return jax.grad(sparse_bilinear)(x_ND, table_VD, index_N, index_N, jnp.ones(len(index_N)))


INPUTS = (jnp.ones((8, 4)), jnp.ones((8, 4)), jnp.arange(8))
CASES = [(loss_gradient, LINEAR_LOGSUMEXP), (bilinear_gradient, SPARSE_BILINEAR)]


@needs_kernels
@pytest.mark.parametrize(("f", "kernel"), CASES)
def test_programs_hold_kernels_where_these_can_run(f, kernel):
    traced = jax.jit(f).trace(*INPUTS)
    assert kernel in traced.lower(lowering_platforms=("cpu",)).as_text()
    for platform in ("tpu", "cuda"):
        assert kernel not in traced.lower(lowering_platforms=(platform,)).as_text()
    split = jax.jit(f, in_shardings=NamedSharding(mesh(8), PartitionSpec()))
    assert kernel not in split.lower(*map(np.asarray, INPUTS)).as_text()
    mapped = jax.vmap(f, in_axes=(0, None, None))
    text = jax.jit(mapped).lower(jnp.ones((3, 8, 4)), *INPUTS[1:]).as_text()
    assert kernel in text


@pytest.mark.parametrize(("f", "kernel"), CASES)
def test_gradients_are_exported_for_all_platforms(f, kernel):
    exported = export.export(jax.jit(f), platforms=("cpu", "cuda", "tpu"))(*INPUTS)
    assert kernel not in exported.mlir_module()
    for own, expected in zip(
        jax.tree.leaves(exported.call(*INPUTS)), jax.tree.leaves(f(*INPUTS)), strict=True
    ):
        # Of a difference of numbers about 1, whose last bits depend on the order of sums.
        np.testing.assert_allclose(own, expected, rtol=1e-6, atol=1e-7)


def test_masks_are_kept_in_memory_on_cpus_alone():
    def mask(unit_N):
        return keep_mask(jax.random.key(0), 0.5, unit_N, 4)

    traced = jax.jit(mask).trace(jnp.arange(5))
    assert "while" in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "while" not in traced.lower(lowering_platforms=("tpu",)).as_text()


def test_outside_jit_a_program_is_compiled_once():
    calls = []

    def counted(x, *, number):
        calls.append(number)
        return {"y": x + number}

    def run(number, x=INPUTS[0]):
        # Made anew at each call, as the losses do.
        functions = {"gpu": bound(_plus, number=0), "cpu": bound(counted, number=number)}
        return by_platform(functions, x)["y"]

    for transformed in (run, jax.vmap(run, in_axes=(None, 0))):
        calls.clear()
        for number in (1, 1, 2, 2, 1):
            np.testing.assert_array_equal(transformed(number, INPUTS[0]), 1 + number)
        assert calls == [1, 2]
