"""snnTorch's losses, accuracies and targets that have no counterpart of their own in jsnn, with its options.

    loss       ce_max_membrane_loss, ce_temporal_loss, mse_temporal_loss
    accuracy   accuracy_rate, accuracy_max_membrane, accuracy_temporal
    targets    targets_rate, targets_latency, targets_convert: what the output neurons shall do over time

New work decodes, and takes one loss for all: `cross_entropy(decode.max_over_time(membranes), labels)` is
`ce_max_membrane_loss`, `accuracy(decode.spike_count(spikes), labels)` is `accuracy_rate`. For losses of membranes or
spikes step by step take `targets_rate` or `targets_latency` [T, B, N]; for losses of counts their sum over time; for
losses of spike times `spikes_to_times(targets_latency(...))` [B, N]. snnTorch 1.0.0 takes a negative `off_target` of
targets for 0; here it is what was given.

Losses and accuracies take the `lengths` of padded recordings as those of `jsnn.losses` do; T is a sample's own length.
"""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jsnn import decode
from jsnn.arguments import check_memory, check_not_empty, checked
from jsnn.encode.checks import check_at_least, check_first_spike_time, check_probability, extremes
from jsnn.encode.latencies import latency
from jsnn.encode.regular import regular_spikes
from jsnn.encode.times import interpolate_spikes
from jsnn.losses import check_targets, cross_entropy, mean_over_samples, per_class, wide_labels, without_ignored
from jsnn.metrics import accuracy
from jsnn.rounding import narrow, wide
from jsnn.types import Array

__all__ = [
    "accuracy_max_membrane",
    "accuracy_rate",
    "accuracy_temporal",
    "ce_max_membrane_loss",
    "ce_temporal_loss",
    "mse_temporal_loss",
    "targets_convert",
    "targets_latency",
    "targets_rate",
]


@checked
def ce_max_membrane_loss(
    membranes: Array,
    targets: Array,
    *,
    weight: Array | None = None,
    ignore_label: int | None = None,
    lengths: Array | None = None,
) -> Array:
    """Return the cross-entropy of the largest membrane potentials: L = cross_entropy(max_t v_t, targets).

    Args:
        membranes: [T, B, N].
        targets: [B], integer labels.
        weight: [N], the weight of each class; 1 if None.
        ignore_label: the label of samples that are left out, such as -1; None for none.
        lengths: [B], the steps of each sample that are not padding; None for all T.

    Examples:
        >>> ce_max_membrane_loss(jnp.zeros((5, 2, 4)), jnp.array([0, 3]))
        Array(1.3862944, dtype=float32)
    """
    potentials = decode.max_over_time(membranes, lengths=lengths)
    return cross_entropy(potentials, targets, weight=weight, ignore_label=ignore_label)


@checked
def ce_temporal_loss(
    spikes: Array,
    targets: Array,
    *,
    inverse: Literal["negate", "reciprocal"] = "negate",
    weight: Array | None = None,
    ignore_label: int | None = None,
    lengths: Array | None = None,
) -> Array:
    """Return the cross-entropy of inverted first spike times t: the right neuron shall fire first.

    L = cross_entropy(-t, targets) for "negate", cross_entropy(1 / (t + 1), targets) for "reciprocal". Times
    and their gradient are those of `decode.first_spike_time`. With a `weight`, the mean divides by the sum of the
    samples' weights, as in snnTorch, which does so in this loss alone.

    Args:
        spikes: [T, B, N].
        targets: [B], integer labels.
        inverse: how an early time becomes a large logit.
        weight: [N], the weight of each class; 1 if None.
        ignore_label: the label of samples that are left out, such as -1; None for none.
        lengths: [B], the steps of each sample that are not padding; None for all T.

    Raises:
        ValueError: if `inverse` is neither "negate" nor "reciprocal".

    Examples:
        >>> ce_temporal_loss(jnp.ones((5, 2, 4)), jnp.array([0, 3]))
        Array(1.3862944, dtype=float32)
    """
    times = decode.first_spike_time(wide(spikes), lengths=lengths)
    logits = -times if inverse == "negate" else 1 / (times + 1)
    loss = cross_entropy(logits, targets, weight=weight, ignore_label=ignore_label)
    if weight is not None:
        weights = wide(weight)[wide_labels(targets)]
        loss /= mean_over_samples(weights, targets, logits.shape[-1], ignore_label, logits.dtype)
    return narrow(loss, spikes.dtype)


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
    lengths: Array | None = None,
) -> Array:
    """Return the mean square of spike time minus wanted time, in units of T: L = mean(((t - target) / T)^2).

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
        lengths: [B], the steps of each sample that are not padding; None for all T.

    Raises:
        ValueError: if `on_target` or `off_target` is outside [-T, T-1], if they differ in length, if
            `tolerance` is negative, or if there are several wanted times without `multi_spike`.

    Examples:
        >>> spikes = jnp.array([[[0.0, 1.0]], [[1.0, 0.0]]])  # times (1, 0), wanted (0, 1)
        >>> mse_temporal_loss(spikes, jnp.array([0]))
        Array(0.25, dtype=float32)
    """
    decode.check_time_major(spikes, lengths)
    num_steps = spikes.shape[0]
    if tolerance < 0:
        raise ValueError(f"tolerance must be >= 0 steps, got {tolerance}")
    seen = wide(spikes)
    if target_is_time:
        if ignore_label is not None:
            raise ValueError(f"ignore_label goes with labels, not with times (target_is_time), got {ignore_label}")
        check_not_empty("targets", targets)
        wanted = jnp.asarray(targets, seen.dtype)
    else:
        check_targets(targets, spikes.shape[1:2])
        on, off = _check_times(on_target, off_target, num_steps)
        seen = without_ignored(seen, targets, ignore_label)
        wanted = per_class(targets, seen, on[..., None, None], off[..., None, None])
    if wanted.ndim != 2 + multi_spike or wanted.shape[-2:] != spikes.shape[1:]:
        expected = "[F, B, N]" if multi_spike else "[B, N]"
        raise ValueError(
            f"wanted times must be {expected} with [B, N] = {spikes.shape[1:]}, got shape {wanted.shape}: "
            "set multi_spike=True exactly where each neuron has several wanted times"
        )
    steps = num_steps if lengths is None else lengths[:, None]
    wanted = jnp.where(wanted < 0, steps + wanted, wanted).reshape(-1, *spikes.shape[1:])
    error = decode.spike_times(seen, len(wanted), lengths=lengths) - wanted  # [F, B, N]
    squares = (jnp.where(jnp.abs(error) < tolerance, 0, error) / steps) ** 2
    if target_is_time:
        return narrow(jnp.mean(squares), spikes.dtype)
    return mean_over_samples(jnp.mean(squares, axis=-1), targets, spikes.shape[-1], ignore_label, spikes.dtype)


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


