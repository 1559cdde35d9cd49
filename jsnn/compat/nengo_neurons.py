"""The classes that `jsnn.compat.nengo` uses: Izhikevich's neuron with nengo's rules, and nengo's triangular filter."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from jsnn import neurons
from jsnn.neurons import IzhikevichState
from jsnn.neurons.base import cast
from jsnn.neurons.pytree import FrozenPytree
from jsnn.types import Array, Parameter, Shape


@nnx.dataclass
class Izhikevich(neurons.Izhikevich):
    """`jsnn.Izhikevich` with nengo's bound on the current, first state and height of a spike."""

    u_init: Parameter = dataclasses.field(default=0.0, kw_only=True)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> IzhikevichState:
        u = jnp.broadcast_to(jnp.asarray(self.u_init, dtype), shape)
        return super().init(shape, dtype)._replace(u=u)

    def step(self, state: IzhikevichState, current: Array) -> tuple[IzhikevichState, Array]:
        state, spikes = super().step(state, jnp.maximum(current, -30))
        return state, spikes / cast(self.dt, spikes.dtype)


class TriangleState(NamedTuple):
    """The state of `Triangle`."""

    past: tuple[Array, ...]
    """The inputs of the last steps, the newest first, each [B, ...]."""


@nnx.dataclass
class Triangle(FrozenPytree):
    """A filter with a finite response: a weighted sum of the last inputs, the newest first, without or with a delay."""

    weights: tuple[float, ...] = nnx.static()
    initial_level: Parameter = 0.0
    delay: bool | None = nnx.static(default=None)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> TriangleState:
        level = jnp.broadcast_to(jnp.asarray(self.initial_level, dtype), shape)
        return TriangleState((level,) * (len(self.weights) - 1 + bool(self.delay)))

    def step(self, state: TriangleState, current: Array) -> tuple[TriangleState, Array]:
        inputs = (current.astype(jnp.result_type(*state.past, current)), *state.past)
        y = sum(weight * x for weight, x in zip(self.weights, inputs[bool(self.delay) :], strict=True))
        return TriangleState(inputs[:-1]), jnp.asarray(y, current.dtype)
