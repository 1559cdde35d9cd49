"""Runs sides alternately, round by round, so that a machine that is busy at times is so for all of them."""

import gc
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.benchmark.side import Side

_LEAST_SECONDS = 0.1  # a side that is faster is run several times a round
_MOST_REPEATS = 20


class Timing(NamedTuple):
    """How long a side took."""

    wall: list[float]  # seconds of one run by the clock, in each round
    cpu: list[float]  # seconds of one run on all cores together, in each round
    first: float  # seconds of the very first run, which is not counted


def measure(sides: Mapping[str, Side], rounds: int, deadline: float = math.inf) -> dict[str, Timing]:
    """Return the times of each side in each round. The first run of each warms up and is looked at, and not counted.

    Each round starts with another side. After the deadline, a time of `time.monotonic`, only the first round is begun.

    Raises:
        FloatingPointError: if a side makes anything that is not finite.
        ValueError: if `rounds` is below 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be >= 1, got {rounds}")
    timings, repeats = {}, {}
    for name, side in sides.items():
        start = time.perf_counter()
        made = side.run()
        first = time.perf_counter() - start
        if not is_finite(made):
            raise FloatingPointError(f"{name} made numbers that are not finite")
        del made
        repeats[name] = _repeats(side) if first < 1.0 else 1
        timings[name] = Timing([], [], first)
    names = list(sides)
    gc.collect()
    for index in range(rounds):
        if index and time.monotonic() > deadline:
            break
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            start, cpu_start = time.perf_counter(), time.process_time()
            for _ in range(repeats[name]):
                sides[name].run()
            timings[name].wall.append((time.perf_counter() - start) / repeats[name])
            timings[name].cpu.append((time.process_time() - cpu_start) / repeats[name])
    return timings


def _repeats(side: Side) -> int:
    start = time.perf_counter()
    side.run()
    seconds = time.perf_counter() - start
    return max(1, min(_MOST_REPEATS, math.ceil(_LEAST_SECONDS / seconds)))


def is_finite(made: Any) -> bool:
    """Return whether all numbers in JAX's, NumPy's or PyTorch's arrays are."""
    with np.errstate(invalid="ignore"):
        totals = [leaf if isinstance(leaf, int | float) else float(leaf.sum()) for leaf in jax.tree.leaves(made)]
    return bool(totals) and all(math.isfinite(total) for total in totals)
