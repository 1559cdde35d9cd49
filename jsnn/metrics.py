"""Metrics: how often a network is right, and how much its neurons fire.

Accuracies are the fraction of samples, in [0, 1], whose labelled neuron (or class) comes out first; among equals the
lowest index wins, and a sample with NaN among its values counts as wrong, as does one whose label lies outside
0..N-1. Samples labelled `ignore_label` are left out; of none the accuracy is NaN. They raise ValueError and TypeError
for wrong shapes and dtypes, as the losses do, and ValueError if there are no samples. Firing rates and fractions of
spikes that hold NaN are NaN.

Recordings of different lengths are padded at the end. Given their `lengths`, [B] integers in 1..T, a mean over time is
over the steps t < lengths[b] of sample b, before it is over samples, and padding, NaN too, does not count.
"""

import jax.numpy as jnp

from jsnn.arguments import check_axes, check_broadcasts, check_dt, check_not_empty, checked
from jsnn.losses import check_logits, check_targets, is_counted
from jsnn.padding import check_over_time, counted_steps, mean_of_steps, mean_over_time
from jsnn.rounding import narrow, wide
from jsnn.types import Array

__all__ = [
    "accuracy",
    "firing_rate",
    "is_correct",
    "saturated_fraction",
    "silent_fraction",
]


@checked
def accuracy(logits: Array, targets: Array, *, ignore_label: int | None = None, lengths: Array | None = None) -> Array:
    """Return how often the largest logit is the label's: mean(argmax(logits) = target).

    Args:
        logits: [..., N], what a decoder returned.
        targets: [...], integer labels.
        ignore_label: the label of samples that are left out, such as -1; None for none.
        lengths: [B], the steps of each sample that are not padding, where logits [T, B, N] have labels [T, B] of their
            own at every step; None for all T.

    Examples:
        >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1]))
        Array(0.5, dtype=float32)
    """
    check_logits(logits, targets, lengths)
    return mean_of_steps(is_correct(logits, targets), is_counted(targets, ignore_label), lengths)


@checked
def is_correct(logits: Array, targets: Array) -> Array:
    """Return for each sample whether the largest logit is the label's; where a logit is NaN none is.

    Args:
        logits: [..., N], what a decoder returned, or the outputs of all steps.
        targets: [...], integer labels; those of a batch, [B], will do for outputs [T, B, N].

    Examples:
        >>> is_correct(jnp.array([[0.1, 0.9], [jnp.nan, 0.2]]), jnp.array([1, 0])).tolist()
        [True, False]
    """
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must be [..., N], one number a class, got shape {logits.shape}")
    check_targets(targets, targets.shape)
    check_broadcasts("targets", targets, logits.shape[:-1], "the samples")
    return (jnp.argmax(logits, axis=-1) == targets) & ~jnp.any(jnp.isnan(logits), axis=-1)


@checked
def firing_rate(
    spikes: Array,
    *,
    axis: int | tuple[int, ...] | None = None,
    dt: float | None = None,
    lengths: Array | None = None,
) -> Array:
    """Return the mean firing rate, in spikes per step, or in Hz where `dt` is given: mean(s) / dt.

    Args:
        spikes: [T, B, ...] of any layer.
        axis: the axes to average: all (None), `(0, 1)` for each neuron's rate, `0` for each sample's as well.
        dt: the length of a step, in s. Leave it out for outputs that are rates already, such as those of
            `SpikingActivation`, whose spikes have the height 1 / dt.
        lengths: [B], the steps of each sample that are not padding; None for all T.

    Raises:
        ValueError: if `dt` is not greater than 0, or if there are `lengths` and time, 0, is not among the axes.

    Examples:
        >>> spikes = jnp.array([[[0.0, 1.0]], [[1.0, 1.0]]])
        >>> firing_rate(spikes)
        Array(0.75, dtype=float32)
        >>> firing_rate(spikes, axis=(0, 1), dt=0.5)
        Array([1., 2.], dtype=float32)
    """
    check_dt(dt)
    check_axes(axis, spikes)
    check_not_empty("spikes", spikes)
    rates = wide(spikes)
    if lengths is not None:
        check_over_time(axis, spikes)
        rates = mean_over_time(rates, lengths)[None]
    rate = jnp.mean(rates, axis=axis)
    return narrow(rate if dt is None else rate / dt, spikes.dtype)


@checked
def silent_fraction(spikes: Array, *, lengths: Array | None = None) -> Array:
    """Return the fraction of neurons that never fire, at no step for no sample; `spikes` [T, B, ...].

    Examples:
        >>> silent_fraction(jnp.array([[[0.0, 1.0]], [[0.0, 0.0]]]))
        Array(0.5, dtype=float32)
    """
    return _fraction(spikes, spikes == 0, lengths)


@checked
def saturated_fraction(spikes: Array, *, lengths: Array | None = None) -> Array:
    """Return the fraction of neurons that always fire, at every step for every sample; `spikes` [T, B, ...].

    Examples:
        >>> saturated_fraction(jnp.array([[[0.0, 1.0]], [[0.0, 1.0]]]))
        Array(0.5, dtype=float32)
    """
    return _fraction(spikes, spikes != 0, lengths)


def _fraction(spikes: Array, holds: Array, lengths: Array | None) -> Array:
    """Return the fraction of neurons for which something holds at every step of every sample, padding left out."""
    if spikes.ndim < 2:
        raise ValueError(f"spikes must be [T, B, ...], got shape {spikes.shape}: put time first, then batch")
    check_not_empty("spikes", spikes)
    counted = None if lengths is None else counted_steps(lengths, spikes)
    is_nan = jnp.any(jnp.isnan(spikes), where=counted)
    return jnp.where(is_nan, jnp.nan, jnp.mean(jnp.all(holds, axis=(0, 1), where=counted)))
