"""What a case of the benchmark consists of."""

import os
from collections.abc import Callable
from typing import NamedTuple


class Side(NamedTuple):
    """One way to do what a case is about."""

    run: Callable[[], float]  # does it once, to the end, and returns some number of its result, which must be finite
    beside: str = ""  # the side whose time its own is a multiple of; "" the case's first
    spikes: int = 0  # made in one run; 0 where the case is not about them
    bytes: int = 0  # written in one run


def threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))
