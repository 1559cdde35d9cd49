"""Izhikevich's neuron, in millivolts and milliseconds, with the firing patterns of the cortex by name."""

import dataclasses
import difflib
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
from flax import nnx

from jsnn import surrogate as surrogates
from jsnn.arguments import checked
from jsnn.neurons.base import Reset, SpikingNeuron, bounded, cast
from jsnn.neurons.ranges import POSITIVE, Range
from jsnn.types import Array, Parameter, Shape, SpikeFunction

# a, b, c, d and the membrane before the first step, of the paper's figure 2; but the resonator starts at its rest, as
# from -65 mV it spikes by itself
PRESETS = {
    "regular_spiking": (0.02, 0.2, -65.0, 8.0, -65.0),
    "intrinsically_bursting": (0.02, 0.2, -55.0, 4.0, -65.0),
    "chattering": (0.02, 0.2, -50.0, 2.0, -65.0),
    "fast_spiking": (0.1, 0.2, -65.0, 2.0, -65.0),
    "low_threshold_spiking": (0.02, 0.25, -65.0, 2.0, -65.0),
    "thalamo_cortical": (0.02, 0.25, -65.0, 0.05, -63.0),
    "resonator": (0.1, 0.26, -65.0, 2.0, -62.5),
}


class IzhikevichState(NamedTuple):
    """The state of `Izhikevich`."""

    v: Array
    """Membrane potential, mV, [B, ...]."""
    u: Array
    """Recovery, [B, ...]."""


@nnx.dataclass
class Izhikevich(SpikingNeuron):
    """Izhikevich's neuron: a quadratic membrane with a recovery variable, which fires in all the cortex's patterns.

    Each step of h = 1000 * dt milliseconds, in this order:

        v = v + h * (0.04 * v^2 + 5 * v + 140 - u + x)      membrane, with the input
        s = H(v - threshold)                                spike; the threshold is the peak, 30 mV
        v = (1 - s) * v + s * v_reset                       reset ("zero")
        u = u + h * a * (b * v - u)                         recovery, with the v after its reset
        u = u + d * s                                       jump

    Potentials are in mV, `dt` in s, a in 1/ms; an input of about 10 makes it spike. These are Euler's steps; the order
    is nengo's, so that no recovery is computed from the peak. The gradient of H is the surrogate's, which is as wide
    as 10 mV by default; it also flows through the jump, and through the reset unless `detach_reset`. The step
    should be at most 1 ms.

    In the square v is cut at +-1e9 mV, so that the state stays finite under currents of +-1e20. The gradient is not
    bounded: each spike multiplies it, by up to a few hundred with the default surrogate, so that after 200 steps it is
    about 1e15 to 1e35 under a current of 40, and NaN under 100. Under currents much above 10, train with a lower
    surrogate, `surrogate=jsnn.surrogate.arctan(0.1, height=0.01)`, under which it stays below 1e10.

    Source: Izhikevich, "Simple model of spiking neurons" (2003).

    Attributes:
        a: how fast the recovery follows, in 1/ms.
        b: how strongly it follows the membrane.
        d: what a spike adds to the recovery.
        dt: the length of a step, in s; a number or an array, which may be traced.
        v_init: the membrane before the first step, in mV; the recovery starts at b * v_init.
        v_reset: c in the paper, in mV.

    `threshold`, `reset`, `reset_delay`, `detach_reset` and `surrogate` are those of `SpikingNeuron`; the reset is
    "zero" and the surrogate `arctan(0.1, height=1.0)` here.

    Raises:
        ValueError: if `a`, `dt` or `threshold` is not positive.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> state, spikes = jsnn.unroll(jsnn.Izhikevich(), jnp.full((200, 1), 10.0))  # 200 ms
        >>> int(spikes.sum())
        5
    """

    a: Parameter = 0.02
    b: Parameter = 0.2
    d: Parameter = 8.0
    dt: Parameter = dataclasses.field(default=1e-3, kw_only=True)
    v_init: Parameter = dataclasses.field(default=-65.0, kw_only=True)
    threshold: Parameter = dataclasses.field(default=30.0, kw_only=True)
    reset: Reset = nnx.static(default="zero", kw_only=True)
    v_reset: Parameter = dataclasses.field(default=-65.0, kw_only=True)
    surrogate: SpikeFunction = nnx.static(default=surrogates.arctan(0.1, height=1.0), kw_only=True)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "a": POSITIVE, "dt": POSITIVE}

    @classmethod
    @checked
    def preset(cls, name: str, **parameters: Any) -> Self:
        """Return the neuron with a firing pattern of the cortex; `parameters` are those beside a, b, v_reset and d.

        Raises:
            ValueError: if there is no preset of that name; it says the nearest.

        Examples:
            >>> Izhikevich.preset("chattering").v_reset
            -50.0
        """
        if name not in PRESETS:
            nearest = difflib.get_close_matches(str(name), PRESETS, n=1, cutoff=0.0)[0]
            raise ValueError(f"no preset {name!r}: did you mean {nearest!r}? There are {', '.join(PRESETS)}")
        a, b, c, d, v_init = PRESETS[name]
        return cls(**{"a": a, "b": b, "v_reset": c, "d": d, "v_init": v_init} | parameters)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> IzhikevichState:
        v = jnp.broadcast_to(jnp.asarray(self.v_init, dtype), shape)
        return IzhikevichState(v, u=cast(self.b, dtype) * v)

    def step(self, state: IzhikevichState, current: Array) -> tuple[IzhikevichState, Array]:
        dtype = state.v.dtype
        threshold, a, b, d = (cast(value, dtype) for value in (self.threshold, self.a, self.b, self.d))
        h = 1000 * cast(self.dt, dtype)
        last_spikes = self.fire(state.v, threshold)
        within = bounded(state.v)
        v = state.v + h * ((0.04 * within + 5) * within + 140 - state.u + current.astype(dtype))
        v, spikes = self.fire_and_reset(v, last_spikes, threshold)
        u = state.u + h * a * (b * v - state.u) + d * spikes
        return IzhikevichState(v, u), spikes.astype(current.dtype)
