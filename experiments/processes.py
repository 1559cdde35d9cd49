"""Several processes that run one command, each with devices of its own: how they meet, and what they agree on.

Each of these functions is called by all processes or by none. With one process they cost nothing.
"""

import os

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

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
