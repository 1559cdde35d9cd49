"""Targets: what the output neurons shall do over time, made of class labels.

For losses of membranes or spikes step by step take `targets_rate` or `targets_latency` [T, B, N]; for losses of counts
their sum over time; for losses of spike times `spikes_to_times(targets_latency(...))` [B, N].
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jsnn import rounding
from jsnn.arguments import check_memory, check_not_empty, checked
from jsnn.encode.checks import check_at_least, check_first_spike_time, check_num_steps, check_probability, extremes
from jsnn.encode.latency import latency
from jsnn.encode.times import interpolate_spikes
from jsnn.types import Array


@checked
def regular_spikes(rate: float, num_steps: int, *, first_spike_time: int = 0) -> Array:
    """A train that fires regularly; -> [T], float32.

        spikes at floor(first_spike_time + k / rate),  k = 0, 1, 2, ...

    A time that lies below a step by no more than rounding, 8 eps of the rate's dtype, relative, counts as that step.

    Source: snnTorch's `target_rate_code`. For trains that fire at random see `random_spikes`.

    Args:
        rate: spikes per step, in [0, 1].
        num_steps: T.
        first_spike_time: the step of the first spike.

    Raises:
        ValueError: if `rate` lies outside [0, 1], `num_steps` is less than 1, or `first_spike_time` is negative or
            not below it.

    >>> regular_spikes(0.3, 8).tolist()
    [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    """
    check_probability("rate", rate)
    check_num_steps(num_steps)
    check_first_spike_time(first_spike_time, num_steps)
    spikes = np.zeros(num_steps, np.float32)
    if rate > 0:
        with np.errstate(over="ignore"):
            after = np.minimum(np.arange(num_steps) / np.float64(rate), num_steps)
        steps = first_spike_time + rounding.floor(after, rounding.relative_error(rate) * np.maximum(1, after))
        spikes[steps[steps < num_steps]] = 1
    return jnp.asarray(spikes)


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
    """Regular trains at one rate for the right class, at another for the others; [B] -> [T, B, N].

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
        spikes = regular_spikes(rate, num_steps, first_spike_time=first_spike_time)
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
    """One spike a neuron, early for the right class and late or never for the others; [B] -> [T, B, N].

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

    >>> targets_latency(jnp.array([2, 0]), 3, 4, normalize=True)[:, 0].tolist()
    [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]]
    """
    spikes = latency(_one_hot(targets, num_classes), num_steps, **options)
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
    """`targets_rate` or `targets_latency`, by name, with its options; [B] -> [T, B, N].

    Source: snnTorch's `spikegen.targets_convert`.

    Raises:
        ValueError: if `code` is neither "rate" nor "latency", and for what the two refuse.

    >>> targets_convert(jnp.array([1]), 2, "latency", 3, normalize=True).tolist()
    [[[0.0, 1.0]], [[0.0, 0.0]], [[1.0, 0.0]]]
    """
    if code == "rate":
        return targets_rate(targets, num_classes, num_steps, **options)
    if code == "latency":
        return targets_latency(targets, num_classes, num_steps, **options)
    raise ValueError(f"code must be 'rate' or 'latency', got {code!r}")


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
    return jax.nn.one_hot(targets, num_classes, dtype=jnp.float32)
