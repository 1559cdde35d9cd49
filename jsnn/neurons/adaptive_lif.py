"""The refractory leaky integrate-and-fire neuron with an adaptation current, as nengo has it."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.neurons.base import cast
from jsnn.neurons.ranges import NOT_NEGATIVE, POSITIVE, Range
from jsnn.neurons.refractory import RefractoryLIF, RefractoryLIFState
from jsnn.types import Array, Parameter, Shape


class AdaptiveRefractoryLIFState(NamedTuple):
    """The state of `AdaptiveRefractoryLIF`."""

    v: Array
    """Membrane potential, [B, ...]."""
    refractory_time: Array
    """When the membrane is let go, in s from the start of the last step; may be past, [B, ...]."""
    adaptation: Array
    """What is taken from the current, [B, ...]."""


@nnx.dataclass
class AdaptiveRefractoryLIF(RefractoryLIF):
    """`RefractoryLIF` whose output builds up a current against its input.

    Each step, in this order:

        v, w, y = a step of `RefractoryLIF` with the input x - n            spike and reset within it
        n = n + dt / tau_adaptation * (adaptation * y - n)                  Euler's step; a spike is y = amplitude / dt

    So a spike raises n by amplitude * adaptation / tau_adaptation, and under a constant rate r the current is less by
    amplitude * adaptation * r in the end. Spiking-aware: backwards, y has the derivative of `lif_rate` at x - n, step
    by step, and nothing flows through the state (n among it) or through time. `ALIF` is another neuron: it raises the
    threshold.

    Source: nengo's `AdaptiveLIF`; La Camera et al., "Minimal models of adapted neuronal response to in vivo-like input
    currents" (2004).

    Attributes:
        tau_adaptation: time constant of the adaptation current, in s.
        adaptation: the current that builds up for an output of 1 Hz.

    `dt`, `spiking_aware`, `tau_mem`, `tau_ref`, `min_voltage`, `amplitude` and `v_init` are those of `RefractoryLIF`.

    Raises:
        ValueError: if `tau_adaptation` is not positive or `adaptation` is negative, and as `RefractoryLIF`.
        TypeError: as `SpikingActivation`.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> state, outputs = jsnn.unroll(jsnn.AdaptiveRefractoryLIF(), jnp.full((1000, 1), 2.0))  # 1 s
        >>> outputs[:200].mean().round(), outputs[-200:].mean().round()  # the rate falls
        (Array(60., dtype=float32), Array(50., dtype=float32))
    """

    tau_adaptation: Parameter = dataclasses.field(default=1.0, kw_only=True)
    adaptation: Parameter = dataclasses.field(default=0.01, kw_only=True)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "tau_adaptation": POSITIVE, "adaptation": NOT_NEGATIVE}

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> AdaptiveRefractoryLIFState:  # type: ignore[override]
        return AdaptiveRefractoryLIFState(*super().init(shape, dtype), adaptation=jnp.zeros(shape, dtype))

    def step(self, state: AdaptiveRefractoryLIFState, current: Array) -> tuple[AdaptiveRefractoryLIFState, Array]:  # type: ignore[override]
        dtype = state.v.dtype
        membrane = RefractoryLIFState(state.v, state.refractory_time)
        membrane, y = super().step(membrane, current.astype(dtype) - state.adaptation)
        share = cast(self.dt, dtype) / cast(self.tau_adaptation, dtype)
        drive = cast(self.adaptation, dtype) * y
        adaptation = jax.lax.stop_gradient(state.adaptation + share * (drive - state.adaptation))
        return AdaptiveRefractoryLIFState(*membrane, adaptation), y.astype(current.dtype)
