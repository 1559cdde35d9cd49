"""All time steps in chunks: to keep less for a gradient, or to end it after some steps."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax.errors import TraceContextError

from jsnn.types import Inputs, State

RunSteps: TypeAlias = Callable[[State, Any, int | None], tuple[State, Any]]
"""(state, inputs [T, B, ...], None) -> (state, outputs [T, B, ...]); static inputs [B, ...] come with num_steps."""


def count_steps(inputs: Inputs, num_steps: int | None) -> int:
    """Return the number of time steps: that of a static input, or the length of the first axis of others."""
    return len(jax.tree.leaves(inputs)[0]) if num_steps is None else num_steps


def in_chunks(run: RunSteps, length: int | bool, change: Callable[[RunSteps], RunSteps], least: int = 0) -> RunSteps:
    """Return `run` in chunks of `length` steps, each run by `change(run)`; their outputs come one after another.

    The last steps, which make no whole chunk, are run by `run` itself: at least `least` of them. The length True stands
    for about the square root of the number of steps.
    """

    def run_chunks(state: State, inputs: Inputs, num_steps: int | None) -> tuple[State, Any]:
        total = count_steps(inputs, num_steps)
        steps = divisor_below(total, math.isqrt(total)) if length is True else min(length, total)
        count = max(total - least, 0) // steps if steps else 0
        whole = count * steps
        if count == 0:
            return run(state, inputs, num_steps)

        def run_chunk(state: State, chunk: Inputs | None) -> tuple[State, Any]:
            return change(run)(state, inputs, steps) if chunk is None else change(run)(state, chunk, None)

        chunks, rest = None, inputs
        if num_steps is None:
            chunks = jax.tree.map(lambda x: x[:whole].reshape(count, steps, *x.shape[1:]), inputs)
            rest = jax.tree.map(lambda x: x[whole:], inputs)
        state, outputs = jax.lax.scan(run_chunk, state, chunks, length=count)
        outputs = jax.tree.map(lambda y: y.reshape(y.shape[0] * y.shape[1], *y.shape[2:]), outputs)
        if whole == total:
            return state, outputs
        state, last = run(state, rest, None if num_steps is None else total - whole)
        return state, jax.tree.map(lambda *parts: jnp.concatenate(parts), outputs, last)

    return run_chunks


def rematerialised(remat: bool | int) -> Callable[[RunSteps], RunSteps]:
    """Return what makes a run of some steps one that keeps nothing for its gradient."""

    def change(run: RunSteps) -> RunSteps:
        def run_twice(state: State, inputs: Inputs, num_steps: int | None) -> tuple[State, Any]:
            try:
                return jax.checkpoint(run, static_argnums=2)(state, inputs, num_steps)
            except TraceContextError as error:
                raise ValueError(
                    f"remat={remat} takes layers that change nothing, as each chunk is run twice, by itself: leave it "
                    f"out, or call network.eval() if it is for nnx.BatchNorm or nnx.Dropout ({error})"
                ) from error

        return run_twice

    return change


def without_gradient_of_state(run: RunSteps) -> RunSteps:
    """Return a run of some steps after which no gradient leads back into them by the state."""

    def run_and_stop(state: State, inputs: Inputs, num_steps: int | None) -> tuple[State, Any]:
        state, outputs = run(state, inputs, num_steps)
        return jax.tree.map(jax.lax.stop_gradient, state), outputs

    return run_and_stop


def divisor_below(total: int, length: int) -> int:
    """Return the largest divisor of `total` between half of `length` and `length`; or `length` if there is none."""
    length = min(length, total)
    return next((size for size in range(length, length // 2, -1) if total % size == 0), length)
