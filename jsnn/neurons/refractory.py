"""The leaky integrate-and-fire neuron with a refractory time, and the rate at which it spikes."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import check_broadcasts, checked
from jsnn.neurons.base import cast
from jsnn.neurons.checks import check_not_negative, check_positive
from jsnn.neurons.ranges import NOT_NEGATIVE, POSITIVE, Range
from jsnn.neurons.spiking_activation import InitialMembrane, RateCoded, differentiated_as
from jsnn.types import Array, Parameter, Shape

SMOOTHING = 0.01  # as far above threshold, at least, the slope of `lif_rate` is taken


@checked
def lif_rate(x: Array, tau_mem: Parameter = 0.02, tau_ref: Parameter = 0.002, amplitude: Parameter = 1.0) -> Array:
    """Return the rate in Hz at which a leaky integrate-and-fire neuron spikes under a constant current.

        rate = amplitude / (tau_ref + tau_mem * log(1 + 1 / (x - 1)))    for x > 1, the threshold; else 0

    Just above threshold the slope of this curve is infinite. So that gradients stay finite, they are those of the curve
    at `SMOOTHING` = 0.01 above threshold wherever x is closer to it; below they are 0. The rate itself is exact.

    Source: nengo's `LIFRate`. Others smooth the curve itself: Hunsberger and Eliasmith, "Spiking deep networks with
    LIF neurons" (2015).

    Args:
        x: the current, in units of the one that just reaches threshold, [...].
        tau_mem: time constant of the membrane, in s.
        tau_ref: refractory time, in s.
        amplitude: a factor on the rate.

    Examples:
        >>> import jax
        >>> lif_rate(jnp.array([0.5, 1.0, 1.5, 10.0])).round(1).tolist()
        [0.0, 0.0, 41.7..., 243.5...]
        >>> jax.vmap(jax.grad(lif_rate))(jnp.array([0.5, 1.0, 1.005, 1.5])).round(1).tolist()
        [0.0, 0.0, 222.6..., 46.4...]
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"x must be floating point, got {x.dtype}: convert it with x.astype(jnp.float32)")
    for name, value in (("tau_mem", tau_mem), ("tau_ref", tau_ref), ("amplitude", amplitude)):
        check_broadcasts(name, value, x.shape, "x")
    check_positive("tau_mem", tau_mem)
    check_not_negative("tau_ref", tau_ref)
    tau_mem, tau_ref, amplitude = (cast(parameter, x.dtype) for parameter in (tau_mem, tau_ref, amplitude))
    drive = x - 1

    def curve(drive: Array) -> Array:
        return amplitude / (tau_ref + tau_mem * jnp.log1p(1 / drive))

    exact = curve(jnp.maximum(drive, jnp.finfo(x.dtype).tiny))
    smooth = curve(differentiated_as(jnp.maximum(drive, SMOOTHING), drive))
    return jnp.where(drive > 0, differentiated_as(exact, smooth), 0)


class RefractoryLIFState(NamedTuple):
    """The state of `RefractoryLIF`."""

    v: Array
    """Membrane potential, [B, ...]."""
    refractory_time: Array
    """When the membrane is let go, in s from the start of the last step; may be past, [B, ...]."""


@nnx.dataclass
class RefractoryLIF(InitialMembrane, RateCoded):
    """Leaky integrate-and-fire neuron in continuous time, with a refractory time that ends within a step.

    Each step, in this order:

        w = w - dt,  d = clip(dt - w, 0, dt)            refractory time left, and what remains of the step after it
        v = v + (1 - exp(-d / tau_mem)) * (x - v)       exactly d seconds of tau_mem dv/dt = x - v
        s = H(v - 1)                                    spike
        t = dt + tau_mem * log(1 - (v - 1) / (x - 1))   when in the step v crossed 1
        v = max(v, min_voltage)
        v = 0,  w = tau_ref + t                         where s = 1
        y = amplitude * s / dt

    As refractory times begin and end within a step, the rate does not depend on `dt` while that is at most `tau_ref`
    (what a longer step has left after both is lost): under a constant current it is `lif_rate`. Spiking-aware:
    backwards, y has the derivative of `lif_rate`, step by step, and nothing flows through the state or through time.

    Source: nengo's `LIF`; Hunsberger and Eliasmith (2016) for the gradient.

    Attributes:
        dt: the length of a step, in s; a number or an array, which may be traced.
        spiking_aware: differentiate `lif_rate` in place of the spikes; False refuses to be differentiated.
        tau_mem: time constant of the membrane, in s.
        tau_ref: refractory time, in s.
        min_voltage: below this the membrane does not fall; `-math.inf` for no bound.
        amplitude: the integral of one spike over time.
        v_init: the membrane before the first step, see `SpikingActivation`.

    Raises:
        ValueError: if `dt` or `tau_mem` is not positive, or `tau_ref` is negative.
        TypeError: as `SpikingActivation`.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> state, outputs = jsnn.unroll(jsnn.RefractoryLIF(), jnp.full((1000, 1), 2.0))  # 1 s
        >>> outputs.mean().round(), jsnn.neurons.lif_rate(jnp.array(2.0)).round()
        (Array(63., dtype=float32), Array(63., dtype=float32))
    """

    tau_mem: Parameter = dataclasses.field(default=0.02, kw_only=True)
    tau_ref: Parameter = dataclasses.field(default=0.002, kw_only=True)
    min_voltage: Parameter = dataclasses.field(default=0.0, kw_only=True)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "tau_mem": POSITIVE, "tau_ref": NOT_NEGATIVE}

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> RefractoryLIFState:
        return RefractoryLIFState(v=self.initial_membrane(shape, dtype), refractory_time=jnp.zeros(shape, dtype))

    def step(self, state: RefractoryLIFState, current: Array) -> tuple[RefractoryLIFState, Array]:
        x = current.astype(state.v.dtype)
        rates = lif_rate(x, self.tau_mem, self.tau_ref)
        state, spikes = jax.lax.stop_gradient(self._integrate_and_fire(state, x))
        return state, self.emit(spikes, rates).astype(current.dtype)

    def _integrate_and_fire(self, state: RefractoryLIFState, x: Array) -> tuple[RefractoryLIFState, Array]:
        dt, tau_mem, tau_ref, min_voltage = (
            jnp.asarray(parameter, x.dtype) for parameter in (self.dt, self.tau_mem, self.tau_ref, self.min_voltage)
        )
        refractory_time = state.refractory_time - dt
        charging = jnp.clip(dt - refractory_time, 0, dt)
        v = state.v - (x - state.v) * jnp.expm1(-charging / tau_mem)
        spiked = v > 1
        # the crossing lies within the charging time, however roundly v was computed, and if v started above 1
        overshoot = jnp.clip((v - 1) / (x - 1), 0, 1)
        crossing = dt + jnp.maximum(tau_mem * jnp.log1p(-overshoot), -charging)
        v = jnp.where(spiked, 0, jnp.maximum(v, min_voltage))
        return RefractoryLIFState(v, jnp.where(spiked, tau_ref + crossing, refractory_time)), spiked.astype(x.dtype)
