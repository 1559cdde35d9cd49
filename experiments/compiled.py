"""Compiled programs are kept on disk: a run compiles only what no run before it has."""

import warnings

import jax

from jsnn.files import cache_folder


def keep() -> None:
    """Let JAX keep them in JSNN_CACHE_DIR (~/.cache/jsnn), unless JAX_COMPILATION_CACHE_DIR says where.

    JAX takes one up only for the same program, version, kind of device and, on CPU, instruction set.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    folder = cache_folder() / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    # A read-only home, a full disk or a damaged file cost time, and nothing else.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache", UserWarning)
