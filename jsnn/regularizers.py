"""Regularisers: penalties on firing rates, scalars to add to a loss.

There are two penalties, `l1` and `l2`, on how far rates lie from a target, which is a number or a range (low,
high) within which nothing is penalised:

    e = |rate - target|    or    e = max(low - rate, 0) + max(rate - high, 0)
    l1 = strength * sum(e)          l2 = strength * sum(e^2)

They act on rates of any shape, and compose: `l1(rates) + l2(rates)` is KerasSpiking's `L1L2`, and
`l2(percentile(rates))` its `Percentile`. `l1_rate` and `l2_rate` take spikes and first average over time.

Recordings of different lengths are padded at the end. What goes over time takes their `lengths`, [B] integers in 1..T:
of sample b the steps t < lengths[b] count, and padding, NaN too, changes no value and has gradient 0.

A penalty is summed up in float32 at least, and then has the dtype of what it is given (float32 for float16). All raise
ValueError for a strength that is negative or not a single number, and for a range whose low end exceeds its high end.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.arguments import check_axes, check_dt, check_not_empty, checked
from jsnn.padding import check_over_time, counted_steps, fill_padding, mean_over_time
from jsnn.rounding import narrow, wide
from jsnn.types import Array

__all__ = ["Target", "l1", "l1_rate", "l1_rate_sparsity", "l2", "l2_rate", "percentile"]

Target: TypeAlias = float | tuple[float, float]
"""A rate, or a range (low, high) of rates."""


@checked
def l1(rates: Array, *, strength: float | Array = 0.01, target: Target = 0.0) -> Array:
    """Return the penalty strength * sum(e), e the distance of each rate to the target (KerasSpiking's `L1`).

    Keras divides such an activity regulariser by the batch size; this function does not.

    Args:
        rates: any shape; in Hz, or in whatever unit `target` has.
        strength: how much it counts in the loss.
        target: the wanted rate, or the range (low, high) of wanted rates.

    Examples:
        >>> l1(jnp.array([2.0, 7.0, 12.0]), target=(5.0, 10.0), strength=0.5)
        Array(2.5, dtype=float32)
    """
    return _penalty(strength, jnp.sum(_distance(rates, target)), rates)


@checked
def l2(rates: Array, *, strength: float | Array = 0.01, target: Target = 0.0) -> Array:
    """Return the penalty strength * sum(e^2), e the distance of each rate to the target (KerasSpiking's `L2`).

    Keras divides such an activity regulariser by the batch size; this function does not.

    Args:
        rates: any shape; in Hz, or in whatever unit `target` has.
        strength: how much it counts in the loss.
        target: the wanted rate, or the range (low, high) of wanted rates.

    Examples:
        >>> l2(jnp.array([2.0, 7.0, 12.0]), target=(5.0, 10.0), strength=0.5)
        Array(6.5, dtype=float32)
    """
    return _penalty(strength, jnp.sum(_distance(rates, target) ** 2), rates)


@checked
def percentile(
    rates: Array, q: float = 100.0, *, axis: int | tuple[int, ...] = 0, lengths: Array | None = None
) -> Array:
    """Return the q-th percentile of the rates over `axis`, linear between neighbours; 100 is the maximum.

    With a penalty on it, every neuron is to reach its target for some inputs; its rates for others do not count.

    Args:
        rates: [B, ...] with the default axis, [T, B, ...] with `axis=(0, 1)`.
        q: in [0, 100].
        axis: the axes that it goes over, and that are gone afterwards.
        lengths: [B], the steps of each sample that are not padding, of rates [T, B, ...]; None for all T.

    Raises:
        ValueError: if `q` is outside [0, 100], or if there are `lengths` and time, 0, is not among the axes.

    Examples:
        >>> l1(percentile(jnp.array([[0.0, 4.0], [8.0, 6.0]])), target=10.0, strength=1.0)
        Array(6., dtype=float32)
    """
    check_percentage("q", q)
    check_not_empty("rates", rates)
    check_axes(axis, rates)
    if lengths is None:
        return jnp.percentile(rates, q, axis=axis)
    check_over_time(axis, rates)
    counted = counted_steps(lengths, rates)
    found = jnp.nanpercentile(jnp.where(counted, wide(rates), jnp.nan), q, axis=axis)
    is_nan = jnp.any(jnp.isnan(rates), axis=axis, where=counted)
    return narrow(jnp.where(is_nan, jnp.nan, found), rates.dtype)


@checked
def l1_rate(
    spikes: Array,
    *,
    strength: float | Array = 0.01,
    target: Target = 0.0,
    dt: float | None = None,
    lengths: Array | None = None,
) -> Array:
    """Return `l1` of each neuron's rate r = mean_t(s_t) / dt, summed over neurons and averaged over the batch.

    Args:
        spikes: [T, B, ...] of any layer.
        strength: how much it counts in the loss.
        target: the wanted rate, or the range (low, high), in spikes per step, or in Hz where `dt` is given.
        dt: the length of a step, in s.
        lengths: [B], the steps of each sample that are not padding; None for all T.

    Raises:
        ValueError: if `spikes` have no time and batch axes, or `dt` is not greater than 0.

    Examples:
        >>> l1_rate(jnp.array([[[0.0, 1.0]], [[1.0, 1.0]]]), target=0.25, strength=1.0)
        Array(1., dtype=float32)
    """
    rates = _rates(spikes, dt, lengths)
    return _penalty(strength, jnp.sum(_distance(rates, target)) / rates.shape[0], spikes)


@checked
def l2_rate(
    spikes: Array,
    *,
    strength: float | Array = 0.01,
    target: Target = 0.0,
    dt: float | None = None,
    lengths: Array | None = None,
) -> Array:
    """Return `l2` of each neuron's rate r = mean_t(s_t) / dt, summed over neurons and averaged over the batch.

    Args:
        spikes: [T, B, ...] of any layer.
        strength: how much it counts in the loss.
        target: the wanted rate, or the range (low, high), in spikes per step, or in Hz where `dt` is given.
        dt: the length of a step, in s.
        lengths: [B], the steps of each sample that are not padding; None for all T.

    Raises:
        ValueError: if `spikes` have no time and batch axes, or `dt` is not greater than 0.

    Examples:
        >>> l2_rate(jnp.array([[[0.0, 1.0]], [[1.0, 1.0]]]), target=0.5, strength=1.0)
        Array(0.25, dtype=float32)
    """
    rates = _rates(spikes, dt, lengths)
    return _penalty(strength, jnp.sum(_distance(rates, target) ** 2) / rates.shape[0], spikes)


@checked
def l1_rate_sparsity(spikes: Array, *, strength: float | Array = 1e-5, lengths: Array | None = None) -> Array:
    """Return the penalty strength * sum(s) on all spikes, of any shape (snnTorch's `l1_rate_sparsity`).

    With `lengths`, those of [T, B, ...] that are not in the padding.

    Examples:
        >>> l1_rate_sparsity(jnp.ones((5, 2, 4)), strength=0.25)
        Array(10., dtype=float32)
    """
    return _penalty(strength, jnp.sum(fill_padding(wide(spikes), lengths)), spikes)


def _penalty(strength: float | Array, total: Array, given: Array) -> Array:
    """Return strength * total, multiplied in float32 at least, in the dtype of what was given."""
    check_strength(strength)
    dtype = jnp.promote_types(total.dtype, jnp.float32)
    return narrow(jnp.asarray(strength, dtype) * total.astype(dtype), given.dtype)


def _distance(rates: Array, target: Target) -> Array:
    check_target(target)
    rates = rates.astype(jnp.promote_types(rates.dtype, jnp.float32))  # integers too, which would wrap around
    low, high = target if isinstance(target, tuple) else (target, target)
    return jax.nn.relu(low - rates) + jax.nn.relu(rates - high)


def _rates(spikes: Array, dt: float | None, lengths: Array | None) -> Array:
    """Return [T, B, ...] -> [B, ...], in float32 at least."""
    if spikes.ndim < 3:
        raise ValueError(f"spikes must be [T, B, ...], got shape {spikes.shape}: put time first, then batch")
    check_dt(dt)
    check_not_empty("spikes", spikes)
    rates = mean_over_time(wide(spikes), lengths)
    return rates if dt is None else rates / dt


def check_target(target: Target) -> None:
    """Raise ValueError if the low end of a range exceeds its high end, TypeError if they are traced."""
    if not isinstance(target, tuple):
        return
    if any(isinstance(end, jax.core.Tracer) for end in target):
        raise TypeError(f"target must be known when it is traced, got {target}: make it static under jit")
    if target[0] > target[1]:
        raise ValueError(f"target must be a range (low, high) with low <= high, got {target}: swap the two")


def check_strength(strength: float | Array) -> None:
    """Raise ValueError if a strength is negative or not a single number."""
    if np.ndim(strength):
        raise ValueError(f"strength must be one number, got shape {np.shape(strength)}: multiply the rates instead")
    # a scheduled strength is traced, and its value cannot be looked at
    if not isinstance(strength, jax.core.Tracer) and strength < 0:
        raise ValueError(f"strength must be >= 0, got {strength}")


def check_percentage(name: str, value: float) -> None:
    """Raise ValueError if a value is outside [0, 100]."""
    if not 0 <= value <= 100:
        raise ValueError(f"{name} must lie in [0, 100], got {value}")
