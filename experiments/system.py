"""The process that a command runs in: the others beside it, its compiled programs, and what orbax prints in it.

Each of the functions about several processes is called by all processes or by none. With one they cost nothing.
"""

import logging
import os
import sys
import warnings
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from jsnn.files import cache_folder

_PATIENCE = 24 * 60 * 60  # s; what the first process does alone, such as figures and pages, is not short


def join() -> None:
    """Make this process one of several, before JAX is used.

    On SLURM, Open MPI, Kubernetes and TPU pods JAX knows by itself where the others are. Elsewhere the environment
    says so: JAX_COORDINATOR_ADDRESS (host:port of the first process), JAX_NUM_PROCESSES and JAX_PROCESS_ID (from 0).

    Raises:
        ValueError: if neither does.
    """
    try:
        numbers = [os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")]
        count, index = [None if number is None else int(number) for number in numbers]
        jax.distributed.initialize(num_processes=count, process_id=index, shutdown_timeout_seconds=_PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--distributed does not find the other processes: outside SLURM, Open MPI, Kubernetes and TPU pods set "
            f"JAX_COORDINATOR_ADDRESS (host:port of the first), JAX_NUM_PROCESSES and JAX_PROCESS_ID ({error})"
        ) from error


def is_first() -> bool:
    """Return whether this is the process that writes and prints."""
    return jax.process_index() == 0


def any_of(flag: bool) -> bool:
    """Return whether the flag is set in any process."""
    return bool(flag if jax.process_count() == 1 else multihost_utils.process_allgather(np.asarray(flag)).any())


def of_first(text: str) -> str:
    """Return the text of the first process; all must be of one length."""
    if jax.process_count() == 1:
        return text
    return bytes(multihost_utils.broadcast_one_to_all(np.frombuffer(text.encode(), np.uint8))).decode()


def meet(place: str) -> None:
    """Wait until all processes are here; a place is met at once only."""
    multihost.sync_global_processes(place, timeout=_PATIENCE, processes=set(range(jax.process_count())))


def keep_compiled() -> None:
    """Let JAX keep compiled programs in JSNN_CACHE_DIR (~/.cache/jsnn), unless JAX_COMPILATION_CACHE_DIR says where.

    JAX takes one up only for the same program, version, kind of device and, on CPU, instruction set.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    folder = cache_folder() / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    # A read-only home, a full disk or a damaged file cost time, and nothing else.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache", UserWarning)


def quiet_orbax() -> None:
    """Hide what orbax prints beside an error that it raises, and that is shown in one line.

    That is a traceback for each array that cannot be written on a full disk, or read from a damaged checkpoint.

    Orbax closes its event loop at the first error. Its other readers and writers go on in threads, where they find the
    loop closed, or an error of their own, and nobody to tell it.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    show = sys.unraisablehook

    def show_others(unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)  # of a coroutine
        is_closed = (
            isinstance(unraisable.exc_value, RuntimeError) and str(unraisable.exc_value) == "Event loop is closed"
        )
        if not is_closed and (code is None or "orbax" not in code.co_filename):
            show(unraisable)

    sys.unraisablehook = show_others
