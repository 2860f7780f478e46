"""Eight virtual CPU devices, shapes checked, one compilation cache for all runs of the tests."""

import os
from pathlib import Path

# Before JAX starts its backend: enough threads that collectives of 8 devices cannot deadlock.
os.environ.setdefault("NPROC", "16")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Programs that are compiled quickly and run slowly, in processes that tests start too. An empty
# XLA_FLAGS compiles as for users; CI runs the numerical tests that way as well.
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false"
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import jaxtyping

# Checks every annotated shape of the package while the tests run; before it is first imported.
jaxtyping.install_import_hook("mqsa_jax", "beartype.beartype")

import jax
import numpy as np
import pytest

from mqsa_jax.ops.kernels import build, registration

CACHE = Path(__file__).parents[1] / ".pytest_cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="module", params=["xla", "kernels"])
def product_path(request):
    """The tests of a module twice: with products by XLA, and by the C++ kernels."""
    if request.param == "kernels" and build.load() is None:
        pytest.skip("no C++ compiler")
    jax.clear_caches()
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "xla":
            patch.setattr(registration, "_registered", lambda: False)
        yield request.param
    jax.clear_caches()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def getkey():
    """A function that gives a fresh JAX key at each call."""
    state = {"key": jax.random.key(0)}

    def fresh():
        state["key"], key = jax.random.split(state["key"])
        return key

    return fresh
