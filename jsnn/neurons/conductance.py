"""The conductance-based leaky integrate-and-fire neuron: its synapses pull the membrane towards their potentials."""

import dataclasses
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.base import Discretization, Reset, SpikingNeuron, cast, decay_from_time_constant, leakage
from jsnn.neurons.ranges import SHARE, Range
from jsnn.types import Array, Parameter, Shape


class ConductanceLIFState(NamedTuple):
    """The state of `ConductanceLIF`."""

    v: Array
    """Membrane potential, [B, ...]."""
    g_excitatory: Array
    """Excitatory conductance, in units of the membrane's capacitance per step, [B, ...]."""
    g_inhibitory: Array
    """Inhibitory conductance, in the same units, [B, ...]."""


@nnx.dataclass
class ConductanceLIF(SpikingNeuron):
    """Conductance-based leaky integrate-and-fire neuron.

    Each step, in this order:

        g_e = decay_excitatory * g_e + max(x, 0)            a positive input opens excitatory channels,
        g_i = decay_inhibitory * g_i + max(-x, 0)           a negative one inhibitory channels
        u = v_rest + decay * (v - v_rest)                   leak
        v = (u + g_e * e_excitatory + g_i * e_inhibitory) / (1 + g_e + g_i)
        s = H(v - threshold)                                spike
        v = (1 - s) * v + s * v_reset                       reset ("zero"); it leaves the conductances alone

    The leak is exact, and the pull of the conductances is a step of the implicit Euler method, so that no input,
    however large, throws the membrane beyond the reversal potentials. The gradient of H is the surrogate's; it also
    flows through the reset unless `detach_reset`. Potentials have the unit of the threshold: the default reversal
    potentials are the source's, in units of the 10 mV from rest to threshold. Conductances are in units of the
    membrane's capacitance per step.

    Source: Vogels and Abbott, "Signal propagation and logic gating in networks of integrate-and-fire neurons" (2005).

    Attributes:
        decay: the share of the membrane potential that is left after one step, in [0, 1].
        decay_excitatory: the share of the excitatory conductance that is left after one step, in [0, 1].
        decay_inhibitory: the share of the inhibitory conductance that is left after one step, in [0, 1].
        e_excitatory: the reversal potential of the excitatory synapses.
        e_inhibitory: the reversal potential of the inhibitory synapses.
        v_rest: the resting potential, where the membrane starts and to which it leaks.

    `threshold`, `reset`, `v_reset`, `reset_delay`, `detach_reset` and `surrogate` are those of `SpikingNeuron`; `reset`
    is "zero" here.

    Raises:
        ValueError: if a decay lies outside [0, 1] or `threshold` is not positive.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> state, spikes = jsnn.unroll(jsnn.ConductanceLIF(), jnp.array([[0.1], [0.0], [1e6], [0.0], [-1e9]]))
        >>> spikes[:, 0].tolist(), state.v.round(3).tolist()
        ([0.0, 0.0, 1.0, 1.0, 0.0], [-1.995...])
    """

    decay: Parameter = 0.95
    decay_excitatory: Parameter = 0.8
    decay_inhibitory: Parameter = 0.9
    e_excitatory: Parameter = dataclasses.field(default=6.0, kw_only=True)
    e_inhibitory: Parameter = dataclasses.field(default=-2.0, kw_only=True)
    v_rest: Parameter = dataclasses.field(default=0.0, kw_only=True)
    reset: Reset = nnx.static(default="zero", kw_only=True)

    def ranges(self) -> dict[str, Range]:
        decays = dict.fromkeys(("decay", "decay_excitatory", "decay_inhibitory"), SHARE)
        return {**super().ranges(), **decays}

    @classmethod
    @checked
    def from_time_constants(
        cls,
        tau_mem: Parameter,
        tau_excitatory: Parameter,
        tau_inhibitory: Parameter,
        *,
        dt: float,
        discretization: Discretization = "exact",
        **parameters: Any,
    ) -> Self:
        """Return the neuron with time constants in seconds, simulated in steps of `dt` seconds; see `LIF`."""
        taus = {"tau_mem": tau_mem, "tau_excitatory": tau_excitatory, "tau_inhibitory": tau_inhibitory}
        return cls(*(decay_from_time_constant(*tau, dt, discretization) for tau in taus.items()), **parameters)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> ConductanceLIFState:
        zeros = jnp.zeros(shape, dtype)
        return ConductanceLIFState(jnp.broadcast_to(jnp.asarray(self.v_rest, dtype), shape), zeros, zeros)

    def step(self, state: ConductanceLIFState, current: Array) -> tuple[ConductanceLIFState, Array]:
        dtype = state.v.dtype
        threshold, x = cast(self.threshold, dtype), current.astype(dtype)
        last_spikes = self.fire(state.v, threshold)
        g_e = state.g_excitatory + leakage(state.g_excitatory, self.decay_excitatory) + jnp.maximum(x, 0)
        g_i = state.g_inhibitory + leakage(state.g_inhibitory, self.decay_inhibitory) + jnp.maximum(-x, 0)
        leaked = state.v + leakage(state.v, self.decay, self.v_rest)
        g_e, g_i = (jnp.minimum(g, float(jnp.finfo(dtype).max) ** 0.75) for g in (g_e, g_i))
        pull = g_e * cast(self.e_excitatory, dtype) + g_i * cast(self.e_inhibitory, dtype)
        v, spikes = self.fire_and_reset((leaked + pull) / (1 + g_e + g_i), last_spikes, threshold)
        return ConductanceLIFState(v, g_e, g_i), spikes.astype(current.dtype)
