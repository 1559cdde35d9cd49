"""What all neurons share: they are frozen pytrees, and those that spike fire and reset in one way.

Conventions of the whole library, so that no neuron's docstring has to repeat them:

* One Heaviside. A neuron spikes where `v - threshold > 0`, strictly: a membrane exactly at its threshold is silent.
* Parameters may each be a number (fixed, and part of the compiled program), an array (fixed) or an `nnx.Param`
  (trained). Arrays broadcast against the state from the right: `[N]` is per neuron after a dense layer, `[C]` per
  channel after a convolution.
* A trained parameter that an optimiser leads out of its range is used with the nearest value inside, and its gradient
  leads it back (`jsnn.neurons.ranges`); so no optimiser step makes a neuron explode. Every copy holds that value.
* Only an `nnx.Param` has a gradient. That of an array which a neuron holds is stopped.
* The state has the dtype that `init` was given, and keeps it; the output has the dtype of the current. The state that
  `unroll` starts from by itself is float32 or wider, since a sum over time needs more than the 8 bits of bfloat16.
* Nothing is broadcast against the batch: `init` and `step` raise ValueError if a parameter does not fit the neurons,
  and `step` if the state is not one for its input.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jsnn import surrogate as surrogates
from jsnn.neurons.checks import check_positive, check_surrogate, is_function, value_of_parameter
from jsnn.neurons.pytree import FrozenPytree
from jsnn.neurons.ranges import POSITIVE, SHARE, Range
from jsnn.recurrence import linear_recurrence
from jsnn.types import Array, Parameter, Shape, SpikeFunction

ResetFunction: TypeAlias = Callable[[Array, Array, Array], Array]  # (v, spikes, threshold) -> v
Reset: TypeAlias = Literal["subtract", "zero", "none"] | ResetFunction
Discretization: TypeAlias = Literal["exact", "euler"]


MEMBRANE = "membrane"  # by this name `unroll` finds what its backward pass keeps of a step


@nnx.dataclass(kw_only=True)
class SpikingNeuron(FrozenPytree):
    """The part of a neuron that turns a membrane potential into spikes and resets it.

    Attributes:
        threshold: the membrane potential above which the neuron spikes; must be positive.
        reset: what a spike does to the membrane: `"subtract"` takes the threshold away, `"zero"` sets it to
            `v_reset`, `"none"` leaves it, and a function `(v, spikes, threshold) -> v` does what it likes.
        v_reset: where the reset `"zero"` puts the membrane.
        reset_delay: False resets in the step of the spike, so that the state returned is after the reset. True
            applies the reset in the next step, after leak and input (snnTorch's order): the state returned is
            before it, and shows the membrane above threshold.
        detach_reset: stop the gradient that flows through the spikes into the reset (not the one that flows
            through the membrane).
        surrogate: the derivative that stands in for the Heaviside's, see `jsnn.surrogate`.
    """

    threshold: Parameter = 1.0
    reset: Reset = nnx.static(default="subtract")
    v_reset: Parameter = 0.0
    reset_delay: bool = nnx.static(default=False)
    detach_reset: bool = nnx.static(default=False)
    surrogate: SpikeFunction = nnx.static(default=surrogates.arctan())

    def __post_init__(self) -> None:
        super().__post_init__()
        known = isinstance(self.reset, str) and self.reset in ("subtract", "zero", "none")
        if not known and not is_function(self.reset):
            raise ValueError(
                f"reset must be 'subtract', 'zero', 'none' or a function (v, spikes, threshold) -> v, "
                f"got {self.reset!r}"
            )
        check_surrogate(self.surrogate)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "threshold": POSITIVE}

    def fire(self, v: Array, threshold: Parameter) -> Array:
        """Return spikes in {0, 1} where `v > threshold`, with the surrogate's derivative."""
        return self.surrogate(v - threshold)

    def fire_at_all_steps(self, v: Array) -> Array:
        """Return the spikes of membranes [T, B, ...] on which no spike has acted."""
        if self.reset != "none":
            raise ValueError(f"all_steps needs reset='none', got {self.reset!r}: run it with jsnn.unroll")
        return self.fire(v, cast(self.threshold, v.dtype))

    def fire_and_reset(self, v: Array, last_spikes: Array, threshold: Parameter) -> tuple[Array, Array]:
        """Return `(v, spikes)` for a membrane `v` that has just taken its input.

        `last_spikes` are those of the step before; they matter only with `reset_delay`.
        """
        v = checkpoint_name(v, MEMBRANE)
        if self.reset_delay:
            v = self.apply_reset(v, last_spikes, threshold)
            return v, self.fire(v, threshold)
        spikes = self.fire(v, threshold)
        return self.apply_reset(v, spikes, threshold), spikes

    def apply_reset(self, v: Array, spikes: Array, threshold: Parameter) -> Array:
        """Return the membrane after the reset that `spikes` call for."""
        if self.detach_reset:
            spikes = jax.lax.stop_gradient(spikes)
        if callable(self.reset):
            return self.reset(v, spikes, jnp.asarray(threshold, v.dtype))
        if self.reset == "subtract":
            return v - spikes * threshold
        if self.reset == "zero":
            return (1 - spikes) * v + spikes * cast(self.v_reset, v.dtype)
        return v


@nnx.dataclass
class LeakyMembrane(FrozenPytree):
    """The part of a neuron that leaks towards rest and takes its input.

    Attributes:
        decay: the share of the membrane potential that is left after one step, in [0, 1].
        gain: the factor on the input; 1 - decay makes a constant input the potential that is approached.
        v_rest: the resting potential, where the membrane starts and to which it decays.
    """

    decay: Parameter = 0.9
    gain: Parameter = dataclasses.field(default=1.0, kw_only=True)
    v_rest: Parameter = dataclasses.field(default=0.0, kw_only=True)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "decay": SHARE}

    def rest(self, shape: Shape, dtype: Any) -> Array:
        """Return the membrane before the first step."""
        return jnp.broadcast_to(jnp.asarray(self.v_rest, dtype), shape)

    def integrate(self, v: Array, current: Array) -> Array:
        """Return v_rest + decay * (v - v_rest) + gain * current, in the dtype of `v`."""
        return v + (leakage(v, self.decay, self.v_rest) + cast(self.gain, v.dtype) * current.astype(v.dtype))

    def integrate_all(self, v: Array, currents: Array) -> Array:
        """Return the membrane after each of all steps, from `v` before the first and `currents` [T, B, ...]."""
        rest, inputs = cast(self.v_rest, v.dtype), cast(self.gain, v.dtype) * currents.astype(v.dtype)
        return rest + linear_recurrence(leak(self.decay, v.dtype), inputs, v - rest)


