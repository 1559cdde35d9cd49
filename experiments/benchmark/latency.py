"""One sample, streamed step by step through a dense network (784-128-10): microseconds from a frame to its output.

Each frame comes as a NumPy array, and its output is waited for before the next is sent; the state stays where it is.
The floor is a call that does the two products with the weights and nothing else.
"""

import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

import jsnn
from experiments.benchmark.latency_peers import STEPS, Step
from experiments.benchmark.side import Comparison, Setting, Side, compiled
from jsnn.types import Array

_SIZES = (784, 128, 10)


def comparisons(setting: Setting, *, steps: int = 1_000) -> Iterator[Comparison]:
    """Return a stream of frames."""
    frames = (np.random.default_rng(0).random((steps, 1, _SIZES[0])) < 0.2).astype(np.float32)
    network = jsnn.models.feedforward(_SIZES, rngs=nnx.Rngs(0))
    first, second = (np.asarray(layer.kernel[...]) for layer in network.layers if isinstance(layer, nnx.Linear))
    hidden = np.zeros((1, _SIZES[1]), np.float32)
    start = network.init(frames[0].shape)
    ours = compiled(network.step, start, frames[0])
    products = compiled(lambda x, h: (x @ first, h @ second), frames[0], hidden)

    def step(state: Any, frame: np.ndarray) -> Any:
        return jax.block_until_ready(ours.call(state, frame))[0]

    def multiply(state: Array, frame: np.ndarray) -> Any:
        jax.block_until_ready(products.call(frame, state))
        return state

    sides = {
        "jsnn": stream(step, start, frames)._replace(
            compile_seconds=ours.compile_seconds, memory_bytes=ours.memory_bytes
        ),
        "matrix products": stream(multiply, jax.device_put(hidden), frames)._replace(
            role="floor", compile_seconds=products.compile_seconds, memory_bytes=products.memory_bytes
        ),
    }
    for peer in filter(STEPS.get, setting.peers):
        sides[peer] = stream(*STEPS[peer](setting, [first, second]), frames)._replace(role="peer")
    notes = ("each library's own LIF neurons and leaky readout: see fc_lif for what they have in common",)
    yield Comparison(f"one sample, {steps:,} steps", sides, notes if len(sides) > 2 else ())


def stream(step: Step, start: Any, frames: np.ndarray) -> Side:
    """Return the side that sends frame after frame, and keeps how long each took."""
    microseconds: list[float] = []

    def run() -> Any:
        state = start
        for frame in frames:
            before = time.perf_counter()
            state = step(state, frame)
            microseconds.append(1e6 * (time.perf_counter() - before))
        return microseconds[-len(frames) :]

    def details(seconds: float) -> dict[str, float]:
        counted = microseconds[len(frames) :]  # the first run warms up
        return {name: float(np.percentile(counted, share)) for name, share in (("median us", 50), ("p99 us", 99))}

    return Side(run, details=details)
