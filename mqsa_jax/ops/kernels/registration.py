"""Names under which XLA calls the kernels; they are compiled when a program first needs them."""

import functools

import jax

from mqsa_jax.ops.kernels import build

LINEAR_LOGSUMEXP, SPARSE_BILINEAR, LARGEST = build.SYMBOLS


def registered() -> bool:
    """Whether the kernels are at hand: compiled now or before, and known to XLA."""
    return _registered()


def kernels_in_use() -> bool:
    """Whether a program of this process was lowered with kernels."""
    return bool(_registered.cache_info().currsize) and _registered()


@functools.cache
def _registered() -> bool:
    library = build.load()
    if library is None:
        return False
    for name in build.SYMBOLS:
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    return True
