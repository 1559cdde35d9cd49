"""The resonate-and-fire neuron, whose membrane rings."""

import dataclasses
import math
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.base import Reset, SpikingNeuron, cast, decay_from_time_constant, leakage
from jsnn.neurons.checks import check_holds, check_not_negative
from jsnn.neurons.ranges import SHARE, Range
from jsnn.types import Array, Parameter, Shape


class ResonateAndFireState(NamedTuple):
    """The state of `ResonateAndFire`: the complex number i + v * sqrt(-1)."""

    v: Array
    """Membrane potential, the imaginary part, [B, ...]."""
    i: Array
    """Current, the real part, [B, ...]."""


@nnx.dataclass
class ResonateAndFire(SpikingNeuron):
    """Resonate-and-fire neuron: a damped oscillator that prefers inputs of its own frequency.

    Each step, in this order:

        i, v = decay * (cos(angle) * i - sin(angle) * v),  decay * (sin(angle) * i + cos(angle) * v)
        i = i + x                                           the input drives the current
        s = H(v - threshold)                                spike
        v = (1 - s) * v + s * v_reset,  i = (1 - s) * i     reset ("zero"); "none" leaves the current too

    The rotation is the exact solution over a step of z' = (-1/tau + 2 pi f sqrt(-1)) z, z = i + v sqrt(-1), with
    angle = 2 pi f dt. An input moves the potential one step later. As in the paper v_reset is the threshold, unless it
    is given; a membrane at its threshold is silent. The gradient of H is the surrogate's; it also flows through the
    reset unless `detach_reset`. Potentials have the unit of the threshold.

    Source: Izhikevich, "Resonate-and-fire neurons" (2001).

    Attributes:
        decay: the share of the oscillation that is left after one step, in [0, 1].
        angle: how far a step turns the oscillation, in radians; a period has 2 pi / angle steps.

    `threshold`, `reset`, `v_reset`, `reset_delay`, `detach_reset` and `surrogate` are those of `SpikingNeuron`; `reset`
    is "zero" here, and `v_reset` None, the threshold.

    Raises:
        ValueError: if `decay` lies outside [0, 1], or `threshold` is not positive.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = jsnn.ResonateAndFire(decay=0.95, angle=jnp.pi / 4)  # a period of 8 steps
        >>> for interval in (8, 6):  # two pulses, together strong enough if they come in phase
        ...     pulses = jnp.zeros((14, 1)).at[jnp.array([0, interval])].set(0.8)
        ...     jsnn.unroll(neuron, pulses)[1].sum().item()
        1.0
        0.0
    """

    decay: Parameter = 0.9
    angle: Parameter = math.pi / 8
    reset: Reset = nnx.static(default="zero", kw_only=True)
    v_reset: Parameter | None = dataclasses.field(default=None, kw_only=True)  # type: ignore[assignment]

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "decay": SHARE}

    @classmethod
    @checked
    def from_frequency(cls, frequency: Parameter, tau_mem: Parameter, dt: float, **parameters: Any) -> Self:
        """Return the neuron that rings with `frequency` Hz for about `tau_mem` seconds, in steps of `dt` seconds.

        Raises:
            ValueError: if `frequency` is negative or above 1 / (2 dt), or `tau_mem` or `dt` is not positive.

        Examples:
            >>> ResonateAndFire.from_frequency(125.0, tau_mem=20e-3, dt=1e-3).angle / math.pi
            0.25
        """
        check_not_negative("frequency", frequency)
        rule = f"must be <= 1 / (2 dt), as steps of dt = {dt} s show a faster one as a slower one: take a smaller dt"
        check_holds("frequency", frequency, lambda value: value * dt <= 0.5, rule)
        return cls(decay_from_time_constant("tau_mem", tau_mem, dt), 2 * math.pi * frequency * dt, **parameters)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> ResonateAndFireState:
        return ResonateAndFireState(v=jnp.zeros(shape, dtype), i=jnp.zeros(shape, dtype))

    def step(self, state: ResonateAndFireState, current: Array) -> tuple[ResonateAndFireState, Array]:
        dtype = state.v.dtype
        threshold, angle = cast(self.threshold, dtype), jnp.asarray(self.angle, dtype)
        last_spikes = self.fire(state.v, threshold)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        i, v = cos * state.i - sin * state.v, sin * state.i + cos * state.v
        i, v = i + leakage(i, self.decay) + current.astype(dtype), v + leakage(v, self.decay)
        v, spikes = self.fire_and_reset(v, last_spikes, threshold)
        if self.reset != "none":
            acting = last_spikes if self.reset_delay else spikes
            i = i * (1 - (jax.lax.stop_gradient(acting) if self.detach_reset else acting))
        return ResonateAndFireState(v, i), spikes.astype(current.dtype)

    def apply_reset(self, v: Array, spikes: Array, threshold: Parameter) -> Array:
        """Return the membrane after the reset that `spikes` call for; at the threshold, if there is no `v_reset`."""
        if self.reset != "zero" or self.v_reset is not None:
            return super().apply_reset(v, spikes, threshold)
        acting = jax.lax.stop_gradient(spikes) if self.detach_reset else spikes
        return (1 - acting) * v + acting * threshold
