"""Current-based neurons: a synaptic current filters the input before the membrane sees it."""

from typing import Any, Literal, NamedTuple, Self, TypeAlias

import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.base import (
    Discretization,
    LeakyMembrane,
    SpikingNeuron,
    cast,
    decay_from_time_constant,
    leak,
    leakage,
)
from jsnn.neurons.ranges import SHARE, Range
from jsnn.recurrence import linear_recurrence
from jsnn.types import Array, Parameter, Shape

SynapseOrder: TypeAlias = Literal["decay_then_jump", "jump_then_decay"]


class CuBaState(NamedTuple):
    """The state of `CuBaLIF` and `CuBaLI`."""

    v: Array
    """Membrane potential, [B, ...]."""
    i: Array
    """Synaptic current, [B, ...]."""


@nnx.dataclass
class CurrentSynapse(LeakyMembrane):
    """The part that `CuBaLIF` and `CuBaLI` share: an exponential synapse in front of a leaky membrane.

    Attributes:
        decay_syn: the share of the synaptic current that is left after one step, in [0, 1].
        synapse_order: when the current decays, see `CuBaLIF`.
    """

    decay_syn: Parameter = 0.8
    synapse_order: SynapseOrder = nnx.static(default="decay_then_jump", kw_only=True)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "decay_syn": SHARE}

    @classmethod
    @checked
    def from_time_constants(
        cls,
        tau_mem: Parameter,
        tau_syn: Parameter,
        *,
        dt: float,
        discretization: Discretization = "exact",
        **parameters: Any,
    ) -> Self:
        """Return the neuron with time constants in seconds, simulated in steps of `dt` seconds; see `LIF`."""
        decay = decay_from_time_constant("tau_mem", tau_mem, dt, discretization)
        decay_syn = decay_from_time_constant("tau_syn", tau_syn, dt, discretization)
        return cls(decay, decay_syn, **parameters)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> CuBaState:
        return CuBaState(v=self.rest(shape, dtype), i=jnp.zeros(shape, dtype))

    def integrate_current(self, state: CuBaState, current: Array) -> tuple[Array, Array]:
        """Return the membrane before any reset, and the synaptic current to carry on."""
        current = current.astype(state.i.dtype)
        if self.synapse_order == "decay_then_jump":
            i = state.i + leakage(state.i, self.decay_syn) + current
            return self.integrate(state.v, i), i
        i = state.i + current
        return self.integrate(state.v, i), i + leakage(i, self.decay_syn)

    def integrate_all_currents(self, state: CuBaState, currents: Array) -> tuple[CuBaState, Array]:
        """Return the state after the last of all steps, and the membrane after each, without any reset."""
        currents, share = currents.astype(state.i.dtype), leak(self.decay_syn, state.i.dtype)
        if self.synapse_order == "decay_then_jump":
            i = linear_recurrence(share, currents, state.i)
            last = i[-1]
        else:  # the current in the state has decayed already; the one after the last step has still to
            i = linear_recurrence(share, currents.at[0].add(state.i), jnp.zeros_like(state.i))
            last = i[-1] + leakage(i[-1], self.decay_syn)
        v = self.integrate_all(state.v, i)
        return CuBaState(v[-1], last), v


@nnx.dataclass
class CuBaLIF(CurrentSynapse, SpikingNeuron):
    """Current-based leaky integrate-and-fire neuron.

    Each step, in this order:

        i = decay_syn * i + x                               synapse: decay, then the input's jump
        v = v_rest + decay * (v - v_rest) + gain * i        the membrane sees the jumped current
        s = H(v - threshold), then the reset as in `LIF`; it leaves the current alone

    With `synapse_order="jump_then_decay"` the jump comes first, the membrane sees it, and the decay ends the step:
    the same spikes from rest, only the current in the state is one decay further on. The first order is snnTorch's
    `Synaptic`, the second Norse's `LIFCell`.

    Source: Gerstner and Kistler, "Spiking neuron models" (2002), section 4.1.

    Attributes:
        decay: the share of the membrane potential that is left after one step, in [0, 1].
        decay_syn: the share of the synaptic current that is left after one step, in [0, 1].
        gain: the factor from current to membrane.
        v_rest: the resting potential, where the membrane starts and to which it decays.
        synapse_order: when the current decays, see above.

    `threshold`, `reset`, `v_reset`, `reset_delay`, `detach_reset` and `surrogate` are those of `SpikingNeuron`.

    Raises:
        ValueError: if a decay lies outside [0, 1] or `threshold` is not positive.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = jsnn.CuBaLIF(decay=0.5, decay_syn=0.5)
        >>> impulse = jnp.zeros((5, 1)).at[0].set(1.0)
        >>> jsnn.record(neuron, impulse)["CuBaLIF"].states.v[:, 0].tolist()
        [1.0, 1.0, 0.75, 0.5, 0.3125]
    """

    def step(self, state: CuBaState, current: Array) -> tuple[CuBaState, Array]:
        threshold = cast(self.threshold, state.v.dtype)
        last_spikes = self.fire(state.v, threshold)
        v, i = self.integrate_current(state, current)
        v, spikes = self.fire_and_reset(v, last_spikes, threshold)
        return CuBaState(v, i), spikes.astype(current.dtype)

    @property
    def is_linear(self) -> bool:
        return self.reset == "none"

    def all_steps(self, state: CuBaState, currents: Array) -> tuple[CuBaState, Array]:
        state, v = self.integrate_all_currents(state, currents)
        return state, self.fire_at_all_steps(v).astype(currents.dtype)


@nnx.dataclass
class CuBaLI(CurrentSynapse):
    """Current-based leaky integrator: `CuBaLIF` without a threshold, whose output is its membrane potential `v`.

    A readout for spiking networks: an input moves the output in the same step.
    Norse's `LICell` is `CuBaLI` in the order `"jump_then_decay"`.

    Attributes and errors: as `CuBaLIF`.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> state, v = jsnn.unroll(jsnn.CuBaLI(decay=0.5, decay_syn=0.5), jnp.zeros((3, 1)).at[0].set(1.0))
        >>> v[:, 0].tolist()
        [1.0, 1.0, 0.75]
    """

    def step(self, state: CuBaState, current: Array) -> tuple[CuBaState, Array]:
        v, i = self.integrate_current(state, current)
        return CuBaState(v, i), v.astype(current.dtype)

    @property
    def is_linear(self) -> bool:
        return True

    def all_steps(self, state: CuBaState, currents: Array) -> tuple[CuBaState, Array]:
        state, v = self.integrate_all_currents(state, currents)
        return state, v.astype(currents.dtype)
