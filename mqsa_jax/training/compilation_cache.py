"""Compiled programs kept between runs, so that the second start does not compile again."""

import jax
import pooch


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder.

    `JAX_COMPILATION_CACHE_DIR` chooses another folder, `JAX_ENABLE_COMPILATION_CACHE=0` turns it
    off.
    """
    if jax.config.jax_compilation_cache_dir is None:
        folder = pooch.os_cache("mqsa_jax") / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    # Below a fifth of a second, reading a program back costs as much as compiling it.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
