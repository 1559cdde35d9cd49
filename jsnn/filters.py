"""Synaptic filters: linear filters of time, each a Neuron with a state.

Both are discretised by zero-order hold: the input stays constant over a step, and the filter is solved exactly. A
constant input is passed unchanged in the end. Spikes 1 / dt high become the rate that they stand for.

Parameters may each be a number, an array or an `nnx.Param` (trained); arrays broadcast from the right, as for all
neurons. A trained `tau` is kept at 1e-8 s or above where it is used. There the input passes through, and the derivative
with respect to `tau` is 0, which is the right one: far below `dt`, another `tau` changes nothing.

Source: nengo's and KerasSpiking's `Lowpass` and `Alpha`.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from jsnn.neurons.base import cast
from jsnn.neurons.pytree import FrozenPytree
from jsnn.neurons.ranges import NOT_NEGATIVE, POSITIVE, Range
from jsnn.recurrence import linear_recurrence, one_step_late
from jsnn.types import Array, Parameter, Shape

SHORTEST = 1e-8  # s; what a time constant of 0 is in a quotient
SMALLEST_RATIO = 1e-18  # of dt and a time constant, which may be infinite: quotients of its square are numbers

__all__ = ["Alpha", "AlphaState", "Lowpass", "LowpassState"]


@nnx.dataclass
class Filter(FrozenPytree):
    """What the filters share.

    Attributes:
        tau: time constant, in s.
        dt: the length of a step, in s.
        initial_level: the output that the filter is at rest with before the first step.
        delay: put out the level before the step's input, not after it. None does so in a network that `jsnn.convert`
            makes, as nengo's connections do, and nowhere else.
    """

    tau: Parameter
    dt: Parameter = 1e-3
    initial_level: Parameter = 0.0
    delay: bool | None = nnx.static(default=False)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "tau": NOT_NEGATIVE._replace(low=SHORTEST), "dt": POSITIVE}

    def initial(self, shape: Shape, dtype: Any) -> Array:
        """Return the level before the first step."""
        return jnp.broadcast_to(jnp.asarray(self.initial_level, dtype), shape)

    @property
    def is_linear(self) -> bool:
        return True

    def steps_per_tau(self, dtype: Any) -> Array:
        """Return the ratio dt / tau, in `dtype` or in float32 where that is more precise."""
        dtype = jnp.promote_types(dtype, jnp.float32)
        ratio = jnp.asarray(self.dt, dtype) / jnp.maximum(jnp.asarray(self.tau, dtype), SHORTEST)
        return jnp.maximum(ratio, SMALLEST_RATIO)


class LowpassState(NamedTuple):
    """The state of `Lowpass`."""

    y: Array
    """The filtered input, [B, ...]."""


@nnx.dataclass
class Lowpass(Filter):
    """Exponential lowpass filter, 1 / (tau s + 1).

        y = a * y + (1 - a) * x,  a = exp(-dt / tau)

    The output is y, without delay. With `delay` it is the y before this step's input: one step later, as a connection
    in nengo hands on what it filters.

    Source: nengo's and KerasSpiking's `Lowpass`.

    Attributes:
        tau: time constant, in s; 0 passes the input through.
        dt: the length of a step, in s; a number or an array, which may be traced.
        initial_level: y before the first step.
        delay: put out y before the step's input, not after it; None: in a converted network only.

    Raises:
        ValueError: if `tau` is negative or `dt` is not positive.

    Examples:
        >>> import math, jax.numpy as jnp, jsnn
        >>> lowpass = jsnn.filters.Lowpass(tau=1e-3 / math.log(2))  # half is left after 1 ms
        >>> state, y = jsnn.unroll(lowpass, jnp.ones((4, 1)))  # [T, N] -> [T, N]
        >>> y[:, 0].round(4).tolist()
        [0.5, 0.75, 0.875, 0.9375]
    """

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> LowpassState:
        return LowpassState(y=self.initial(shape, dtype))

    def step(self, state: LowpassState, current: Array) -> tuple[LowpassState, Array]:
        dtype = state.y.dtype
        y = _approach(state.y, current.astype(dtype), -jnp.expm1(-self.steps_per_tau(dtype)))
        return LowpassState(y), (state.y if self.delay else y).astype(current.dtype)

    def all_steps(self, state: LowpassState, currents: Array) -> tuple[LowpassState, Array]:
        dtype = state.y.dtype
        share = (-jnp.expm1(-self.steps_per_tau(dtype))).astype(dtype)
        y = linear_recurrence(share, share * currents.astype(dtype), state.y)
        return LowpassState(y[-1]), (one_step_late(y, state.y) if self.delay else y).astype(currents.dtype)


class AlphaState(NamedTuple):
    """The state of `Alpha`."""

    lowpass: Array
    """The input after the first of two lowpass filters, [B, ...]."""
    y: Array
    """The input after the second, which is the output, [B, ...]."""


@nnx.dataclass
class Alpha(Filter):
    """Alpha filter, 1 / (tau s + 1)^2: two lowpass filters in a row.

    Its response to an impulse is (t / tau^2) exp(-t / tau), which rises for a time tau before it decays. With
    k = dt / tau and a = exp(-k), both stages solved together:

        y = a * y + k * a * lowpass + (1 - a - k * a) * x
        lowpass = a * lowpass + (1 - a) * x

    The output is y, without delay (as in nengo and KerasSpiking), or with `delay` the y before this step's input.

    Source: nengo's and KerasSpiking's `Alpha`; Rall, "Distinguishing theoretical synaptic potentials computed for
    different soma-dendritic distributions of synaptic input" (1967).

    Attributes:
        tau: time constant of each stage, in s; 0 passes the input through.
        dt: the length of a step, in s; a number or an array, which may be traced.
        initial_level: both stages before the first step.
        delay: put out y before the step's input, not after it; None: in a converted network only.

    Raises:
        ValueError: if `tau` is negative or `dt` is not positive.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> impulse = jnp.zeros((30, 1)).at[0].set(1.0)
        >>> state, y = jsnn.unroll(jsnn.filters.Alpha(tau=5e-3), impulse)
        >>> y[:, 0].argmax()  # about tau later
        Array(5, dtype=int32)
    """

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> AlphaState:
        level = self.initial(shape, dtype)
        return AlphaState(lowpass=level, y=level)

    def step(self, state: AlphaState, current: Array) -> tuple[AlphaState, Array]:
        dtype = state.y.dtype
        x, k = current.astype(dtype), self.steps_per_tau(dtype)
        share = -jnp.expm1(-k)
        # the lowpass's part, averaged over the step as the output weighs it
        between = x + cast(k * jnp.exp(-k) / share, dtype) * (state.lowpass - x)
        y = _approach(state.y, between, share)
        return AlphaState(_approach(state.lowpass, x, share), y), (state.y if self.delay else y).astype(current.dtype)

    def all_steps(self, state: AlphaState, currents: Array) -> tuple[AlphaState, Array]:
        dtype = state.y.dtype
        x, k = currents.astype(dtype), self.steps_per_tau(dtype)
        share = -jnp.expm1(-k)
        held, share = (k * jnp.exp(-k) / share).astype(dtype), share.astype(dtype)
        lowpass = linear_recurrence(share, share * x, state.lowpass)
        between = x + held * (one_step_late(lowpass, state.lowpass) - x)
        y = linear_recurrence(share, share * between, state.y)
        outputs = one_step_late(y, state.y) if self.delay else y
        return AlphaState(lowpass[-1], y[-1]), outputs.astype(currents.dtype)


def _approach(y: Array, x: Array, share: Array) -> Array:
    """Return a share of the way from y to x.

    With the share 1 - a it is a * y + (1 - a) * x, precise also where a is close to 1.
    """
    return jnp.where(share == 1, x, y + cast(share, y.dtype) * (x - y))
