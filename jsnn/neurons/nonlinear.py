"""Integrate-and-fire neurons that make the upstroke of their spikes themselves: the exponential and the quadratic."""

import dataclasses
import math
from typing import Any, Self

import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.base import (
    Discretization,
    LeakyMembrane,
    Reset,
    SpikingNeuron,
    bounded,
    cast,
    decay_from_time_constant,
    leak,
)
from jsnn.neurons.lif import LIFState
from jsnn.neurons.ranges import POSITIVE, Range
from jsnn.types import Array, Parameter, Shape

MAX_EXPONENT = 20.0  # beyond it an exponential upstroke rises no steeper, so that a membrane without reset stays finite


@nnx.dataclass
class NonlinearIF(LeakyMembrane, SpikingNeuron):
    """The part that `EIF` and `QIF` share: Euler's step of a membrane whose drift is not linear."""

    decay: Parameter = 0.9
    reset: Reset = nnx.static(default="zero", kw_only=True)

    @classmethod
    @checked
    def from_time_constants(
        cls, tau_mem: Parameter, *, dt: float, discretization: Discretization = "euler", **parameters: Any
    ) -> Self:
        """Return the neuron with a membrane of `tau_mem` seconds, simulated in steps of `dt` seconds.

        "euler" is Euler's step of the equation, decay = 1 - dt/tau_mem; "exact" is decay = exp(-dt/tau_mem), exact for
        an f that does not change within the step. The other parameters keep their meaning and their defaults, so the
        input is not scaled unless `gain` says so.
        """
        return cls(decay_from_time_constant("tau_mem", tau_mem, dt, discretization), **parameters)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> LIFState:
        return LIFState(v=self.rest(shape, dtype))

    def step(self, state: LIFState, current: Array) -> tuple[LIFState, Array]:
        threshold = cast(self.threshold, state.v.dtype)
        last_spikes = self.fire(state.v, threshold)
        v, spikes = self.fire_and_reset(self.integrate(state.v, current), last_spikes, threshold)
        return LIFState(v), spikes.astype(current.dtype)


@nnx.dataclass
class EIF(NonlinearIF):
    """Exponential integrate-and-fire neuron.

    Each step, in this order:

        f = v_rest - v + sharpness * exp((v - rheobase) / sharpness)
        v = v + (1 - decay) * f + gain * x                  leak and upstroke, with the input
        s = H(v - threshold)                                spike
        v = (1 - s) * v + s * v_reset                       reset ("zero"; see `SpikingNeuron` for the others)

    This is Euler's step of tau dv/dt = f, with 1 - decay = dt / tau. The exponent is cut at 20, so that a membrane that
    nothing resets stays finite. The gradient of H is the surrogate's; it also flows through the reset unless
    `detach_reset`. Potentials have the unit of the threshold (dimensionless by default).

    Source: Fourcaud-Trocmé et al., "How spike generation mechanisms determine the neuronal response to fluctuating
    inputs" (2003); the defaults are SpikingJelly's, but for `decay`, `gain` and `v_reset`.

    Attributes:
        decay: 1 - dt / tau, the share of the membrane potential that is left after one step without upstroke.
        sharpness: the width of the upstroke, Delta_T; towards 0 the neuron becomes a LIF with threshold `rheobase`.
        rheobase: the potential around which the upstroke begins.
        gain: the factor on the input.
        v_rest: where the membrane starts and to which it leaks.

    `threshold`, `reset`, `v_reset`, `reset_delay`, `detach_reset` and `surrogate` are those of `SpikingNeuron`; `reset`
    is "zero" here.

    Raises:
        ValueError: if `decay` lies outside [0, 1], or `sharpness` or `threshold` is not positive.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = jsnn.EIF(decay=0.5, sharpness=0.25, gain=0.5)
        >>> state, spikes = jsnn.unroll(neuron, jnp.ones((6, 1)))
        >>> spikes[:, 0].tolist()
        [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    """

    sharpness: Parameter = dataclasses.field(default=1.0, kw_only=True)
    rheobase: Parameter = dataclasses.field(default=0.8, kw_only=True)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "sharpness": POSITIVE}

    def integrate(self, v: Array, current: Array) -> Array:
        """Return the membrane after leak, upstroke and input."""
        sharpness = cast(self.sharpness, v.dtype)
        most = min(MAX_EXPONENT, math.log(float(jnp.finfo(v.dtype).max)) - 1)  # float16 holds no exp(20)
        exponent = jnp.minimum((v - cast(self.rheobase, v.dtype)) / sharpness, most)
        return super().integrate(v, current) + leak(self.decay, v.dtype) * sharpness * jnp.exp(exponent)


@nnx.dataclass
class QIF(NonlinearIF):
    """Quadratic integrate-and-fire neuron.

    Each step, in this order:

        f = curvature * (v - v_rest) * (v - v_critical)
        v = v + (1 - decay) * f + gain * x                  drift, with the input
        s = H(v - threshold)                                spike
        v = (1 - s) * v + s * v_reset                       reset ("zero"; see `SpikingNeuron` for the others)

    This is Euler's step of tau dv/dt = f, with 1 - decay = dt / tau: below `v_critical` the membrane falls back to
    `v_rest`, above it rises by itself until it spikes. In the drift v is cut at +-1e9, so that the state stays finite
    under currents of +-1e20, and without a reset. The gradient of H is the surrogate's; it also flows through the reset
    unless `detach_reset`. Potentials have the unit of the threshold.

    Source: Ermentrout and Kopell, "Parabolic bursting in an excitable system coupled with a slow oscillation" (1986);
    Gerstner et al., "Neuronal dynamics" (2014), section 5.3. The defaults are SpikingJelly's, but for `decay`, `gain`
    and `v_reset`.

    Attributes:
        decay: 1 - dt / tau, in [0, 1].
        curvature: the factor on the square, a0.
        v_critical: the potential from which the membrane rises by itself.
        gain: the factor on the input.
        v_rest: where the membrane starts, and its resting point.

    `threshold`, `reset`, `v_reset`, `reset_delay`, `detach_reset` and `surrogate` are those of `SpikingNeuron`; `reset`
    is "zero" here.

    Raises:
        ValueError: if `decay` lies outside [0, 1], or `curvature` or `threshold` is not positive.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = jsnn.QIF(decay=0.5, v_critical=0.5)
        >>> impulse = jnp.zeros((6, 1)).at[0].set(0.9)  # it rises by itself
        >>> jsnn.unroll(neuron, impulse)[1][:, 0].tolist()
        [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """

    curvature: Parameter = dataclasses.field(default=1.0, kw_only=True)
    v_critical: Parameter = dataclasses.field(default=0.8, kw_only=True)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "curvature": POSITIVE}

    def integrate(self, v: Array, current: Array) -> Array:
        """Return the membrane after drift and input."""
        rest, critical = cast(self.v_rest, v.dtype), cast(self.v_critical, v.dtype)
        within = bounded(v)
        drift = cast(self.curvature, v.dtype) * (within - rest) * (within - critical)
        return v + (leak(self.decay, v.dtype) * drift + cast(self.gain, v.dtype) * current.astype(v.dtype))
