"""Losses of what a network put out over time, [T, B, N], against class labels [B]; each returns a scalar.

The names and options are snnTorch's (Eshraghian et al., "Training spiking neural networks using lessons from
deep learning", Proc. IEEE 2023), as plain functions; where a value differs from snnTorch 1.0.0, the docstring
says so.

    cross-entropy   cross_entropy (of any decoder's result), ce_rate_loss (per step), ce_count_loss,
                    ce_max_membrane_loss, ce_temporal_loss
    mean square     mse_count_loss, mse_membrane_loss, mse_temporal_loss

All raise ValueError if outputs are not [T, B, N] or hold no samples, or if targets have another shape than stated, and
TypeError if targets are not integers or outputs not floating point.

One rule for labels, here and in `jsnn.metrics`: a label outside 0..N-1 is no class, and never counts as another. Labels
are traced, so their values cannot be checked: such a label makes a loss and its gradient NaN (an accuracy counts it as
wrong). Samples labelled `ignore_label` are left out of the mean, whatever their outputs; a loss of none is NaN.

A loss is computed in float32 at least, and then has the dtype of the outputs (float32 for float16: it ends at 65504).
"""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jsnn import decode, rounding
from jsnn.arguments import check_not_empty, checked
from jsnn.rounding import narrow, wide
from jsnn.types import Array, Shape

__all__ = [
    "ce_count_loss",
    "ce_max_membrane_loss",
    "ce_rate_loss",
    "ce_temporal_loss",
    "cross_entropy",
    "mse_count_loss",
    "mse_membrane_loss",
    "mse_temporal_loss",
]


@checked
def cross_entropy(
    logits: Array, targets: Array, *, weight: Array | None = None, ignore_label: int | None = None
) -> Array:
    """L = mean(-weight[target] * log softmax(logits)[target]).

    The mean divides by the number of samples, as in snnTorch, not by the sum of their weights, as in PyTorch.

    Args:
        logits: [..., N], what a decoder returned; log-probabilities will do as well.
        targets: [...], integer labels.
        weight: [N], the weight of each class; 1 if None.
        ignore_label: the label of samples that are left out, such as -1; None for none.

    >>> logits = decode.max_over_time(jnp.zeros((5, 2, 4)))
    >>> cross_entropy(logits, jnp.array([0, 3]))
    Array(1.3862944, dtype=float32)
    """
    check_logits(logits, targets)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits must be floating point, got {logits.dtype}: use .astype(jnp.float32)")
    labels = jnp.clip(targets.astype(jnp.promote_types(targets.dtype, jnp.int32)), 0, logits.shape[-1] - 1)
    losses = optax.softmax_cross_entropy_with_integer_labels(_without(logits, targets, ignore_label), labels)
    if weight is not None:
        if weight.shape != logits.shape[-1:]:
            raise ValueError(f"weight must be [N] = {logits.shape[-1:]}, one number a class, got shape {weight.shape}")
        losses *= wide(weight)[labels]
    return _mean(losses, targets, logits.shape[-1], ignore_label, logits.dtype)


@checked
def ce_rate_loss(
    outputs: Array, targets: Array, *, weight: Array | None = None, ignore_label: int | None = None
) -> Array:
    """The cross-entropy of every step, averaged: the right neuron shall fire always, the others never.

    L = (1/T) sum_t cross_entropy(outputs_t, targets). A scalar, where snnTorch returns shape (1,).

    Args:
        outputs: [T, B, N], spikes or membranes.
        targets: [B], integer labels.
        weight: [N], the weight of each class; 1 if None.
        ignore_label: the label of samples that are left out, such as -1; None for none.

    >>> ce_rate_loss(jnp.zeros((5, 2, 4)), jnp.array([0, 3]))
    Array(1.3862944, dtype=float32)
    """
    decode.check_time_major(outputs)
    check_targets(targets, outputs.shape[1:2])
    every_step = jnp.broadcast_to(targets, outputs.shape[:2])
    return cross_entropy(outputs, every_step, weight=weight, ignore_label=ignore_label)


