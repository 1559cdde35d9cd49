"""Encoders: how values become spikes over time, `[B, ...]` -> `[T, B, ...]`.

An encoder is a pure function; `num_steps` (T) is a Python integer, static under `jit`. Spikes have the dtype
of the values. The random ones take a `key` first and consume it; no gradient flows through them. They accept
`num_steps=None` for values that vary over time, which have a time axis of their own, `[T, B, ...]`.

Each raises ValueError where `num_steps` is less than 1 or a parameter is out of its range, and TypeError
where the values are not floating point (images of integers: `x / 255`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jsnn.neurons import LIF
from jsnn.neurons.base import check_positive
from jsnn.surrogate import superspike
from jsnn.types import Array, Parameter, SpikeFunction
from jsnn.unroll import unroll

__all__ = [
    "constant_current",
    "poisson",
    "population",
    "rate",
    "repeat",
    "signed_poisson",
    "spike_latency",
    "spike_latency_lif",
]

SUPERSPIKE = superspike(100.0)  # Norse's default


def constant_current(
    x: Array,
    num_steps: int,
    *,
    tau_mem: float = 1e-2,
    dt: float = 1e-3,
    threshold: Parameter = 1.0,
    surrogate: SpikeFunction = SUPERSPIKE,
) -> Array:
    """The spikes of a LIF neuron that receives each value as a constant current; [B, ...] -> [T, B, ...].

        v = v + dt/tau_mem * (x - v),  s = H(v - threshold),  v = 0 after a spike;  v starts at 0

    The membrane approaches `x`, so that a value at or below the threshold never spikes, and a larger one
    spikes earlier and more often. Differentiable through `surrogate`, through the reset as well. For another
    neuron call `unroll(neuron, x, num_steps=T)`, of which this is a case.

    Source: Norse's `ConstantCurrentLIFEncoder`, whose defaults these are.

    Args:
        x: the currents, in the unit of the threshold.
        num_steps: T.
        tau_mem: the membrane's time constant, in s.
        dt: the length of a step, in s; at most `tau_mem`.
        threshold: the membrane potential above which the neuron spikes.
        surrogate: the derivative of a spike, see `jsnn.surrogate`.

    Raises:
        ValueError: if `num_steps` is less than 1; if `tau_mem`, `dt` or `threshold` is not positive; if `dt`
            exceeds `tau_mem`.

    >>> constant_current(jnp.array([0.9, 4.0]), 6)
    Array([[0., 0.],
           [0., 0.],
           [0., 1.],
           [0., 0.],
           [0., 0.],
           [0., 1.]], dtype=float32)
    """
    x = _floating(x)
    check_positive("tau_mem", tau_mem)
    neuron = LIF.from_time_constants(
        tau_mem,
        dt,
        discretization="euler",
        gain=dt / tau_mem,
        threshold=threshold,
        reset="zero",
        surrogate=surrogate,
    )
    _, spikes = unroll(neuron, x, num_steps=num_steps)
    return spikes


def spike_latency_lif(
    x: Array,
    num_steps: int,
    *,
    tau_mem: float = 1e-2,
    dt: float = 1e-3,
    threshold: Parameter = 1.0,
    surrogate: SpikeFunction = SUPERSPIKE,
) -> Array:
    """The first spike of each neuron of `constant_current`: the larger, the earlier; [B, ...] -> [T, B, ...].

    Arguments and errors are those of `constant_current`, the gradient that of `spike_latency`.
    Source: Norse's `SpikeLatencyLIFEncoder`.

    >>> jnp.argmax(spike_latency_lif(jnp.array([1.5, 2.0, 4.0]), 20), axis=0).tolist()
    [10, 6, 2]
    """
    spikes = constant_current(x, num_steps, tau_mem=tau_mem, dt=dt, threshold=threshold, surrogate=surrogate)
    return spike_latency(spikes)


def spike_latency(spikes: Array) -> Array:
    """Each neuron's first spike alone: y_t = s_t if s_r = 0 for all r < t, else 0; [T, ...] -> [T, ...].

    The gradient passes unchanged up to and including the first spike, and is 0 after it. Any dtype; a spike
    is what differs from 0. Source: Norse's `SpikeLatencyEncoder`.

    Raises:
        ValueError: if `spikes` has no time axis.

    >>> spike_latency(jnp.array([0.0, 1.0, 0.0, 1.0]))
    Array([0., 1., 0., 0.], dtype=float32)
    """
    spikes = jnp.asarray(spikes)
    if spikes.ndim == 0:
        raise ValueError("spikes must have a time axis, [T, ...], got a scalar")
    fired = spikes != 0
    first = jnp.where(jnp.any(fired, axis=0), jnp.argmax(fired, axis=0), len(spikes))
    step = jax.lax.broadcasted_iota(first.dtype, spikes.shape, 0)
    return jnp.where(step <= first, spikes, jnp.zeros((), spikes.dtype))


def poisson(key: Array, x: Array, num_steps: int | None, *, f_max: float = 100.0, dt: float = 1e-3) -> Array:
    """Independent spikes at the rate `f_max * x`; [B, ...] -> [T, B, ...], or [T, B, ...] -> [T, B, ...].

        P(s_t = 1) = dt * f_max * x

    A value of 0 or less never spikes; from 1 / (dt * f_max) on, a value spikes at every step.
    Source: Norse's `PoissonEncoder`, whose defaults these are.

    Args:
        key: a random key, consumed.
        x: the rates in units of `f_max`; not clipped.
        num_steps: T; None if `x` has a time axis.
        f_max: the rate of the value 1, in Hz.
        dt: the length of a step, in s.

    Raises:
        ValueError: if `num_steps` is less than 1, or `f_max` or `dt` is not positive.

    >>> spikes = poisson(jax.random.key(0), jnp.array([0.0, 0.5, 1.0]), 1000, f_max=1000.0)
    >>> jnp.mean(spikes, axis=0).round(1).tolist()
    [0.0, 0.5, 1.0]
    """
    x = _floating(x)
    check_positive("f_max", f_max)
    check_positive("dt", dt)
    return _bernoulli(key, dt * f_max * _at_least_float32(x), num_steps).astype(x.dtype)


def signed_poisson(key: Array, x: Array, num_steps: int | None, *, f_max: float = 100.0, dt: float = 1e-3) -> Array:
    """Poisson spikes in {-1, 0, 1}, at the rate `f_max * |x|` and with the sign of `x`; shapes as `poisson`.

    Arguments and errors are those of `poisson`. Source: Norse's `SignedPoissonEncoder`.

    >>> spikes = signed_poisson(jax.random.key(0), jnp.array([-1.0, 0.0, 1.0]), 2, f_max=1000.0)
    >>> spikes.tolist()
    [[-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]]
    """
    x = _floating(x)
    return jnp.sign(x) * poisson(key, jnp.abs(x), num_steps, f_max=f_max, dt=dt)


def rate(
    key: Array,
    x: Array,
    num_steps: int | None,
    *,
    gain: float | Array = 1.0,
    offset: float | Array = 0.0,
    first_spike_time: int = 0,
) -> Array:
    """Independent spikes with the values as probabilities; [B, ...] -> [T, B, ...], or time-varying.

        P(s_t = 1) = min(max(gain * x + offset, 0), 1)  for t >= first_spike_time, 0 before

    Source: snnTorch's `spikegen.rate`.

    Args:
        key: a random key, consumed.
        x: the values, usually in [0, 1].
        num_steps: T, blank steps included; None if `x` has a time axis: then the blank steps are put in front
            of it, and the result is `[first_spike_time + T, B, ...]`.
        gain: the factor on the values.
        offset: what is added to them after it.
        first_spike_time: the number of blank steps before the first that may spike.

    Raises:
        ValueError: if `num_steps` is less than 1, or `first_spike_time` is negative or not below `num_steps`.

    >>> spikes = rate(jax.random.key(0), jnp.array([0.0, 0.5, 1.5]), 1000)
    >>> jnp.mean(spikes, axis=0).round(1).tolist()
    [0.0, 0.5, 1.0]
    >>> rate(jax.random.key(0), jnp.ones(2), 4, first_spike_time=2)[:, 0].tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    x = _floating(x)
    if first_spike_time < 0:
        raise ValueError(f"first_spike_time must be >= 0, got {first_spike_time}")
    if num_steps is not None:
        _check_num_steps(num_steps)
        if first_spike_time >= num_steps:
            raise ValueError(
                f"first_spike_time must be below num_steps = {num_steps}, got {first_spike_time}: "
                f"no step would be left to spike in"
            )
        num_steps -= first_spike_time
    spikes = _bernoulli(key, gain * _at_least_float32(x) + offset, num_steps).astype(x.dtype)
    return jnp.pad(spikes, [(first_spike_time, 0)] + [(0, 0)] * (spikes.ndim - 1))