@checked
def accuracy_rate(
    spikes: Array,
    targets: Array,
    *,
    num_classes: int | None = None,
    ignore_label: int | None = None,
    lengths: Array | None = None,
) -> Array:
    """Return how often the labelled neuron (or population) fires most; options as in `decode.spike_count`.

    Args:
        spikes: [T, B, N].
        targets: [B], integer labels.
        num_classes: the number of classes, of which each has N / num_classes neighbouring neurons; None for one each.
        ignore_label: see `accuracy`.
        lengths: [B], the steps of each sample that are not padding; None for all T.

    Examples:
        >>> accuracy_rate(jnp.array([[[0.0, 1.0]], [[1.0, 1.0]]]), jnp.array([1]))
        Array(1., dtype=float32)
    """
    counts = decode.spike_count(wide(spikes), num_classes=num_classes, lengths=lengths)
    return accuracy(counts, targets, ignore_label=ignore_label)


@checked
def accuracy_max_membrane(
    membranes: Array, targets: Array, *, ignore_label: int | None = None, lengths: Array | None = None
) -> Array:
    """Return how often the labelled neuron has the largest membrane of all steps.

    Args:
        membranes: [T, B, N].
        targets: [B], integer labels.
        ignore_label: see `accuracy`.
        lengths: [B], the steps of each sample that are not padding; None for all T.

    Examples:
        >>> accuracy_max_membrane(jnp.array([[[0.0, 0.7]], [[0.9, 0.1]]]), jnp.array([1]))
        Array(0., dtype=float32)
    """
    return accuracy(decode.max_over_time(membranes, lengths=lengths), targets, ignore_label=ignore_label)


@checked
def accuracy_temporal(
    spikes: Array, targets: Array, *, ignore_label: int | None = None, lengths: Array | None = None
) -> Array:
    """Return how often the labelled neuron fires first. A silent neuron has time T-1 (`decode.first_spike_time`).

    Args:
        spikes: [T, B, N].
        targets: [B], integer labels.
        ignore_label: see `accuracy`.
        lengths: [B], the steps of each sample that are not padding; None for all T.

    Examples:
        >>> accuracy_temporal(jnp.array([[[0.0, 1.0]], [[1.0, 1.0]]]), jnp.array([1]))
        Array(1., dtype=float32)
    """
    return accuracy(-decode.first_spike_time(wide(spikes), lengths=lengths), targets, ignore_label=ignore_label)


