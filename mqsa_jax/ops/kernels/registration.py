"""Which work the kernels take over, and under which names XLA calls them."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mqsa_jax.ops.kernels import build

LINEAR_LOGSUMEXP = "mqsa_jax_linear_logsumexp"
SPARSE_BILINEAR = "mqsa_jax_sparse_bilinear"


def kernels_apply(*factors: Array) -> bool:
    """Whether kernels take products of these: float32 throughout, on the only device, a CPU.

    With several devices XLA decides which of them does what, and it sees nothing of a kernel.
    """
    floats = all(factor.dtype == jnp.float32 for factor in factors)
    return floats and _alone_on_cpu() and _registered()


def kernels_in_use() -> bool:
    """Whether kernels took part in what this process did so far."""
    return bool(_registered.cache_info().currsize) and _registered()


def _alone_on_cpu() -> bool:
    return jax.default_backend() == "cpu" and jax.device_count() == 1


@functools.cache
def _registered() -> bool:
    library = build.load()
    if library is None:
        return False
    for name in (LINEAR_LOGSUMEXP, SPARSE_BILINEAR):
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    return True
