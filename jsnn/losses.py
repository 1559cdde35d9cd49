"""Losses of what a network put out over time, [T, B, N], against class labels [B]; each returns a scalar.

The names are snnTorch's (Eshraghian et al., "Training spiking neural networks using lessons from deep learning",
Proc. IEEE 2023), as plain functions; where a value differs from snnTorch 1.0.0, the docstring says so. The other
losses of snnTorch are in `jsnn.compat.snntorch_functional`.

    cross-entropy   cross_entropy (of any decoder's result), ce_rate_loss (per step), ce_count_loss
    mean square     mse_count_loss, mse_membrane_loss

All raise ValueError if outputs are not [T, B, N] or hold no samples, or if targets have another shape than stated, and
TypeError if targets are not integers or outputs not floating point.

One rule for labels, here and in `jsnn.metrics`: a label outside 0..N-1 is not a class, and does not count as one.
Labels are traced, so their values cannot be checked: such a label makes a loss and its gradient NaN (an accuracy counts
it as wrong). Samples labelled `ignore_label` are left out of the mean, whatever their outputs; a loss of none is NaN.

Recordings of different lengths are padded at the end. Given their `lengths`, [B] integers in 1..T, the loss is the mean
over the samples of the loss that each recording has alone: of sample b the steps t < lengths[b] count, T is lengths[b],
and what stands in the padding, of outputs or labels, changes no value and has gradient 0. Of losses of every step this
is the mean over samples of the mean over a sample's own steps, so a step has the weight 1 / lengths[b], among steps
that are labelled `ignore_label` too.

A loss is computed in float32 at least, and then has the dtype of the outputs (float32 for float16: it ends at 65504).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jsnn import decode, rounding
from jsnn.arguments import check_not_empty, checked
from jsnn.padding import counted_steps, fill_padding, mean_of_steps
from jsnn.rounding import narrow, wide
from jsnn.types import Array, Shape

__all__ = [
    "ce_count_loss",
    "ce_rate_loss",
    "cross_entropy",
    "mse_count_loss",
    "mse_membrane_loss",
]


@checked
def cross_entropy(
    logits: Array,
    targets: Array,
    *,
    weight: Array | None = None,
    ignore_label: int | None = None,
    lengths: Array | None = None,
) -> Array:
    """Return L = mean(-weight[target] * log softmax(logits)[target]).

    The mean divides by the number of samples, as in snnTorch, not by the sum of their weights, as in PyTorch.

    Args:
        logits: [..., N], what a decoder returned; log-probabilities will do as well.
        targets: [...], integer labels.
        weight: [N], the weight of each class; 1 if None.
        ignore_label: the label of samples that are left out, such as -1; None for none.
        lengths: [B], the steps of each sample that are not padding, where logits [T, B, N] have labels [T, B] of their
            own at every step; None for all T. Logits [B, N] are decoded, and `lengths` is for the decoder.

    Examples:
        >>> logits = decode.max_over_time(jnp.zeros((5, 2, 4)))
        >>> cross_entropy(logits, jnp.array([0, 3]))
        Array(1.3862944, dtype=float32)
    """
    check_logits(logits, targets, lengths)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits must be floating point, got {logits.dtype}: use .astype(jnp.float32)")
    labels = jnp.clip(wide_labels(targets), 0, logits.shape[-1] - 1)
    seen = without_ignored(fill_padding(logits, lengths), targets, ignore_label)
    losses = optax.softmax_cross_entropy_with_integer_labels(seen, labels)
    if weight is not None:
        if weight.shape != logits.shape[-1:]:
            raise ValueError(f"weight must be [N] = {logits.shape[-1:]}, one number a class, got shape {weight.shape}")
        losses *= wide(weight)[labels]
    return mean_over_samples(losses, targets, logits.shape[-1], ignore_label, logits.dtype, lengths)


@checked
def ce_rate_loss(
    outputs: Array,
    targets: Array,
    *,
    weight: Array | None = None,
    ignore_label: int | None = None,
    lengths: Array | None = None,
) -> Array:
    """Return the cross-entropy of every step, averaged: the right neuron shall fire always, the others never.

    L = (1/T) sum_t cross_entropy(outputs_t, targets). A scalar, where snnTorch returns shape (1,).

    Args:
        outputs: [T, B, N], spikes or membranes.
        targets: [B], integer labels.
        weight: [N], the weight of each class; 1 if None.
        ignore_label: the label of samples that are left out, such as -1; None for none.
        lengths: [B], the steps of each sample that are not padding; None for all T.

    Examples:
        >>> ce_rate_loss(jnp.zeros((5, 2, 4)), jnp.array([0, 3]))
        Array(1.3862944, dtype=float32)
    """
    decode.check_time_major(outputs)
    check_targets(targets, outputs.shape[1:2])
    every_step = jnp.broadcast_to(targets, outputs.shape[:2])
    return cross_entropy(outputs, every_step, weight=weight, ignore_label=ignore_label, lengths=lengths)


@checked
def ce_count_loss(
    spikes: Array,
    targets: Array,
    *,
    num_classes: int | None = None,
    weight: Array | None = None,
    ignore_label: int | None = None,
    lengths: Array | None = None,
) -> Array:
    """Return the cross-entropy of the spike counts: L = cross_entropy(sum_t s_t, targets).

    Args:
        spikes: [T, B, N].
        targets: [B], integer labels.
        num_classes: the number of classes, of which each has N / num_classes neighbouring neurons; None for one each.
        weight: [N] or [num_classes], the weight of each class; 1 if None.
        ignore_label: the label of samples that are left out, such as -1; None for none.
        lengths: [B], the steps of each sample that are not padding; None for all T.

    Examples:
        >>> ce_count_loss(jnp.ones((5, 2, 4)), jnp.array([0, 3]))
        Array(1.3862944, dtype=float32)
    """
    counts = decode.spike_count(wide(spikes), num_classes=num_classes, lengths=lengths)
    return narrow(cross_entropy(counts, targets, weight=weight, ignore_label=ignore_label), spikes.dtype)


@checked
def mse_count_loss(
    spikes: Array,
    targets: Array,
    *,
    correct_rate: float = 1.0,
    incorrect_rate: float = 0.0,
    num_classes: int | None = None,
    ignore_label: int | None = None,
    lengths: Array | None = None,
) -> Array:
    """Return the mean square of spike count minus wanted count, per step: L = mean((sum_t s_t - n)^2) / T.

    The wanted count n is T * rate * (neurons per class), rounded down to a whole number of spikes (100 * 0.29, which is
    28.999999999999996 in floating point, to 29); the rate is `correct_rate` for the labelled class and `incorrect_rate`
    for the others. After SLAYER (Shrestha and Orchard, NeurIPS 2018).

    Args:
        spikes: [T, B, N].
        targets: [B], integer labels.
        correct_rate: wanted spikes per step of the labelled class, in [0, 1].
        incorrect_rate: wanted spikes per step of every other class, in [0, 1].
        num_classes: the number of classes, of which each has N / num_classes neighbouring neurons; None for one each.
        ignore_label: the label of samples that are left out, such as -1; None for none.
        lengths: [B], the steps of each sample that are not padding; None for all T.

    Raises:
        ValueError: if a rate is outside [0, 1].

    Examples:
        >>> mse_count_loss(jnp.ones((5, 1, 2)), jnp.array([0]))  # counts (5, 5), wanted (5, 0)
        Array(2.5, dtype=float32)
    """
    for name, rate in (("correct_rate", correct_rate), ("incorrect_rate", incorrect_rate)):
        if not 0 <= rate <= 1:
            raise ValueError(f"{name} must lie in [0, 1] spikes per step, got {rate}")
    counts = decode.spike_count(wide(spikes), num_classes=num_classes, lengths=lengths)
    check_targets(targets, counts.shape[:1])
    num_steps, _, neurons = spikes.shape
    most = np.arange(num_steps + 1) * (neurons // counts.shape[-1])  # spikes of a class in so many steps
    steps = jnp.asarray(num_steps if lengths is None else lengths, jnp.int32)
    on, off = (
        jnp.asarray(rounding.floor(most * rate, rounding.relative_error(rate) * most), counts.dtype)[steps, None]
        for rate in (correct_rate, incorrect_rate)
    )
    counts = without_ignored(counts, targets, ignore_label)
    errors = jnp.mean((counts - per_class(targets, counts, on, off)) ** 2, axis=-1) / steps.astype(counts.dtype)
    return mean_over_samples(errors, targets, counts.shape[-1], ignore_label, spikes.dtype)


@checked
def mse_membrane_loss(
    membranes: Array,
    targets: Array,
    *,
    on_target: float = 1.0,
    off_target: float = 0.0,
    ignore_label: int | None = None,
    lengths: Array | None = None,
) -> Array:
    """Return the mean square of membrane minus wanted membrane, over all steps: L = mean((v - target)^2).

    A scalar, where snnTorch returns shape (1,). snnTorch 1.0.0 takes a negative `off_target` for 0.

    Args:
        membranes: [T, B, N].
        targets: [B], integer labels, or [T, B] where they change in time.
        on_target: wanted membrane of the labelled class.
        off_target: wanted membrane of every other class.
        ignore_label: the label of samples that are left out, such as -1; None for none.
        lengths: [B], the steps of each sample that are not padding; None for all T.

    Examples:
        >>> mse_membrane_loss(jnp.ones((5, 1, 2)), jnp.array([0]))
        Array(0.5, dtype=float32)
    """
    decode.check_time_major(membranes)
    check_targets(targets, membranes.shape[:2] if targets.ndim == 2 else membranes.shape[1:2])
    v = without_ignored(fill_padding(membranes, lengths), targets, ignore_label)
    errors = jnp.mean((v - per_class(targets, v, on_target, off_target)) ** 2, axis=-1)
    return mean_over_samples(errors, targets, v.shape[-1], ignore_label, membranes.dtype, lengths)


def check_logits(logits: Array, targets: Array, lengths: Array | None = None) -> None:
    """Raise ValueError or TypeError unless `targets` [...] are the labels of `logits` [..., N].

    With `lengths` the logits are [T, B, N].
    """
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must be [..., N], one number a class, got shape {logits.shape}")
    if logits.ndim == 3 and targets.shape == logits.shape[1:2]:
        raise ValueError(
            f"logits must be [B, N] for targets {targets.shape}, got {logits.shape}, [T, B, N]: decode the outputs "
            f"first, such as by jsnn.decode.max_over_time(outputs)"
        )
    if lengths is not None and logits.ndim != 3:
        raise ValueError(
            f"lengths go with logits of every step, [T, B, N], got shape {logits.shape}: give them to the decoder, "
            f"such as by jsnn.decode.max_over_time(outputs, lengths=lengths)"
        )
    check_targets(targets, logits.shape[:-1])


def check_targets(targets: Array, shape: Shape) -> None:
    """Raise ValueError or TypeError unless `targets` are integer labels of `shape`, and not empty."""
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        cure = "take jnp.argmax(rows, -1) of one-hot rows, labels.astype(int) of labels"
        raise TypeError(f"targets must be integer labels, got {targets.dtype}: {cure}")
    if targets.shape != shape:
        cure = "check that outputs are time-major, [T, B, N]"
        if targets.shape[:-1] == shape:
            cure = "take targets[..., 0]" if targets.shape[-1] == 1 else "take jnp.argmax(rows, -1) of one-hot rows"
        raise ValueError(f"targets must have shape {shape}, one label a sample, got {targets.shape}: {cure}")
    check_not_empty("targets", targets)


def wide_labels(targets: Array) -> Array:
    """Return labels in int32 at least: in uint8, class 256 would be class 0, and -1 would be 255."""
    return targets.astype(jnp.promote_types(targets.dtype, jnp.int32))


def is_counted(targets: Array, ignore_label: int | None) -> Array | None:
    """Return which labels are not ignored; None for all."""
    return None if ignore_label is None else wide_labels(targets) != ignore_label


def per_class(targets: Array, outputs: Array, on: Any, off: Any) -> Array:
    """Return `on` for the class in `targets` [...], `off` for the others, [..., N]; N and dtype are the outputs'."""
    labelled = jax.nn.one_hot(wide_labels(targets), outputs.shape[-1], dtype=bool)
    return jnp.where(labelled, jnp.asarray(on, outputs.dtype), jnp.asarray(off, outputs.dtype))


