"""Nonlinear integrate-and-fire neurons with an adaptation current: AdEx and its quadratic sibling."""

import dataclasses
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.base import Discretization, cast, decay_from_time_constant, leak, leakage
from jsnn.neurons.nonlinear import EIF, QIF, NonlinearIF
from jsnn.neurons.ranges import SHARE, Range
from jsnn.types import Array, Parameter, Shape


class AdaptationState(NamedTuple):
    """The state of `AdEx` and `AdQIF`."""

    v: Array
    """Membrane potential, [B, ...]."""
    w: Array
    """Adaptation current, [B, ...]."""


@nnx.dataclass
class AdaptationCurrent(NonlinearIF):
    """The part that `AdEx` and `AdQIF` share: a current against the input, which potential and spikes drive."""

    decay: Parameter = 0.9
    decay_adaptation: Parameter = 0.99
    coupling: Parameter = dataclasses.field(default=0.0, kw_only=True)
    jump: Parameter = dataclasses.field(default=0.1, kw_only=True)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "decay_adaptation": SHARE}

    @classmethod
    @checked
    def from_time_constants(  # type: ignore[override]
        cls,
        tau_mem: Parameter,
        tau_adaptation: Parameter,
        *,
        dt: float,
        discretization: Discretization = "euler",
        **parameters: Any,
    ) -> Self:
        """Return the neuron with time constants in seconds, simulated in steps of `dt` seconds; see `EIF`."""
        taus = {"tau_mem": tau_mem, "tau_adaptation": tau_adaptation}
        decays = [decay_from_time_constant(name, tau, dt, discretization) for name, tau in taus.items()]
        return cls(*decays, **parameters)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> AdaptationState:  # type: ignore[override]
        return AdaptationState(v=self.rest(shape, dtype), w=jnp.zeros(shape, dtype))

    def step(self, state: AdaptationState, current: Array) -> tuple[AdaptationState, Array]:  # type: ignore[override]
        dtype = state.v.dtype
        threshold = cast(self.threshold, dtype)
        last_spikes = self.fire(state.v, threshold)
        v = self.integrate(state.v, current.astype(dtype) - state.w)
        drive = cast(self.coupling, dtype) * (self.driver(state.v, v) - cast(self.v_rest, dtype))
        w = state.w + (leakage(state.w, self.decay_adaptation) + leak(self.decay_adaptation, dtype) * drive)
        v, spikes = self.fire_and_reset(v, last_spikes, threshold)
        return AdaptationState(v, w + cast(self.jump, dtype) * spikes), spikes.astype(current.dtype)

    def driver(self, before: Array, after: Array) -> Array:
        """Return the potential that drives the adaptation current.

        Here it is the potential `after` the step.
        """
        return after


@nnx.dataclass
class AdEx(AdaptationCurrent, EIF):
    """Adaptive exponential integrate-and-fire neuron.

    Each step, in this order:

        f = v_rest - v + sharpness * exp((v - rheobase) / sharpness)
        v = v + (1 - decay) * f + gain * (x - w)                        as `EIF`, less the adaptation current
        w = w + (1 - decay_adaptation) * (coupling * (v - v_rest) - w)  with the new v, before its reset
        s = H(v - threshold)                                            spike
        v = (1 - s) * v + s * v_reset,  w = w + jump * s                reset ("zero") and jump

    Both are Euler's steps, with 1 - decay = dt / tau. The gradient of H is the surrogate's; it also flows through the
    jump, and through the reset unless `detach_reset`. Potentials have the unit of the threshold; w has that of the
    input.

    Source: Brette and Gerstner, "Adaptive exponential integrate-and-fire model as an effective description of neuronal
    activity" (2005); there `coupling` is a, `jump` is b, `sharpness` Delta_T and `rheobase` V_T.

    Attributes:
        decay: 1 - dt / tau of the membrane, in [0, 1].
        decay_adaptation: 1 - dt / tau of the adaptation current, in [0, 1].
        coupling: how strongly the potential drives the adaptation current.
        jump: what a spike adds to the adaptation current.

    `threshold`, `reset`, `v_reset`, `reset_delay`, `detach_reset` and `surrogate` are those of `SpikingNeuron`; `reset`
    is "zero" here.

    `sharpness`, `rheobase`, `gain` and `v_rest` are those of `EIF`.

    Raises:
        ValueError: as `EIF`, and if `decay_adaptation` lies outside [0, 1].

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = jsnn.AdEx(decay=0.5, sharpness=0.25, jump=0.1)
        >>> state, spikes = jsnn.unroll(neuron, jnp.ones((13, 1)))  # the intervals grow
        >>> spikes[:, 0].tolist()
        [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    """


@nnx.dataclass
class AdQIF(AdaptationCurrent, QIF):
    """Adaptive quadratic integrate-and-fire neuron: Izhikevich's model in dimensionless form.

    Each step, in this order:

        f = curvature * (v - v_rest) * (v - v_critical)
        v = v + (1 - decay) * f + gain * (x - w)                        as `QIF`, less the adaptation current
        w = w + (1 - decay_adaptation) * (coupling * (v - v_rest) - w)  with the new v, before its reset
        s = H(v - threshold)                                            spike
        v = (1 - s) * v + s * v_reset,  w = w + jump * s                reset ("zero") and jump

    The gradient of H is the surrogate's; it also flows through the jump, and through the reset unless `detach_reset`.
    Potentials have the unit of the threshold; w has that of the input. `Izhikevich` has the original's millivolts.

    Source: Izhikevich, "Simple model of spiking neurons" (2003), as in SpikingJelly's `IzhikevichNode`.

    `threshold`, `reset`, `v_reset`, `reset_delay`, `detach_reset` and `surrogate` are those of `SpikingNeuron`; `reset`
    is "zero" here.

    `curvature`, `v_critical`, `gain` and `v_rest` are those of `QIF`.

    `decay`, `decay_adaptation`, `coupling` and `jump` are those of `AdEx`.

    Raises:
        ValueError: as `QIF`, and if `decay_adaptation` lies outside [0, 1].

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> state, spikes = jsnn.unroll(jsnn.AdQIF(decay=0.5, jump=0.5), jnp.ones((8, 1)))
        >>> spikes[:, 0].tolist()
        [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    """