@checked
def targets_rate(
    targets: Array,
    num_classes: int,
    num_steps: int | None = None,
    *,
    first_spike_time: int = 0,
    correct_rate: float = 1.0,
    incorrect_rate: float = 0.0,
    on_target: float = 1.0,
    off_target: float = 0.0,
    interpolate: bool = False,
) -> Array:
    """Return regular trains at one rate for the right class, at another for the others; [B] -> [T, B, N].

    With the default rates the right neuron is on at every step: one-hot labels in time. These are the same at every
    step, and come without time where `num_steps` is None, [B, N].

        y = on_target where the `regular_spikes` of the class's rate spike, else off_target

    Source: snnTorch's `spikegen.targets_rate`, which for one-hot labels has no time axis even if it knows T, and
    raises for other rates. For random trains see `random_spikes`, whose rates are
    `targets_rate(targets, N, on_target=..., off_target=...)` in Hz.

    Args:
        targets: class labels, integers of any shape.
        num_classes: N.
        num_steps: T.
        first_spike_time: the step of the first spikes.
        correct_rate: of the right class, spikes per step, in [0, 1].
        incorrect_rate: of the others, in [0, correct_rate].
        on_target: the target at spikes.
        off_target: the target elsewhere.
        interpolate: in place of the trains, ramps that rise to each spike, see `interpolate_spikes`.

    Raises:
        TypeError: if `targets` are not integers.
        ValueError: if a label, where known, lies outside 0..N-1; if a rate lies outside its range; if `num_steps` is
            less than 1, or None where rates or `first_spike_time` need it; if `first_spike_time` is negative or not
            below `num_steps`; if ramps have `on_target` below `off_target`.

    Examples:
        >>> targets_rate(jnp.array([2, 0]), 3).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
        >>> targets_rate(jnp.array([2, 0]), 3, 4, correct_rate=0.5)[:, 0].tolist()
        [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    is_right = _one_hot(targets, num_classes) > 0
    check_probability("correct_rate", correct_rate)
    check_probability("incorrect_rate", incorrect_rate)
    if incorrect_rate > correct_rate:
        raise ValueError(f"incorrect_rate must be <= correct_rate = {correct_rate}, got {incorrect_rate}")
    check_first_spike_time(first_spike_time, num_steps)
    check_memory("the targets", (num_steps or 1, *is_right.shape))
    if num_steps is None:
        if (correct_rate, incorrect_rate, first_spike_time) != (1, 0, 0):
            raise ValueError("num_steps must be given for these rates and first_spike_time, got None")
        return _levels(is_right, on_target, off_target)

    def train(rate: float) -> Array:
        spikes = regular_spikes(rate, num_steps=num_steps, first_spike_time=first_spike_time)
        if interpolate:
            spikes = interpolate_spikes(spikes, on_target=on_target, off_target=off_target)
        else:
            spikes = _levels(spikes, on_target, off_target)
        return spikes.reshape(-1, *[1] * is_right.ndim)

    return jnp.where(is_right, train(correct_rate), train(incorrect_rate))


@checked
def targets_latency(
    targets: Array,
    num_classes: int,
    num_steps: int | None,
    *,
    on_target: float = 1.0,
    off_target: float = 0.0,
    interpolate: bool = False,
    **options: Any,
) -> Array:
    """Return one spike a neuron, early for the right class and late or never for the others; [B] -> [T, B, N].

        y = on_target where `latency` of the one-hot labels spikes, else off_target

    Source: snnTorch's `spikegen.targets_latency`.

    Args:
        targets: class labels, integers of any shape.
        num_classes: N.
        num_steps: T.
        on_target: the target at spikes.
        off_target: the target elsewhere.
        interpolate: ramps that rise to each spike, see `interpolate_spikes`.
        options: those of `latency`: `normalize=True` lets the other classes spike at the last step, `clip=True` never.

    Raises:
        TypeError: if `targets` are not integers.
        ValueError: if a label, where known, lies outside 0..N-1; if ramps have `on_target` below `off_target`; for
            what `latency` refuses.

    Examples:
        >>> targets_latency(jnp.array([2, 0]), 3, 4, normalize=True)[:, 0].tolist()
        [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]]
    """
    spikes = latency(_one_hot(targets, num_classes), num_steps=num_steps, **options)
    if interpolate:
        return interpolate_spikes(spikes, on_target=on_target, off_target=off_target)
    return _levels(spikes, on_target, off_target)


@checked
def targets_convert(
    targets: Array,
    num_classes: int,
    code: Literal["rate", "latency"] = "rate",
    num_steps: int | None = None,
    **options: Any,
) -> Array:
    """Return `targets_rate` or `targets_latency`, by name, with its options; [B] -> [T, B, N].

    Source: snnTorch's `spikegen.targets_convert`.

    Raises:
        ValueError: if `code` is neither "rate" nor "latency", and for what the two refuse.

    Examples:
        >>> targets_convert(jnp.array([1]), 2, "latency", 3, normalize=True).tolist()
        [[[0.0, 1.0]], [[0.0, 0.0]], [[1.0, 0.0]]]
    """
    if code == "rate":
        return targets_rate(targets, num_classes, num_steps, **options)
    return targets_latency(targets, num_classes, num_steps, **options)


def _levels(spikes: Array, on_target: float, off_target: float) -> Array:
    return jnp.where(spikes != 0, jnp.float32(on_target), jnp.float32(off_target))


def _one_hot(targets: Array, num_classes: int) -> Array:
    check_at_least("num_classes", num_classes, 1)
    check_memory("the one-hot labels", (*targets.shape, num_classes))
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise TypeError(f"targets must be integer labels, got {targets.dtype}: of one-hot labels take the argmax")
    check_not_empty("targets", targets)
    found = extremes(targets)
    if found is not None and not (found[0] >= 0 and found[1] < num_classes):
        raise ValueError(f"targets must lie in 0..{num_classes - 1}, got {found[0]:.0f} to {found[1]:.0f}")
    return jax.nn.one_hot(wide_labels(targets), num_classes, dtype=jnp.float32)
