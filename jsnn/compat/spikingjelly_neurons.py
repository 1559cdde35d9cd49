"""The neurons that `jsnn.compat.spikingjelly` uses: jsnn's own, which start and spike as SpikingJelly's do."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.neurons import EIF, QIF, AdQIF
from jsnn.neurons.base import SpikingNeuron
from jsnn.types import Array, Parameter, Shape, SpikeFunction


@dataclasses.dataclass(frozen=True)
class Inclusive:
    """A surrogate that spikes at its threshold too, as SpikingJelly's do."""

    surrogate: SpikeFunction

    def __call__(self, x: Array) -> Array:
        return self.surrogate(x) + jax.lax.stop_gradient(x == 0)


@nnx.dataclass(kw_only=True)
class StartsAtReset(SpikingNeuron):
    """The part of SpikingJelly's nonlinear neurons that starts them at their reset potential, not at rest."""

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> Any:
        v = jnp.broadcast_to(jnp.asarray(self.v_reset, dtype), shape)
        return super().init(shape, dtype)._replace(v=v)  # type: ignore[misc]


@nnx.dataclass
class QIFNode(StartsAtReset, QIF):
    """`jsnn.QIF` with SpikingJelly's first state."""


@nnx.dataclass
class EIFNode(StartsAtReset, EIF):
    """`jsnn.EIF` with SpikingJelly's first state."""


@nnx.dataclass
class IzhikevichNode(StartsAtReset, AdQIF):
    """`jsnn.AdQIF` with SpikingJelly's first state."""

    w_rest: Parameter = dataclasses.field(default=0.0, kw_only=True)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> Any:
        return super().init(shape, dtype)._replace(w=jnp.broadcast_to(jnp.asarray(self.w_rest, dtype), shape))
