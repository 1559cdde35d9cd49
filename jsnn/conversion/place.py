"""What stands in the place of an activation in a converted network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.conversion.activations import Activation, is_homogeneous, name_of
from jsnn.conversion.pooling import SpikingMaxPool
from jsnn.conversion.tail import Tail
from jsnn.delays import Delay
from jsnn.filters import Filter
from jsnn.layers import Sequential
from jsnn.neurons import IF, LI, LIF, BurstIF, Rate
from jsnn.neurons.base import SpikingNeuron, cast
from jsnn.neurons.checks import is_key, value_of_parameter
from jsnn.neurons.pytree import FrozenPytree, parts_with_dt
from jsnn.neurons.spiking_activation import Activated, RateCoded
from jsnn.neurons.wrappers import Dropout, Stochastic
from jsnn.types import Array, Neuron, Parameter, RunPart, Shape, State


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

    def per_neuron(self) -> dict[str, Any]:
        return super().per_neuron() | {"v_init": 0.0}  # which `init` checks, with words of its own

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> State:
        state = self.neuron.init(shape, dtype)
        if self.v_init is None:
            return state
        if "v" not in getattr(state, "_fields", ()):
            raise ValueError(
                f"v_init needs a neuron with a membrane potential v, got {type(self.neuron).__name__}: give one value "
                f"for each activation, None for this one"
            )
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
        x = current.astype(wide(current.dtype))
        if not _is_number(self.bias, 0):
            x = x + cast(self.bias, x.dtype)
        if _is_number(self.scale, 1):
            state, outputs = self.neuron.step(state, x)
        else:
            scale = cast(self.scale, x.dtype)
            state, outputs = self.neuron.step(state, scale * x)
            outputs = outputs * (1 / scale)  # one division in all, and not one for every neuron
        return state, outputs.astype(current.dtype)

    @property
    def spike_size(self) -> Parameter:
        """What one spike in a step adds to the output."""
        if not isinstance(self.neuron, RateCoded):
            return 1.0 / self.scale
        neuron = self.neuron.within_ranges()
        return neuron.amplitude / neuron.dt / self.scale

    @property
    def drive(self) -> Parameter:
        """The input, once scaled, at which the neuron spikes once a step."""
        if isinstance(self.neuron, RateCoded):
            return 1 / self.neuron.dt
        return self.neuron.threshold if isinstance(self.neuron, SpikingNeuron) else 1.0

    @property
    def gain(self) -> Parameter:
        """How many times the activation that it stands for the neuron puts out on average: 1 but for an amplitude."""
        return self.spike_size * self.scale / self.drive if isinstance(self.neuron, IF | RateCoded) else 1.0


@nnx.dataclass
class Filtered(FrozenPytree):
    """A neuron with what follows it, stepped together: what lies between them is never kept for all time steps.

    Attributes:
        neuron: any neuron.
        synapse: a filter of its output, or None.
        tail: linear operations after it. Where they commute with the filter, they come first.
    """

    neuron: Neuron
    synapse: Neuron | None
    tail: Tail = nnx.static()

    is_layered = False

    @property
    def around(self) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
        """What comes before the filter, and what after it."""
        commutes = isinstance(self.synapse, Filter) and (  # linear, the same for all neurons, and at rest at 0
            not jnp.ndim(self.synapse.tau)
            and not jnp.ndim(self.synapse.dt)
            and _is_number(self.synapse.initial_level, 0)
        )
        return (self.tail.apply, _same) if commutes else (_same, self.tail.apply)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> tuple[State, State]:
        if self.synapse is None:
            return self.neuron.init(shape, dtype), ()
        filtered = jax.eval_shape(self.around[0], jax.ShapeDtypeStruct(shape, dtype))
        return self.neuron.init(shape, dtype), self.synapse.init(filtered.shape, dtype)

    def step(self, state: tuple[State, State], current: Array) -> tuple[tuple[State, State], Array]:
        before, after = self.around
        neuron, x = self.neuron.step(state[0], current)
        if self.synapse is None:
            return (neuron, ()), self.tail.apply(x)
        synapse, x = self.synapse.step(state[1], before(x))
        return (neuron, synapse), after(x)

    def run_layers(
        self, state: tuple[State, State], inputs: Array, num_steps: int | None, run_part: RunPart
    ) -> tuple[tuple[State, State], Array]:
        before, after = (jax.vmap(function) for function in self.around)
        neuron, x = run_part("", self.neuron, state[0], inputs, num_steps)
        if self.synapse is None:
            return (neuron, ()), jax.vmap(self.tail.apply)(x)
        synapse, x = run_part("synapse", self.synapse, state[1], before(x), None)
        return (neuron, synapse), after(x)


def what_cannot_be_scaled(activation: Activation, neuron: Neuron) -> str | None:
    """Return the name of the activation or its neuron, whichever is not positively homogeneous.

    If both are, return None.

    A neuron is, if it spikes twice as often for twice the input. One that jsnn does not know is taken to be.
    """
    if isinstance(neuron, SpikingMaxPool):  # it hands spikes on, and makes none
        return type(neuron).__name__
    return name_of(activation) if not is_homogeneous(activation) else _not_homogeneous(neuron)


def _not_homogeneous(neuron: Neuron) -> str | None:
    name = type(neuron).__name__
    if isinstance(neuron, Activated):
        inner = name_of(neuron.activation)
        return None if is_homogeneous(neuron.activation) else inner if isinstance(neuron, Rate) else f"{name}({inner})"
    if isinstance(neuron, Sequential):
        culprits = (_not_homogeneous(layer) for layer in neuron.layers if isinstance(layer, Neuron))
        return next((culprit for culprit in culprits if culprit), None)
    if isinstance(neuron, Stochastic):
        return _not_homogeneous(neuron.neuron)
    forgets_nothing = isinstance(neuron, LIF) and bool(np.all(value_of_parameter(neuron.decay) == 1))
    if forgets_nothing or isinstance(neuron, IF | BurstIF | LI | Filter | Delay | Dropout):
        return None
    is_known = type(neuron).__module__.startswith("jsnn.") or isinstance(neuron, SpikingNeuron | RateCoded)
    return name if is_known else None


def agreed_dt(parts: Any, default: Parameter) -> Parameter:
    """Return the dt that all neurons and filters among these have, or the default where none has one.

    Raises:
        ValueError: if two of them differ.
    """
    found = parts_with_dt(parts)
    known = [(type(part).__name__, np.asarray(dt)) for part in found if (dt := value_of_parameter(part.dt)) is not None]
    for name, dt in known[1:]:
        if not np.array_equal(dt, known[0][1]):
            raise ValueError(
                f"the neurons and filters of a network have one dt, got {known[0][1]} s in {known[0][0]} and {dt} s in "
                f"{name}: give them the same, or all of them one with convert(dt=...)"
            )
    return found[0].dt if found else default


def wide(dtype: Any) -> Any:
    """Return a dtype, or float32 where it is narrower: what accumulates is kept in it."""
    return jnp.promote_types(dtype, jnp.float32)


def _same(x: Array) -> Array:
    return x


def _is_number(parameter: Parameter, number: float) -> bool:
    return isinstance(parameter, (int, float)) and parameter == number


def check_scale(name: str, scale: Parameter) -> None:
    """Raise ValueError if a scale is not positive and finite."""
    if isinstance(scale, jax.core.Tracer) or is_key(scale):
        raise TypeError(f"{name} must be a number or an array that is known, got {scale!r}")
    value = np.asarray(scale)
    if value.dtype.kind not in "iuf" and not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name} must be a number or an array of numbers, got {scale!r}")
    if not (np.all(value > 0) and np.all(np.isfinite(value))):
        raise ValueError(f"{name} must be > 0 and finite, got {scale}")
