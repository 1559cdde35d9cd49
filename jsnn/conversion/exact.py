"""Non-linear functions that a conversion keeps, over time: their mean over all steps is exact in the limit.

A function f that sees single spikes gives the mean of f(spikes), which is not f(mean of the spikes), however many steps
there are. Here it sees the mean so far, and puts out by how much the sum of its values has grown:

    mean_t = (x_1 + ... + x_t) / t,   y_t = t * f(mean_t) - (t - 1) * f(mean_(t-1))

so that (y_1 + ... + y_T) / T = f(mean_T). A chain of such functions needs one mean at its beginning and one difference
at its end, since all between them may work on means.

Source: the temporal difference of Huang et al., "Towards high-performance spiking transformers from ANN to SNN
conversion" (2024), and You et al., "SpikeZIP-TF: conversion is all you need for transformer-based SNN" (2024).
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from jsnn.neurons.pytree import FrozenPytree
from jsnn.program import Operation, Program, is_linear
from jsnn.types import Array, Shape


class OverTimeState(NamedTuple):
    """The state of `RunningMean` and `Growth`."""

    total: Array
    """The sum so far, [B, ...]."""
    steps: Array
    """How many steps it is of, a number."""


class _OverTime(FrozenPytree):
    """Base of the neurons that add up all inputs so far, in float32 or wider."""

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> OverTimeState:
        return OverTimeState(jnp.zeros(shape, jnp.promote_types(dtype, jnp.float32)), jnp.zeros((), jnp.int32))


@nnx.dataclass
class RunningMean(_OverTime):
    """The mean of all inputs so far.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> jsnn.unroll(RunningMean(), jnp.array([[1.0], [0.0], [2.0]]))[1][:, 0].tolist()
        [1.0, 0.5, 1.0]
    """

    def step(self, state: OverTimeState, current: Array) -> tuple[OverTimeState, Array]:
        state = OverTimeState(state.total + current, state.steps + 1)
        return state, (state.total / state.steps).astype(current.dtype)


@nnx.dataclass
class Growth(_OverTime):
    """The growth of `t * x_t` since the step before; its mean so far is x_t.

    An x_t that is infinite or NaN is handed on as it is, and left out of the growth.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> jsnn.unroll(Growth(), jnp.array([[1.0], [0.5], [1.0]]))[1][:, 0].tolist()
        [1.0, 0.0, 2.0]
    """

    def step(self, state: OverTimeState, current: Array) -> tuple[OverTimeState, Array]:
        steps = state.steps + 1
        total = steps * current.astype(state.total.dtype)
        is_finite = jnp.isfinite(total)  # of others, as that of a masked value, no difference can be taken
        growth = jnp.where(is_finite, total - state.total, current)
        return OverTimeState(jnp.where(is_finite, total, state.total), steps), growth.astype(current.dtype)


class Turn(NamedTuple):
    """A place in a program where values turn into their means, or means into values."""

    name: str
    neuron: type[RunningMean | Growth]
    operand: int
    result: int


class Means:
    """Puts `Turn`s into the parts of a program, so that what is kept works on means.

    Args:
        program: the program.
        inputs: what it is given that may vary in time.
    """

    def __init__(self, program: Program, inputs: Collection[int]) -> None:
        self.program = program
        self.varying = program.depending_on(inputs)
        self.types = dict(program.types)
        self.parts: list[Any] = []
        self.turns: list[Turn] = []
        self.spikes: set[int] = set()  # what depends on a neuron, step by step
        self.means: set[int] = set()  # what is the mean of all steps so far
        self._turned: dict[int, int] = {}

    def add(self, operation: Operation, *, as_is: bool = False) -> None:
        """Add an operation; on means if it is not linear in spikes or sees means, unless it must not change."""
        if as_is:
            atoms = tuple(self.at_steps(atom) if isinstance(atom, int) else atom for atom in operation.inputs)
            self.parts.append(operation._replace(inputs=atoms))
            self.spikes |= set(operation.outputs)
            return
        sees_means = not self.means.isdisjoint(operation.inputs)
        if not sees_means and is_linear(self.program, operation, self.spikes):
            self.parts.append(operation)
            if not self.spikes.isdisjoint(operation.inputs):
                self.spikes |= set(operation.outputs)
            return
        atoms = tuple(self.mean(atom) if isinstance(atom, int) else atom for atom in operation.inputs)
        self.parts.append(operation._replace(inputs=atoms))
        self.means |= set(operation.outputs)

    def mean(self, value: int) -> int:
        """Return the mean so far of a value; the value itself if it does not vary, or is a mean already."""
        if value in self.means or value not in self.varying:
            return value
        return self._turn(value, RunningMean, "mean")

    def at_steps(self, value: int) -> int:
        """Return the values whose mean so far is this one; a value that is not a mean is returned unchanged."""
        return self._turn(value, Growth, "growth") if value in self.means else value

    def _turn(self, value: int, neuron: type[RunningMean | Growth], name: str) -> int:
        if not jnp.issubdtype(self.types[value].dtype, jnp.floating):
            return value
        if value not in self._turned:
            result = max(self.types) + 1
            self._turned[value], self.types[result] = result, self.types[value]
            self.turns.append(Turn(f"{name}_{len(self.turns)}", neuron, value, result))
            self.parts.append(self.turns[-1])
            if neuron is RunningMean:
                self.means.add(result)
        return self._turned[value]
