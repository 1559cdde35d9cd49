"""The leaky integrate-and-fire neuron, and the perfect integrator, its limit without a leak."""

from typing import Any, NamedTuple, Self

import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.base import Discretization, LeakyMembrane, SpikingNeuron, cast, decay_from_time_constant
from jsnn.recurrence import linear_recurrence
from jsnn.types import Array, Parameter, Shape


class LIFState(NamedTuple):
    """The state of `LIF`, `IF` and `LI`."""

    v: Array
    """Membrane potential, [B, ...]."""


@nnx.dataclass
class LIF(LeakyMembrane, SpikingNeuron):
    """Leaky integrate-and-fire neuron.

    Each step, in this order:

        v = v_rest + decay * (v - v_rest) + gain * x        leak, then input
        s = H(v - threshold)                                spike
        v = v - s * threshold                               reset ("subtract"; see `SpikingNeuron` for the others)

    The gradient of H is the surrogate's; it also flows through the reset unless `detach_reset`.
    Potentials have the unit of the threshold (dimensionless by default).

    Source: Lapicque (1907); in discrete time Neftci, Mostafa and Zenke, "Surrogate gradient learning in spiking
    neural networks" (2019).

    Attributes:
        decay: the share of the membrane potential that is left after one step, in [0, 1].
        gain: the factor on the input; 1 - decay makes a constant input the potential that is approached.
        v_rest: the resting potential, where the membrane starts and to which it decays.

    `threshold`, `reset`, `v_reset`, `reset_delay`, `detach_reset` and `surrogate` are those of `SpikingNeuron`.

    Raises:
        ValueError: if `decay` lies outside [0, 1] or `threshold` is not positive.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = jsnn.LIF(decay=0.5, threshold=1.0)
        >>> state, spikes = jsnn.unroll(neuron, jnp.full((6, 1), 0.75))  # [T, N] -> [T, N]
        >>> spikes[:, 0].tolist()
        [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    """

    @classmethod
    @checked
    def from_time_constants(
        cls, tau_mem: Parameter, *, dt: float, discretization: Discretization = "exact", **parameters: Any
    ) -> Self:
        """Return the neuron whose membrane decays with `tau_mem` seconds, simulated in steps of `dt` seconds.

        `decay` is exp(-dt/tau_mem) (`"exact"`) or 1 - dt/tau_mem (`"euler"`); the other parameters keep their
        meaning and their defaults, so the input is not scaled unless `gain` says so.

        Examples:
            >>> import jsnn
            >>> round(jsnn.LIF.from_time_constants(tau_mem=10e-3, dt=1e-3).decay, 4)
            0.9048
        """
        return cls(decay_from_time_constant("tau_mem", tau_mem, dt, discretization), **parameters)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> LIFState:
        return LIFState(v=self.rest(shape, dtype))

    def step(self, state: LIFState, current: Array) -> tuple[LIFState, Array]:
        threshold = cast(self.threshold, state.v.dtype)
        last_spikes = self.fire(state.v, threshold)
        v, spikes = self.fire_and_reset(self.integrate(state.v, current), last_spikes, threshold)
        return LIFState(v), spikes.astype(current.dtype)

    @property
    def is_linear(self) -> bool:
        return self.reset == "none"

    def all_steps(self, state: LIFState, currents: Array) -> tuple[LIFState, Array]:
        v = self.integrate_all(state.v, currents)
        return LIFState(v[-1]), self.fire_at_all_steps(v).astype(currents.dtype)


@nnx.dataclass
class IF(SpikingNeuron):
    """Integrate-and-fire neuron: a membrane that forgets nothing.

        v = v + x,  s = H(v - threshold),  then the reset as in `LIF`.

    Its rate is proportional to its input, which makes it the spiking counterpart of a rectified linear unit.

    Source: Lapicque (1907); Cao, Chen and Khosla, "Spiking deep convolutional neural networks" (2015).

    `threshold`, `reset`, `v_reset`, `reset_delay`, `detach_reset` and `surrogate` are those of `SpikingNeuron`.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> state, spikes = jsnn.unroll(jsnn.IF(threshold=1.0), jnp.full((8, 1), 0.375))
        >>> spikes[:, 0].tolist()
        [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    """

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> LIFState:
        return LIFState(v=jnp.zeros(shape, dtype))

    def step(self, state: LIFState, current: Array) -> tuple[LIFState, Array]:
        threshold = cast(self.threshold, state.v.dtype)
        last_spikes = self.fire(state.v, threshold)
        v, spikes = self.fire_and_reset(state.v + current.astype(state.v.dtype), last_spikes, threshold)
        return LIFState(v), spikes.astype(current.dtype)

    @property
    def is_linear(self) -> bool:
        return self.reset == "none"

    def all_steps(self, state: LIFState, currents: Array) -> tuple[LIFState, Array]:
        v = linear_recurrence(0.0, currents.astype(state.v.dtype), state.v)
        return LIFState(v[-1]), self.fire_at_all_steps(v).astype(currents.dtype)
