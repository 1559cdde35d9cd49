"""Rate codes: the larger a value, the more spikes, at random times."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp

from jsnn.arguments import check_broadcasts, checked
from jsnn.encode.bernoulli import bernoulli
from jsnn.encode.checks import (
    at_least_float32,
    check_first_spike_time,
    check_num_steps,
    extremes,
    floating,
    time_varying,
)
from jsnn.neurons.checks import check_positive
from jsnn.types import Array


@checked
def rate(
    key: Array,
    x: Array,
    *,
    num_steps: int | None,
    gain: float | Array = 1.0,
    offset: float | Array = 0.0,
    first_spike_time: int = 0,
    dtype: Any = None,
) -> Array:
    """Return independent spikes with the values as probabilities; [B, ...] -> [T, B, ...], or time-varying.

        P(s_t = 1) = min(max(gain * x + offset, 0), 1)  for t >= first_spike_time, 0 before

    Probabilities outside [0, 1] are clipped, with a warning where the values themselves lie outside [0, 1]; under
    `jit`, where values are unknown, without.

    Source: snnTorch's `spikegen.rate`.

    Args:
        key: a random key, consumed.
        x: the values, usually in [0, 1].
        num_steps: T, blank steps included; None if `x` has a time axis: then the blank steps are put in front
            of it, and the result is `[first_spike_time + T, B, ...]`.
        gain: the factor on the values.
        offset: what is added to them after it.
        first_spike_time: the number of blank steps before the first that may spike.
        dtype: of the spikes; None takes that of the values, `jnp.bool_` and `jnp.uint8` save memory.

    Raises:
        ValueError: if `num_steps` is less than 1, or `first_spike_time` is negative or not below `num_steps`.

    Examples:
        >>> spikes = rate(jax.random.key(0), jnp.array([0.0, 0.5, 1.0]), num_steps=1000)
        >>> jnp.mean(spikes, axis=0).round(1).tolist()
        [0.0, 0.5, 1.0]
        >>> rate(jax.random.key(0), jnp.ones(2), num_steps=4, first_spike_time=2)[:, 0].tolist()
        [0.0, 0.0, 1.0, 1.0]
    """
    x = floating(x)
    check_first_spike_time(first_spike_time, num_steps)
    if num_steps is not None:
        num_steps -= first_spike_time
    for name, value in (("gain", gain), ("offset", offset)):
        check_broadcasts(name, value, x.shape, "x")
    probability = gain * at_least_float32(x) + offset
    _warn_of_clipping(x, probability)
    spikes = bernoulli(key, probability, num_steps, x.dtype if dtype is None else dtype)
    if first_spike_time == 0:
        return spikes
    return jnp.pad(spikes, [(first_spike_time, 0)] + [(0, 0)] * (spikes.ndim - 1))


@checked
def poisson(key: Array, x: Array, *, num_steps: int | None, f_max: float = 100.0, dt: float = 1e-3) -> Array:
    """Return independent spikes at the rate `f_max * x`; [B, ...] -> [T, B, ...], or [T, B, ...] -> [T, B, ...].

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

    Examples:
        >>> spikes = poisson(jax.random.key(0), jnp.array([0.0, 0.5, 1.0]), num_steps=1000, f_max=1000.0)
        >>> jnp.mean(spikes, axis=0).round(1).tolist()
        [0.0, 0.5, 1.0]
    """
    x = floating(x)
    check_positive("f_max", f_max)
    check_positive("dt", dt)
    return bernoulli(key, dt * f_max * at_least_float32(x), num_steps, x.dtype)


@checked
def signed_poisson(key: Array, x: Array, *, num_steps: int | None, f_max: float = 100.0, dt: float = 1e-3) -> Array:
    """Return Poisson spikes in {-1, 0, 1}, at the rate `f_max * |x|` and with the sign of `x`; shapes as `poisson`.

    Arguments and errors are those of `poisson`. Source: Norse's `SignedPoissonEncoder`.

    Examples:
        >>> spikes = signed_poisson(jax.random.key(0), jnp.array([-1.0, 0.0, 1.0]), num_steps=2, f_max=1000.0)
        >>> spikes.tolist()
        [[-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]]
    """
    x = floating(x)
    return jnp.sign(x) * poisson(key, jnp.abs(x), num_steps=num_steps, f_max=f_max, dt=dt)


@checked
def interpolated_rate(
    key: Array, x: Array, *, num_steps: int, gain: float | Array = 1.0, offset: float | Array = 0.0
) -> Array:
    """Return `rate` of values known at K instants, and in between by linear interpolation; [K, B, ...] -> [T, B, ...].

        P(s_t = 1) = min(max(gain * x(u) + offset, 0), 1),  x(u) = (1 - f) * x_k + f * x_{k+1},
        u = t * (K - 1) / (T - 1),  k = floor(u),  f = u - k

    The first and last step take the first and last values. What has a slower clock than the network, such as the
    frames of a film, so varies smoothly. The interpolation is that of `jnp.interp`. Clips and warns as `rate` does.

    Args:
        key: a random key, consumed.
        x: the values at K instants evenly spaced over the T steps.
        num_steps: T.
        gain: the factor on the values.
        offset: what is added to them after it.

    Raises:
        ValueError: if `num_steps` is less than 1, or `x` has no time axis.

    Examples:
        >>> spikes = interpolated_rate(jax.random.key(0), jnp.array([[0.0] * 1000, [1.0] * 1000]), num_steps=6)
        >>> jnp.mean(spikes, axis=1).round(1)
        Array([0. , 0.2, 0.4, 0.6, 0.8, 1. ], dtype=float32)
    """
    x = time_varying(x)
    check_num_steps(num_steps, x.shape[1:])
    for name, value in (("gain", gain), ("offset", offset)):
        check_broadcasts(name, value, (num_steps, *x.shape[1:]), "the values")
    instants = jnp.arange(num_steps, dtype=float) * ((len(x) - 1) / max(num_steps - 1, 1))
    flat = at_least_float32(x).reshape(len(x), -1)
    values = jax.vmap(jnp.interp, (None, None, 1), 1)(instants, jnp.arange(len(x), dtype=float), flat)
    values = values.reshape(num_steps, *x.shape[1:])
    probability = gain * values + offset
    _warn_of_clipping(x, probability)
    return bernoulli(key, probability, None, x.dtype)


@checked
def random_spikes(key: Array, rates: Array, *, num_steps: int, dt: float = 1e-3) -> Array:
    """Return spike trains that encode nothing, of given rates; [B, ...] -> [T, B, ...].

        P(s_t = 1) = dt * rate

    independently at each step: a Bernoulli process, which is a Poisson process for dt * rate much below 1. As test
    input, as background noise, and as targets of given rates.

    Source: Dayan and Abbott, "Theoretical neuroscience" (2001), section 1.4; snnTorch's `rate_conv`.

    Args:
        key: a random key, consumed.
        rates: in Hz, from 0 to 1 / dt.
        num_steps: T.
        dt: the length of a step, in s.

    Raises:
        ValueError: if `num_steps` is less than 1, `dt` is not positive, or a rate lies outside [0, 1 / dt].

    Examples:
        >>> spikes = random_spikes(jax.random.key(0), jnp.array([0.0, 500.0, 1000.0]), num_steps=1000)
        >>> jnp.mean(spikes, axis=0).round(1).tolist()
        [0.0, 0.5, 1.0]
    """
    rates = floating(rates, "rates")
    check_positive("dt", dt)
    found = extremes(rates)
    # a rate of 1 / dt may be rounded up in float32
    if found is not None and not (found[0] >= 0 and found[1] * dt <= 1 + 1e-6):
        raise ValueError(
            f"rates must lie in [0, 1 / dt] = [0, {1 / dt:g}] Hz, got {found[0]:g} to {found[1]:g}: take a smaller dt"
        )
    return bernoulli(key, dt * at_least_float32(rates), num_steps, rates.dtype)


def _warn_of_clipping(x: Array, probability: Array) -> None:
    """Warn the encoder's caller where values outside [0, 1] have probabilities that are clipped.

    It holds no numbers: Python shows one text once for each line of a program, and so not again at every batch.
    """
    if not (_in_unit_interval(x) or _in_unit_interval(probability)):
        warnings.warn(
            "x holds values outside [0, 1], and their probabilities are clipped: rescale it with "
            "(x - x.min()) / (x.max() - x.min()), or clip it with jnp.clip(x, 0, 1)",
            stacklevel=4,
        )


def _in_unit_interval(x: Array) -> bool:
    """Return whether all values lie in [0, 1], as far as they are known."""
    found = extremes(x)
    return found is None or (found[0] >= 0 and found[1] <= 1)
