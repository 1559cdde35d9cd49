"""Metrics: how often a network is right, and how much its neurons fire.

Accuracies are the fraction of samples, in [0, 1], whose labelled neuron (or class) comes out first; among equals the
lowest index wins, and a sample with NaN among its values counts as wrong, as does one whose label is no class, outside
0..N-1. Samples labelled `ignore_label` are left out; of none the accuracy is NaN. They raise ValueError and TypeError
for wrong shapes and dtypes, as the losses do, and ValueError if there are no samples. The accuracies over time have
snnTorch's names and values. Firing rates and fractions of spikes that hold NaN are NaN.
"""

import jax.numpy as jnp

from jsnn import decode
from jsnn.arguments import check_axes, check_broadcasts, check_dt, check_not_empty, checked
from jsnn.losses import check_logits
from jsnn.rounding import narrow, wide
from jsnn.types import Array

__all__ = [
    "accuracy",
    "accuracy_max_membrane",
    "accuracy_rate",
    "accuracy_temporal",
    "firing_rate",
    "is_correct",
    "saturated_fraction",
    "silent_fraction",
]


@checked
def accuracy(logits: Array, targets: Array, *, ignore_label: int | None = None) -> Array:
    """How often the largest logit is the label's: mean(argmax(logits) = target).

    Args:
        logits: [..., N], what a decoder returned.
        targets: [...], integer labels.
        ignore_label: the label of samples that are left out, such as -1; None for none.

    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1]))
    Array(0.5, dtype=float32)
    """
    check_logits(logits, targets)
    correct = is_correct(logits, targets)
    return jnp.mean(correct, where=None if ignore_label is None else targets != ignore_label)


@checked
def is_correct(logits: Array, targets: Array) -> Array:
    """Return for each sample whether the largest logit is the label's; where a logit is NaN none is.

    Args:
        logits: [..., N], what a decoder returned, or the outputs of all steps.
        targets: [...], integer labels; those of a batch, [B], will do for outputs [T, B, N].

    >>> is_correct(jnp.array([[0.1, 0.9], [jnp.nan, 0.2]]), jnp.array([1, 0])).tolist()
    [True, False]
    """
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must be [..., N], one number a class, got shape {logits.shape}")
    check_broadcasts("targets", targets, logits.shape[:-1], "the samples")
    return (jnp.argmax(logits, axis=-1) == targets) & ~jnp.any(jnp.isnan(logits), axis=-1)


@checked
def accuracy_rate(
    spikes: Array,
    targets: Array,
    *,
    population_code: bool = False,
    num_classes: int | None = None,
    ignore_label: int | None = None,
) -> Array:
    """How often the labelled neuron (or population) fires most; options as in `decode.spike_count`.

    Args:
        spikes: [T, B, N].
        targets: [B], integer labels.
        population_code: whether N / num_classes neighbouring neurons stand for each class.
        num_classes: the number of classes; only for a population code.
        ignore_label: see `accuracy`.

    >>> accuracy_rate(jnp.array([[[0.0, 1.0]], [[1.0, 1.0]]]), jnp.array([1]))
    Array(1., dtype=float32)
    """
    counts = decode.spike_count(wide(spikes), population_code=population_code, num_classes=num_classes)
    return accuracy(counts, targets, ignore_label=ignore_label)


@checked
def accuracy_max_membrane(membranes: Array, targets: Array, *, ignore_label: int | None = None) -> Array:
    """How often the labelled neuron has the largest membrane of all steps.

    Args:
        membranes: [T, B, N].
        targets: [B], integer labels.
        ignore_label: see `accuracy`.

    >>> accuracy_max_membrane(jnp.array([[[0.0, 0.7]], [[0.9, 0.1]]]), jnp.array([1]))
    Array(0., dtype=float32)
    """
    return accuracy(decode.max_over_time(membranes), targets, ignore_label=ignore_label)


@checked
def accuracy_temporal(spikes: Array, targets: Array, *, ignore_label: int | None = None) -> Array:
    """How often the labelled neuron fires first. A silent neuron has time T-1 (`decode.first_spike_time`).

    Args:
        spikes: [T, B, N].
        targets: [B], integer labels.
        ignore_label: see `accuracy`.

    >>> accuracy_temporal(jnp.array([[[0.0, 1.0]], [[1.0, 1.0]]]), jnp.array([1]))
    Array(1., dtype=float32)
    """
    return accuracy(-decode.first_spike_time(wide(spikes)), targets, ignore_label=ignore_label)


@checked
def firing_rate(spikes: Array, *, axis: int | tuple[int, ...] | None = None, dt: float | None = None) -> Array:
    """The mean firing rate, in spikes per step, or in Hz where `dt` is given: mean(s) / dt.

    Args:
        spikes: [T, B, ...] of any layer.
        axis: the axes to average: all (None), `(0, 1)` for each neuron's rate, `0` for each sample's as well.
        dt: the length of a step, in s. Leave it out for outputs that are rates already, such as those of
            `SpikingActivation`, whose spikes have the height 1 / dt.

    Raises:
        ValueError: if `dt` is not greater than 0.

    >>> spikes = jnp.array([[[0.0, 1.0]], [[1.0, 1.0]]])
    >>> firing_rate(spikes)
    Array(0.75, dtype=float32)
    >>> firing_rate(spikes, axis=(0, 1), dt=0.5)
    Array([1., 2.], dtype=float32)
    """
    check_dt(dt)
    check_axes(axis, spikes)
    check_not_empty("spikes", spikes)
    rate = jnp.mean(wide(spikes), axis=axis)
    return narrow(rate if dt is None else rate / dt, spikes.dtype)


@checked
def silent_fraction(spikes: Array) -> Array:
    """The fraction of neurons that never fire, at no step for no sample; `spikes` [T, B, ...].

    >>> silent_fraction(jnp.array([[[0.0, 1.0]], [[0.0, 0.0]]]))
    Array(0.5, dtype=float32)
    """
    return _fraction(spikes, spikes == 0)


@checked
def saturated_fraction(spikes: Array) -> Array:
    """The fraction of neurons that always fire, at every step for every sample; `spikes` [T, B, ...].

    >>> saturated_fraction(jnp.array([[[0.0, 1.0]], [[0.0, 1.0]]]))
    Array(0.5, dtype=float32)
    """
    return _fraction(spikes, spikes != 0)


def _fraction(spikes: Array, holds: Array) -> Array:
    """The fraction of neurons for which something holds at every step of every sample."""
    if spikes.ndim < 2:
        raise ValueError(f"spikes must be [T, B, ...], got shape {spikes.shape}: put time first, then batch")
    check_not_empty("spikes", spikes)
    return jnp.where(jnp.any(jnp.isnan(spikes)), jnp.nan, jnp.mean(jnp.all(holds, axis=(0, 1))))