def leakage(value: Array, decay: Parameter, rest: Parameter = 0.0) -> Array:
    """Return what a step of `decay` towards `rest` adds to a value, (1 - decay) * (rest - value)."""
    return leak(decay, value.dtype) * (cast(rest, value.dtype) - value)


def leak(decay: Parameter, dtype: Any) -> Parameter:
    """Return the share that leaks in a step, 1 - decay.

    Computed with it a decay close to 1 loses no precision, because 1 - decay is taken before it is rounded to `dtype`:
    0.999 in float32 is off by 1e-8, little for the decay, but 1e-5 of what leaks.
    """
    return cast(1 - (decay[...] if isinstance(decay, nnx.Variable) else decay), dtype)


def cast(parameter: Parameter, dtype: Any) -> Parameter:
    """Return a parameter ready for arithmetic in `dtype`; numbers stay numbers, so that they promote nothing."""
    return parameter if isinstance(parameter, (int, float)) else jnp.asarray(parameter, dtype)


def decay_from_time_constant(
    name: str, tau: Parameter, dt: float, discretization: Discretization = "exact"
) -> Parameter:
    """Return the factor by which a leaky variable shrinks in `dt` seconds: exp(-dt/tau), or 1 - dt/tau (Euler).

    Raises:
        ValueError: if `tau` or `dt` is not positive, or if Euler's step is longer than `tau`.
    """
    if isinstance(tau, nnx.Variable):
        raise TypeError(
            f"{name} must be a number or an array, got an nnx.Param: what can be trained is the decay, as in "
            f"LIF(decay=nnx.Param(jnp.exp(-dt / {name})))"
        )
    check_positive("dt", dt)
    check_positive(name, tau)
    if discretization not in ("exact", "euler"):
        raise ValueError(f"discretization must be 'exact' or 'euler', got {discretization!r}")
    if discretization == "euler":
        value = value_of_parameter(tau)
        if value is not None and np.any(value < dt):
            raise ValueError(
                f"{name} = {value} is shorter than dt = {dt}, for which Euler's step is unstable: "
                f"take a smaller dt or discretization='exact'"
            )
        return 1 - dt / tau
    exponent: Any = -dt / tau
    if isinstance(exponent, float):
        return float(np.exp(exponent))
    return (jnp if isinstance(exponent, jax.Array) else np).exp(exponent)  # NumPy's float64 keeps what leaks precise


def bounded(v: Array, bound: float = 1e9) -> Array:
    """Return a potential cut at +-bound, or where its square would overflow, for use in a square: it stays finite.

    No potential in use is as large. Beyond it the square has no gradient.
    """
    bound = min(bound, float(jnp.finfo(v.dtype).max) ** 0.5 / 2)
    return jnp.clip(v, -bound, bound)