@checked
def ce_count_loss(
    spikes: Array,
    targets: Array,
    *,
    population_code: bool = False,
    num_classes: int | None = None,
    weight: Array | None = None,
    ignore_label: int | None = None,
) -> Array:
    """The cross-entropy of the spike counts: L = cross_entropy(sum_t s_t, targets).

    Args:
        spikes: [T, B, N].
        targets: [B], integer labels.
        population_code: whether N / num_classes neighbouring neurons stand for each class.
        num_classes: the number of classes; only for a population code.
        weight: [N] or [num_classes], the weight of each class; 1 if None.
        ignore_label: the label of samples that are left out, such as -1; None for none.

    >>> ce_count_loss(jnp.ones((5, 2, 4)), jnp.array([0, 3]))
    Array(1.3862944, dtype=float32)
    """
    counts = decode.spike_count(wide(spikes), population_code=population_code, num_classes=num_classes)
    return narrow(cross_entropy(counts, targets, weight=weight, ignore_label=ignore_label), spikes.dtype)


@checked
def ce_max_membrane_loss(
    membranes: Array, targets: Array, *, weight: Array | None = None, ignore_label: int | None = None
) -> Array:
    """The cross-entropy of the largest membrane potentials: L = cross_entropy(max_t v_t, targets).

    Args:
        membranes: [T, B, N].
        targets: [B], integer labels.
        weight: [N], the weight of each class; 1 if None.
        ignore_label: the label of samples that are left out, such as -1; None for none.

    >>> ce_max_membrane_loss(jnp.zeros((5, 2, 4)), jnp.array([0, 3]))
    Array(1.3862944, dtype=float32)
    """
    return cross_entropy(decode.max_over_time(membranes), targets, weight=weight, ignore_label=ignore_label)


@checked
def ce_temporal_loss(
    spikes: Array,
    targets: Array,
    *,
    inverse: Literal["negate", "reciprocal"] = "negate",
    weight: Array | None = None,
    ignore_label: int | None = None,
) -> Array:
    """The cross-entropy of inverted first spike times t: the right neuron shall fire first.

    L = cross_entropy(-t, targets) for "negate", cross_entropy(1 / (t + 1), targets) for "reciprocal". Times
    and their gradient are those of `decode.first_spike_time`.

    Args:
        spikes: [T, B, N].
        targets: [B], integer labels.
        inverse: how an early time becomes a large logit.
        weight: [N], the weight of each class; 1 if None.
        ignore_label: the label of samples that are left out, such as -1; None for none.

    Raises:
        ValueError: if `inverse` is neither "negate" nor "reciprocal".

    >>> ce_temporal_loss(jnp.ones((5, 2, 4)), jnp.array([0, 3]))
    Array(1.3862944, dtype=float32)
    """
    if inverse not in ("negate", "reciprocal"):
        raise ValueError(f'inverse must be "negate" or "reciprocal", got {inverse!r}')
    times = decode.first_spike_time(wide(spikes))
    logits = -times if inverse == "negate" else 1 / (times + 1)
    return narrow(cross_entropy(logits, targets, weight=weight, ignore_label=ignore_label), spikes.dtype)


