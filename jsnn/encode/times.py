"""Spike times as trains and back, and the ramps that lead up to spikes.

A train is an array over time, [T, B, ...], whose spikes are what differs from 0. A spike time is a step, counted
from 0; infinity stands for a neuron that never spikes.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jsnn.arguments import checked
from jsnn.encode.checks import at_least_float32, check_num_steps, floating
from jsnn.types import Array


@checked
def times_to_spikes(times: Array, *, num_steps: int, dtype: Any = None) -> Array:
    """Return one spike a neuron at its time, which is rounded to a step; [B, ...] -> [T, B, ...].

        s_t = 1 where round(time) = t, else 0;  halves round to the even step

    A time outside the T steps, and infinity, give no spike. For several spikes a neuron, times `[K, B, ...]`, take
    `jax.vmap(lambda times: times_to_spikes(times, num_steps=T))(times).max(0)`.

    Args:
        times: spike times in steps, floating point.
        num_steps: T.
        dtype: of the spikes; None takes that of the times.

    Raises:
        TypeError: if `times` are not floating point.
        ValueError: if `num_steps` is less than 1, or `times` are empty or NaN.

    Examples:
        >>> times_to_spikes(jnp.array([0.0, 1.7, jnp.inf]), num_steps=3)
        Array([[1., 0., 0.],
               [0., 0., 0.],
               [0., 1., 0.]], dtype=float32)
    """
    times = floating(times, "times")
    check_num_steps(num_steps, times.shape)
    return _train_of(times, num_steps, jnp.dtype(times.dtype if dtype is None else dtype))


@checked
def spikes_to_times(spikes: Array) -> Array:
    """Return the step of each neuron's first spike, infinity where there is none; [T, B, ...] -> [B, ...].

    The inverse of `times_to_spikes`. No gradient flows through it: `decode.first_spike_time` has one, and gives
    silent neurons the last step. The dtype is that of the spikes, float32 where they are of half precision or no
    floats.

    Raises:
        ValueError: if `spikes` has no time axis, or no steps.

    Examples:
        >>> spikes_to_times(jnp.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])).tolist()
        [0.0, 2.0, inf]
    """
    spikes = _train(spikes)
    fired = spikes != 0
    first = jnp.argmax(fired, axis=0).astype(_float_for(spikes))
    return jnp.where(jnp.any(fired, axis=0), first, jnp.inf)


@checked
def interpolate_spikes(spikes: Array, *, on_target: float = 1.0, off_target: float = 0.0) -> Array:
    """Return ramps that rise to each spike from the step after the one before; [T, B, ...] -> [T, B, ...].

        y_t = off + (on - off) * (t - a - 1) / (b - a - 1),  a < t the spike before, b >= t the next one

    `a` is -1 before the first spike. A spike right after another is `on_target`; after the last spike, and in
    silent neurons, y is `off_target`. As a target it is for a membrane that rises steadily to each spike.

    Source: snnTorch's `rate_interpolate` and `latency_interpolate`, of which it is both.

    Raises:
        ValueError: if `spikes` has no time axis or no steps, or `on_target` is below `off_target`.

    Examples:
        >>> interpolate_spikes(jnp.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])).tolist()
        [1.0, 0.0, 0.5, 1.0, 1.0, 0.0]
    """
    spikes = _train(spikes)
    if on_target < off_target:
        raise ValueError(f"on_target must be >= off_target = {off_target}, got {on_target}")
    dtype, end = _float_for(spikes), len(spikes)
    step = jax.lax.broadcasted_iota(jnp.int32, spikes.shape, 0)
    following = jax.lax.cummin(jnp.where(spikes != 0, step, end), axis=0, reverse=True)
    last = jax.lax.cummax(jnp.where(spikes != 0, step, -1), axis=0)
    before = jnp.concatenate([jnp.full_like(last[:1], -1), last[:-1]])
    length = following - before - 1
    ramp = jnp.where(length > 0, (step - before - 1).astype(dtype) / jnp.maximum(length, 1).astype(dtype), 1)
    ramp = jnp.where(following < end, ramp, 0)
    return (off_target + (on_target - off_target) * ramp).astype(dtype)


def _train(spikes: Array) -> Array:
    spikes = jnp.asarray(spikes)
    if spikes.ndim == 0:
        raise ValueError("spikes must have a time axis, [T, ...], got a scalar")
    if len(spikes) == 0:
        raise ValueError(f"spikes must have at least one step, got shape {spikes.shape}")
    return spikes


def _float_for(spikes: Array) -> Any:
    """Return the dtype that steps of these spikes are counted in: half precision would round those above 256."""
    return jnp.promote_types(spikes.dtype, jnp.float32) if jnp.issubdtype(spikes.dtype, jnp.floating) else jnp.float32


@functools.partial(jax.jit, static_argnums=(1, 2))  # one pass over the train, whose size decides the time
def _train_of(times: Array, num_steps: int, dtype: Any) -> Array:
    step = jax.lax.broadcasted_iota(jnp.int32, (num_steps, *times.shape), 0)
    # beyond the range of int32, infinity included, a time is as good as T
    rounded = jnp.clip(jnp.round(at_least_float32(times)), -1, num_steps).astype(jnp.int32)
    return (step == rounded).astype(dtype)
