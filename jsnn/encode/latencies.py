"""Latency codes: the larger a value, the earlier its one spike."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.arguments import check_not_empty, checked
from jsnn.encode.checks import (
    at_least_float32,
    check_first_spike_time,
    check_unit_interval,
    extremes,
    floating,
    is_known,
)
from jsnn.encode.times import interpolate_spikes, times_to_spikes
from jsnn.neurons.checks import check_positive
from jsnn.types import Array


@checked
def latency_times(
    x: Array,
    *,
    num_steps: int | None = None,
    tau: float = 1.0,
    dt: float = 1.0,
    threshold: float = 0.01,
    epsilon: float = 1e-7,
    first_spike_time: int = 0,
    clip: bool = False,
    normalize: bool = False,
    linear: bool = False,
) -> Array:
    """Return the time of each value's spike, in steps and not rounded; [B, ...] -> [B, ...].

    A LIF neuron that receives the current x reaches its threshold at

        time = first_spike_time + tau / dt * log(d / (d - threshold)),  d = max(x, threshold + epsilon)

    and the linear code is time = first_spike_time + tau / dt * (1 - max(x, threshold)). The larger a value, the earlier
    it spikes; those below the threshold spike last, or with `clip` never.

    `normalize` stretches the times so that the last possible one is num_steps - 1. Logarithmic times are stretched by
    the latest time in the whole array, so the code of one value depends on the others (under `vmap`, on those of its
    own slice). Linear times are stretched by tau / dt = num_steps - 1 - first_spike_time; the last possible time is
    that times 1 - threshold.

    Source: snnTorch's `spikegen.latency_code`.

    Args:
        x: values in [0, 1], the largest above the threshold.
        num_steps: T, needed by `normalize` alone.
        tau: the time constant, in s, or in steps where `dt` is left at 1.
        dt: the length of a step, in s.
        threshold: the value below which all spike at the same time, in (0, 1).
        epsilon: how close a value may come to the threshold before its time is cut off.
        first_spike_time: what is added to all times.
        clip: whether values below the threshold get the time infinity.
        normalize: whether the times are stretched over the T steps.
        linear: the linear code in place of the logarithmic one.

    Returns:
        Times of the dtype of the values, float32 at least.

    Raises:
        TypeError: if `x` is not floating point.
        ValueError: if `tau` or `epsilon` is not positive; if `threshold` lies outside (0, 1), or not below the
            largest value, or is too small to stretch times in float32; if `normalize` lacks `num_steps`, or that is
            less than 1; if `first_spike_time` is negative or not below `num_steps`; if values are missing, NaN or
            outside [0, 1]; if times are not finite, because `tau` is too large or `epsilon` too small for float32.
            Under `jit`, where values are unknown, they are not checked.

    Examples:
        >>> latency_times(jnp.array([0.015, 0.02, 1.0]), tau=10.0).round(0).tolist()
        [11.0, 7.0, 0.0]
        >>> latency_times(jnp.array([0.25, 0.5, 1.0]), num_steps=5, normalize=True, linear=True).tolist()
        [3.0, 2.0, 0.0]
    """
    values, times = _values_and_times(x, num_steps, tau, dt, threshold, epsilon, first_spike_time, normalize, linear)
    return jnp.where(values < threshold, jnp.inf, times) if clip else times


@checked
def latency(
    x: Array,
    *,
    num_steps: int | None,
    tau: float = 1.0,
    dt: float = 1.0,
    threshold: float = 0.01,
    epsilon: float = 1e-7,
    first_spike_time: int = 0,
    clip: bool = False,
    normalize: bool = False,
    linear: bool = False,
    bypass: bool = False,
    interpolate: bool = False,
    dtype: Any = None,
) -> Array:
    """Return one spike a value, the larger the earlier, at the `latency_times` rounded to steps.

    [B, ...] -> [T, B, ...].

    Spikes that would come after the last step are an error, as in snnTorch, also those that `clip` leaves out: take
    more steps, or `normalize`. With `bypass` they are left out, and so they are under `jit`, where values are unknown.

    Source: snnTorch's `spikegen.latency`.

    Args:
        x: values in [0, 1], the largest above the threshold.
        num_steps: T; None, which needs `bypass`, takes as many steps as the last spike needs.
        tau: see `latency_times`.
        dt: see `latency_times`.
        threshold: see `latency_times`.
        epsilon: see `latency_times`.
        first_spike_time: see `latency_times`.
        clip: see `latency_times`.
        normalize: see `latency_times`.
        linear: see `latency_times`.
        bypass: whether spikes after the last step are left out in silence.
        interpolate: in place of the train, ramps that rise to each spike, see `interpolate_spikes`.
        dtype: of the spikes; None takes that of the values, `jnp.bool_` and `jnp.uint8` save memory.

    Raises:
        TypeError: if `x` is not floating point.
        ValueError: for what `latency_times` refuses; for spikes after the last step; if `num_steps` is None without
            `bypass`, or under `jit`.

    Examples:
        >>> latency(jnp.array([0.02, 0.5, 1.0]), num_steps=5, normalize=True, linear=True)
        Array([[0., 0., 1.],
               [0., 0., 0.],
               [0., 1., 0.],
               [0., 0., 0.],
               [1., 0., 0.]], dtype=float32)
    """
    if num_steps is None and not bypass:
        raise ValueError("num_steps must be given, got None: pass it, or bypass=True for as many as the times need")
    values, times = _values_and_times(x, num_steps, tau, dt, threshold, epsilon, first_spike_time, normalize, linear)
    num_steps = _enough_steps(times, num_steps, bypass)
    times = jnp.where(values < threshold, jnp.inf, times) if clip else times
    dtype = jnp.asarray(x).dtype if dtype is None else dtype
    if interpolate:
        return interpolate_spikes(times_to_spikes(times, num_steps=num_steps)).astype(dtype)
    return times_to_spikes(times, num_steps=num_steps, dtype=dtype)


@checked
def spike_latency(spikes: Array) -> Array:
    """Return each neuron's first spike alone: y_t = s_t if s_r = 0 for all r < t, else 0; [T, ...] -> [T, ...].

    The gradient passes unchanged up to and including the first spike, and is 0 after it. Any dtype; a spike
    is what differs from 0. Source: Norse's `SpikeLatencyEncoder`.

    Raises:
        ValueError: if `spikes` has no time axis.

    Examples:
        >>> spike_latency(jnp.array([0.0, 1.0, 0.0, 1.0]))
        Array([0., 1., 0., 0.], dtype=float32)
    """
    spikes = jnp.asarray(spikes)
    if spikes.ndim == 0:
        raise ValueError("spikes must have a time axis, [T, ...], got a scalar")
    check_not_empty("spikes", spikes)
    fired = spikes != 0
    first = jnp.where(jnp.any(fired, axis=0), jnp.argmax(fired, axis=0), len(spikes))
    step = jax.lax.broadcasted_iota(first.dtype, spikes.shape, 0)
    return jnp.where(step <= first, spikes, jnp.zeros((), spikes.dtype))


def _values_and_times(
    x: Array,
    num_steps: int | None,
    tau: float,
    dt: float,
    threshold: float,
    epsilon: float,
    first_spike_time: int,
    normalize: bool,
    linear: bool,
) -> tuple[Array, Array]:
    """Return the values in float32 or better, and their times before any is clipped; all arguments are checked."""
    x = floating(x)
    for name, value in (("tau", tau), ("dt", dt), ("epsilon", epsilon)):
        check_positive(name, value)
    tau = tau / dt  # in steps
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie in (0, 1), got {threshold}")
    check_first_spike_time(first_spike_time, num_steps)
    if normalize and num_steps is None:
        raise ValueError("normalize needs num_steps to stretch the times over, got None")
    check_unit_interval(x)
    found = extremes(x)
    if found is not None and threshold >= found[1]:
        raise ValueError(
            f"threshold must be below the largest value of x, {found[1]:g}, got {threshold}: "
            f"no value would spike before the last step"
        )
    x = at_least_float32(x)
    least = float(jnp.finfo(x.dtype).eps)
    if normalize and not linear and threshold < least:
        raise ValueError(f"threshold must be at least {least:.2g} for times in {x.dtype}, got {threshold}")
    span = num_steps - 1 - first_spike_time if normalize and num_steps is not None else None
    options = (tau, threshold, epsilon, first_spike_time, linear, span)
    if is_known(tau) and is_known(epsilon):
        with jax.ensure_compile_time_eval(), np.errstate(over="ignore"):
            latest = float(_all_times(jnp.zeros((), x.dtype), *options))
        if not math.isfinite(latest):
            raise ValueError(
                f"times must be finite in {x.dtype}, got {latest} for values below the threshold, with "
                f"tau / dt = {tau} and epsilon = {epsilon}: take epsilon = 1e-7 or more, and another tau"
            )
    return x, _all_times(x, *options)


def _all_times(
    x: Array, tau: float, threshold: float, epsilon: float, first_spike_time: int, linear: bool, span: int | None
) -> Array:
    """Return the times of `latency_times` before any is clipped, stretched over `span` steps where it is not None."""
    if linear:
        scale = tau if span is None else span
        return jnp.minimum(-scale * (x - 1), -scale * (threshold - 1)) + first_spike_time
    d = jnp.maximum(x, threshold + epsilon)
    times = tau * jnp.log(d / (d - threshold)) + first_spike_time
    if span is None:
        return times
    after = times - first_spike_time
    return after * span / jnp.max(after) + first_spike_time


def _enough_steps(times: Array, num_steps: int | None, bypass: bool) -> int:
    """Return T, given or found from the times; raise ValueError if it is too small, unless `bypass` is set."""
    found = extremes(times)
    if found is None:
        if num_steps is None:
            raise ValueError("num_steps must be given under jit, got None: shapes cannot depend on values there")
        return num_steps
    needed = round(found[1]) + 1  # round and jnp.round both take halves to the even number
    if num_steps is None:
        return needed
    if needed > num_steps and not bypass:
        raise ValueError(
            f"num_steps must be at least {needed} for the latest spike, got {num_steps}: take as many, "
            f"normalize=True to fit the times in, a smaller tau, or bypass=True to leave late spikes out"
        )
    return num_steps
