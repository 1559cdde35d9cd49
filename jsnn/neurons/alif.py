"""The adaptive leaky integrate-and-fire neuron, whose threshold rises with every spike."""

from typing import Any, NamedTuple, Self

import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.base import Discretization, LeakyMembrane, SpikingNeuron, cast, decay_from_time_constant, leakage
from jsnn.neurons.ranges import SHARE, Range
from jsnn.types import Array, Parameter, Shape


class ALIFState(NamedTuple):
    """The state of `ALIF`."""

    v: Array
    """Membrane potential, [B, ...]."""
    adaptation: Array
    """Trace of past spikes, [B, ...]."""
    spikes: Array
    """The spikes of the last step, [B, ...]."""


@nnx.dataclass
class ALIF(LeakyMembrane, SpikingNeuron):
    """Leaky integrate-and-fire neuron with an adaptive threshold.

    Each step, in this order:

        a = decay_adaptation * a + s                        s: the spikes of the step before
        v = v_rest + decay * (v - v_rest) + gain * x
        s = H(v - (threshold + adaptation * a))
        v = v - s * (threshold + adaptation * a)            reset ("subtract")

    Source: Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking neurons" (2020),
    equations 8 to 10; there the reset takes away the plain threshold and comes one step late (`reset_delay`).

    Attributes:
        decay: the share of the membrane potential that is left after one step, in [0, 1].
        decay_adaptation: the share of the adaptation that is left after one step, in [0, 1].
        adaptation: how far one spike raises the threshold.
        gain: the factor on the input.
        v_rest: the resting potential, where the membrane starts and to which it decays.

    `threshold`, `reset`, `v_reset`, `reset_delay`, `detach_reset` and `surrogate` are those of `SpikingNeuron`.

    Raises:
        ValueError: if a decay lies outside [0, 1] or `threshold` is not positive.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = jsnn.ALIF(decay=1.0, adaptation=1.0, decay_adaptation=1.0)
        >>> state, spikes = jsnn.unroll(neuron, jnp.full((12, 1), 1.25))  # the intervals grow
        >>> spikes[:, 0].tolist()
        [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    """

    decay_adaptation: Parameter = 0.99
    adaptation: Parameter = 0.1

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "decay_adaptation": SHARE}

    @classmethod
    @checked
    def from_time_constants(
        cls,
        tau_mem: Parameter,
        tau_adaptation: Parameter,
        *,
        dt: float,
        discretization: Discretization = "exact",
        **parameters: Any,
    ) -> Self:
        """Return the neuron with time constants in seconds, simulated in steps of `dt` seconds; see `LIF`."""
        decay = decay_from_time_constant("tau_mem", tau_mem, dt, discretization)
        decay_adaptation = decay_from_time_constant("tau_adaptation", tau_adaptation, dt, discretization)
        return cls(decay, decay_adaptation, **parameters)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> ALIFState:
        zeros = jnp.zeros(shape, dtype)
        return ALIFState(self.rest(shape, dtype), adaptation=zeros, spikes=zeros)

    def step(self, state: ALIFState, current: Array) -> tuple[ALIFState, Array]:
        dtype = state.v.dtype
        adaptation = state.adaptation + leakage(state.adaptation, self.decay_adaptation) + state.spikes
        threshold = cast(self.threshold, dtype) + cast(self.adaptation, dtype) * adaptation
        v, spikes = self.fire_and_reset(self.integrate(state.v, current), state.spikes, threshold)
        return ALIFState(v, adaptation, spikes), spikes.astype(current.dtype)