def without_ignored(outputs: Array, targets: Array, ignore_label: int | None) -> Array:
    """Return the outputs [..., N] in float32 at least, 0 where the label in `targets` [...] is ignored, even if NaN."""
    counted = is_counted(targets, ignore_label)
    return wide(outputs) if counted is None else jnp.where(counted[..., None], wide(outputs), 0)


def mean_over_samples(
    errors: Array,
    targets: Array,
    num_classes: int,
    ignore_label: int | None,
    dtype: Any,
    lengths: Array | None = None,
) -> Array:
    """Return the mean of errors [..., *targets.shape] over all samples but the ignored ones.

    With `lengths`, errors are [T, B], and the mean is over the samples' own means. NaN if a label is not a class.
    """
    labels, counted = wide_labels(targets), is_counted(targets, ignore_label)
    is_wrong = (labels < 0) | (labels >= num_classes)
    # of samples that count: a NaN that is left out again would be found by jax_debug_nans, and by the weights' gradient
    is_wrong = is_wrong if counted is None else is_wrong & counted
    is_wrong = is_wrong if lengths is None else is_wrong & counted_steps(lengths, errors)
    errors *= jnp.where(is_wrong, jnp.nan, 1)  # which the gradient passes, too
    return narrow(mean_of_steps(errors, counted, lengths), dtype)