@checked
def mse_count_loss(
    spikes: Array,
    targets: Array,
    *,
    correct_rate: float = 1.0,
    incorrect_rate: float = 0.0,
    population_code: bool = False,
    num_classes: int | None = None,
    ignore_label: int | None = None,
) -> Array:
    """The mean square of spike count minus wanted count, per step: L = mean((sum_t s_t - n)^2) / T.

    The wanted count n is T * rate * (neurons per class), rounded down to a whole number of spikes (100 * 0.29, which is
    28.999999999999996 in floating point, to 29); the rate is `correct_rate` for the labelled class and `incorrect_rate`
    for the others. After SLAYER (Shrestha and Orchard, NeurIPS 2018).

    Args:
        spikes: [T, B, N].
        targets: [B], integer labels.
        correct_rate: wanted spikes per step of the labelled class, in [0, 1].
        incorrect_rate: wanted spikes per step of every other class, in [0, 1].
        population_code: whether N / num_classes neighbouring neurons stand for each class.
        num_classes: the number of classes; only for a population code.
        ignore_label: the label of samples that are left out, such as -1; None for none.

    Raises:
        ValueError: if a rate is outside [0, 1].

    >>> mse_count_loss(jnp.ones((5, 1, 2)), jnp.array([0]))  # counts (5, 5), wanted (5, 0)
    Array(2.5, dtype=float32)
    """
    for name, rate in (("correct_rate", correct_rate), ("incorrect_rate", incorrect_rate)):
        if not 0 <= rate <= 1:
            raise ValueError(f"{name} must lie in [0, 1] spikes per step, got {rate}")
    counts = decode.spike_count(wide(spikes), population_code=population_code, num_classes=num_classes)
    check_targets(targets, counts.shape[:1])
    num_steps, _, neurons = spikes.shape
    most = num_steps * (neurons // counts.shape[-1])  # spikes of a class
    on, off = (
        rounding.floor(most * rate, rounding.relative_error(rate) * most) for rate in (correct_rate, incorrect_rate)
    )
    counts = _without(counts, targets, ignore_label)
    errors = jnp.mean((counts - _per_class(targets, counts, on, off)) ** 2, axis=-1) / num_steps
    return _mean(errors, targets, counts.shape[-1], ignore_label, spikes.dtype)


@checked
def mse_membrane_loss(
    membranes: Array,
    targets: Array,
    *,
    on_target: float = 1.0,
    off_target: float = 0.0,
    ignore_label: int | None = None,
) -> Array:
    """The mean square of membrane minus wanted membrane, over all steps: L = mean((v - target)^2).

    A scalar, where snnTorch returns shape (1,).

    Args:
        membranes: [T, B, N].
        targets: [B], integer labels, or [T, B] where they change in time.
        on_target: wanted membrane of the labelled class.
        off_target: wanted membrane of every other class.
        ignore_label: the label of samples that are left out, such as -1; None for none.

    >>> mse_membrane_loss(jnp.ones((5, 1, 2)), jnp.array([0]))
    Array(0.5, dtype=float32)
    """
    decode.check_time_major(membranes)
    check_targets(targets, membranes.shape[:2] if targets.ndim == 2 else membranes.shape[1:2])
    v = _without(membranes, targets, ignore_label)
    errors = jnp.mean((v - _per_class(targets, v, on_target, off_target)) ** 2, axis=-1)
    return _mean(errors, targets, v.shape[-1], ignore_label, membranes.dtype)


@checked
def mse_temporal_loss(
    spikes: Array,
    targets: Array,
    *,
    target_is_time: bool = False,
    on_target: int | Sequence[int] = 0,
    off_target: int | Sequence[int] = -1,
    tolerance: float = 0.0,
    multi_spike: bool = False,
    ignore_label: int | None = None,
) -> Array:
    """The mean square of spike time minus wanted time, in units of T: L = mean(((t - target) / T)^2).

    Times and their gradient are those of `decode.spike_times`: steps from 0, T-1 where a spike never comes.
    Wanted times below 0 count from the end: -1 is the last step. Errors smaller than `tolerance` count as 0.

    Two faults of snnTorch 1.0.0 are not here. With its default `on_target` and `off_target` every wanted time
    is 0; here it is 0 for the labelled class and T-1 for the others. And with `multi_spike` it erases a spike
    once found from all other neurons as well, and so misses later ones; here every neuron keeps its own.

    Args:
        spikes: [T, B, N].
        targets: [B], integer labels; or, with `target_is_time`, the wanted times in steps: [B, N], or
            [F, B, N] for the first F spikes with `multi_spike`.
        target_is_time: whether `targets` holds times.
        on_target: wanted time of the labelled class; F times in a sequence with `multi_spike`.
        off_target: wanted time of every other class; F times in a sequence with `multi_spike`.
        tolerance: in steps.
        multi_spike: whether each neuron has several wanted times.
        ignore_label: the label of samples that are left out, such as -1; None for none.

    Raises:
        ValueError: if `on_target` or `off_target` is outside [-T, T-1], if they differ in length, if
            `tolerance` is negative, or if there are several wanted times without `multi_spike`.

    >>> spikes = jnp.array([[[0.0, 1.0]], [[1.0, 0.0]]])  # times (1, 0), wanted (0, 1)
    >>> mse_temporal_loss(spikes, jnp.array([0]))
    Array(0.25, dtype=float32)
    """
    decode.check_time_major(spikes)
    num_steps = spikes.shape[0]
    if tolerance < 0:
        raise ValueError(f"tolerance must be >= 0 steps, got {tolerance}")
    seen = wide(spikes)
    if target_is_time:
        if ignore_label is not None:
            raise ValueError(f"ignore_label goes with labels, not with times (target_is_time), got {ignore_label}")
        wanted = jnp.asarray(targets, seen.dtype)
    else:
        check_targets(targets, spikes.shape[1:2])
        on, off = _check_times(on_target, off_target, num_steps)
        seen = _without(seen, targets, ignore_label)
        wanted = _per_class(targets, seen, on[..., None, None], off[..., None, None])
    if wanted.ndim != 2 + multi_spike or wanted.shape[-2:] != spikes.shape[1:]:
        expected = "[F, B, N]" if multi_spike else "[B, N]"
        raise ValueError(
            f"wanted times must be {expected} with [B, N] = {spikes.shape[1:]}, got shape {wanted.shape}: "
            "set multi_spike=True exactly where each neuron has several wanted times"
        )
    wanted = jnp.where(wanted < 0, num_steps + wanted, wanted).reshape(-1, *spikes.shape[1:])
    error = decode.spike_times(seen, len(wanted)) - wanted  # [F, B, N]
    squares = (jnp.where(jnp.abs(error) < tolerance, 0, error) / num_steps) ** 2
    if target_is_time:
        return narrow(jnp.mean(squares), spikes.dtype)
    return _mean(jnp.mean(squares, axis=-1), targets, spikes.shape[-1], ignore_label, spikes.dtype)


def check_logits(logits: Array, targets: Array) -> None:
    """Raise ValueError or TypeError unless `targets` [...] are the labels of `logits` [..., N]."""
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must be [..., N], one number a class, got shape {logits.shape}")
    if logits.ndim == 3 and targets.shape == logits.shape[1:2]:
        raise ValueError(
            f"logits must be [B, N] for targets {targets.shape}, got {logits.shape}, [T, B, N]: decode the outputs "
            f"first, such as by jsnn.decode.max_over_time(outputs)"
        )
    check_targets(targets, logits.shape[:-1])


def check_targets(targets: Array, shape: Shape) -> None:
    """Raise ValueError or TypeError unless `targets` are integer labels of `shape`, and not empty."""
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise TypeError(
            f"targets must be integer labels, got {targets.dtype}: take jnp.argmax(rows, -1) of one-hot rows"
        )
    if targets.shape != shape:
        raise ValueError(
            f"targets must have shape {shape}, one label a sample, got {targets.shape}: "
            "check that outputs are time-major, [T, B, N]"
        )
    check_not_empty("targets", targets)


def _per_class(targets: Array, outputs: Array, on: float | np.ndarray, off: float | np.ndarray) -> Array:
    """[..., N]: `on` for the class in `targets` [...], `off` for the others; N and dtype are those of `outputs`."""
    labelled = jax.nn.one_hot(targets, outputs.shape[-1], dtype=bool)
    return jnp.where(labelled, jnp.asarray(on, outputs.dtype), jnp.asarray(off, outputs.dtype))


def _without(outputs: Array, targets: Array, ignore_label: int | None) -> Array:
    """The outputs [..., N] in float32 at least, 0 where the label in `targets` [...] is to be ignored, be they NaN."""
    return wide(outputs) if ignore_label is None else jnp.where((targets != ignore_label)[..., None], wide(outputs), 0)


def _mean(errors: Array, targets: Array, num_classes: int, ignore_label: int | None, dtype: Any) -> Array:
    """The mean of errors [..., *targets.shape] over all samples but the ignored ones; NaN if a label is no class."""
    labels = targets.astype(jnp.promote_types(targets.dtype, jnp.int32))
    errors *= jnp.where((labels >= 0) & (labels < num_classes), 1, jnp.nan)  # which the gradient passes, too
    if ignore_label is None:
        return narrow(jnp.mean(errors), dtype)
    counted = jnp.broadcast_to(labels != ignore_label, errors.shape)
    return narrow(jnp.sum(jnp.where(counted, errors, 0)) / jnp.sum(counted), dtype)


def _check_times(
    on_target: int | Sequence[int], off_target: int | Sequence[int], num_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    on, off = np.asarray(on_target), np.asarray(off_target)
    if on.shape != off.shape:
        raise ValueError(f"on_target and off_target must have the same length, got {on_target!r} and {off_target!r}")
    for name, times in (("on_target", on), ("off_target", off)):
        if ((times < -num_steps) | (times >= num_steps)).any():
            raise ValueError(
                f"{name} must lie in [-T, T-1] = [{-num_steps}, {num_steps - 1}] steps, got {times.tolist()}"
            )
    return on, off
