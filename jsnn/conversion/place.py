"""What stands in the place of an activation in a converted network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.conversion.tail import Tail
from jsnn.filters import Filter
from jsnn.neurons.base import FrozenPytree, SpikingNeuron, cast, is_key
from jsnn.neurons.spiking_activation import RateCoded
from jsnn.types import Array, Neuron, Parameter, Shape, State


@nnx.dataclass
class Scaled(FrozenPytree):
    """A neuron whose input is scaled up and whose output is scaled down, so that it spikes more often.

        y = neuron(scale * (x + bias)) / scale

    Where the activation f is positively homogeneous, f(a x) = a f(x), the output stands for the same value.

    Attributes:
        neuron: any neuron.
        scale: the factor, a number or an array that broadcasts against the input, such as one per channel.
        bias: a correction of the input, in the units of the input.
        v_init: the membrane before the first step, in units of the threshold: a number, an array, or a key made by
            `jax.random.key` to draw it uniformly from [0, 1); None leaves that to the neuron.
    """

    neuron: Neuron
    scale: Parameter = 1.0
    bias: Parameter = 0.0
    v_init: Parameter | None = None

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> State:
        state = self.neuron.init(shape, dtype)
        if self.v_init is None:
            return state
        if "v" not in getattr(state, "_fields", ()):
            raise ValueError(f"v_init needs a neuron with a membrane potential v, got {type(self.neuron).__name__}")
        if is_key(self.v_init):
            v = jax.random.uniform(self.v_init, shape, dtype)
        else:
            if jnp.issubdtype(jnp.result_type(self.v_init), jnp.unsignedinteger):
                raise TypeError(f"v_init got {self.v_init}: make keys with jax.random.key, not with jax.random.PRNGKey")
            try:
                v = jnp.broadcast_to(jnp.asarray(self.v_init, dtype), shape)
            except ValueError as error:
                raise ValueError(f"v_init of shape {jnp.shape(self.v_init)} does not fit neurons {shape}") from error
        threshold = self.neuron.within_ranges().threshold if isinstance(self.neuron, SpikingNeuron) else 1.0
        return state._replace(v=v * cast(threshold, dtype))

    def step(self, state: State, current: Array) -> tuple[State, Array]:
        x = current
        if not _is_number(self.bias, 0):
            x = x + cast(self.bias, x.dtype)
        if _is_number(self.scale, 1):
            return self.neuron.step(state, x)
        scale = cast(self.scale, x.dtype)
        state, outputs = self.neuron.step(state, scale * x)
        return state, outputs * (1 / scale)  # one division in all, and not one for every neuron

    @property
    def spike_size(self) -> Parameter:
        """What one spike in a step adds to the output."""
        if not isinstance(self.neuron, RateCoded):
            return 1.0 / self.scale
        neuron = self.neuron.within_ranges()
        return neuron.amplitude / neuron.dt / self.scale


@nnx.dataclass
class Filtered(FrozenPytree):
    """A neuron with what follows it, stepped together: what lies between them is never kept for all time steps.

    Attributes:
        neuron: any neuron.
        synapse: a filter of its output, or None.
        tail: linear operations behind it. Where they commute with the filter, they come first.
    """

    neuron: Neuron
    synapse: Neuron | None
    tail: Tail = nnx.static()

    @property
    def around(self) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
        """What comes before the filter, and what behind it."""
        commutes = isinstance(self.synapse, Filter) and (  # linear, the same for all neurons, and at rest at 0
            not jnp.ndim(self.synapse.tau)
            and not jnp.ndim(self.synapse.dt)
            and _is_number(self.synapse.initial_level, 0)
        )
        return (self.tail.apply, _same) if commutes else (_same, self.tail.apply)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> tuple[State, State]:
        if self.synapse is None:
            return self.neuron.init(shape, dtype), ()
        spikes = jax.ShapeDtypeStruct(shape, dtype)
        filtered = jax.eval_shape(self.around[0], spikes)
        return self.neuron.init(shape, dtype), self.synapse.init(filtered.shape, dtype)

    def step(self, state: tuple[State, State], current: Array) -> tuple[tuple[State, State], Array]:
        before, behind = self.around
        neuron, x = self.neuron.step(state[0], current)
        if self.synapse is None:
            return (neuron, ()), self.tail.apply(x)
        synapse, x = self.synapse.step(state[1], before(x))
        return (neuron, synapse), behind(x)


def _same(x: Array) -> Array:
    return x


def _is_number(parameter: Parameter, number: float) -> bool:
    return isinstance(parameter, (int, float)) and parameter == number


def check_scale(name: str, scale: Parameter) -> None:
    """Refuses a scale that is not positive and finite."""
    value = np.asarray(scale)
    if not (np.all(value > 0) and np.all(np.isfinite(value))):
        raise ValueError(f"{name} must be > 0 and finite, got {scale}")