def repeat(x: Array, num_steps: int) -> Array:
    """The same values at every step, of any dtype; [B, ...] -> [T, B, ...].

    A network needs no such copy: `unroll(network, x, num_steps=T)` gives the same result, and computes what
    comes before its first neuron once instead of T times.

    >>> repeat(jnp.array([1.0, 2.0]), 2).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    _check_num_steps(num_steps)
    x = jnp.asarray(x)
    return jnp.broadcast_to(x, (num_steps, *x.shape))


def population(
    x: Array,
    num_neurons: int,
    *,
    scale: float | Array | None = None,
    kernel: Callable[[Array], Array] = lambda distance: jnp.exp(-distance / 2),
) -> Array:
    """Each value as the activity of a population of N neurons, without time; [B, ...] -> [B, ..., N].

        y_n = kernel(scale * (x - c_n)^2),  centres c_n evenly spaced from 0 to scale,  kernel(d) = exp(-d/2)

    Differentiable. Source: Norse's `PopulationEncoder`.

    Args:
        x: the values, usually between 0 and `scale`.
        num_neurons: N.
        scale: the last centre, a positive scalar; None takes the largest of all values, which makes the code
            of one value depend on the others, and under `vmap` on those of its own slice.
        kernel: the activity at a scaled squared distance d; `lambda d: jnp.exp(-d / (2 * sigma**2))` sets the
            width.

    Raises:
        ValueError: if `num_neurons` is less than 1 or `scale` is not positive.

    >>> population(jnp.array([0.0, 1.0]), 3, scale=1.0).round(2)
    Array([[1.  , 0.88, 0.61],
           [0.61, 0.88, 1.  ]], dtype=float32)
    """
    x = _floating(x)
    if num_neurons < 1:
        raise ValueError(f"num_neurons must be >= 1, got {num_neurons}")
    if scale is None:
        scale = jnp.max(x)
    else:
        check_positive("scale", scale)
        scale = jnp.asarray(scale, x.dtype)
    centres = jnp.linspace(0, scale, num_neurons, dtype=x.dtype)
    return kernel(scale * (x[..., None] - centres) ** 2)


def _bernoulli(key: Array, probability: Array, num_steps: int | None) -> Array:
    """Booleans [T, ...], true with `probability` [...], or [T, ...] where `num_steps` is None."""
    if num_steps is None:
        if probability.ndim == 0:
            raise ValueError("x must have a time axis, [T, ...], got a scalar: pass num_steps for a static input")
        return jax.random.bernoulli(key, probability)
    _check_num_steps(num_steps)
    return jax.random.bernoulli(key, probability, (num_steps, *probability.shape))


def _at_least_float32(x: Array) -> Array:
    # random numbers of half precision are multiples of 1/128 or 1/1024: too coarse for small probabilities
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _floating(x: Array) -> Array:
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"x must be floating point, got {x.dtype}: convert it with x.astype(jnp.float32), "
            f"and divide images of 8 bits by 255"
        )
    return x


def _check_num_steps(num_steps: int) -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps must be >= 1, got {num_steps}")
