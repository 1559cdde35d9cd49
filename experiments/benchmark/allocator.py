"""Keeps freed memory in the process, so that it need not be asked for again.

On Linux, glibc hands every block above 32 MB back to the kernel when it is freed, and gets it back a page at a time.
XLA takes one such block for all that lives within a call, and PyTorch one for each large array. Those page faults can
cost more than the arithmetic: a linear layer and 1024 LIF neurons took 245 ms instead of 205 (two matrix products:
180). Within one program, such as an epoch of training, memory is kept anyway.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # as in glibc's malloc.h
_SETTINGS = {_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 2**29}


def keep_freed_memory() -> bool:
    """Keep freed memory, best set before JAX or PyTorch run anything; return False where there is no glibc to tell."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all([mallopt(name, value) for name, value in _SETTINGS.items()])
