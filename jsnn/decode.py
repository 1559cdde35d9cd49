"""Decoders: what a network put out over time, [T, B, N], read as one value per output neuron, [B, N].

A decoder is a plain differentiable function. With `log_softmax=True` its result becomes the log-probabilities
of the classes; `losses.cross_entropy` takes either form.

Recordings of different lengths are padded at the end. Given their `lengths`, [B] integers in 1..T, a decoder returns
what it returns for each recording alone: of sample b the steps t < lengths[b] count, T is lengths[b], and what stands
in the padding changes no value and has gradient 0.

Each raises ValueError if the outputs have another rank than 3, no time steps or no neurons, and TypeError if they are
not floating point. Sums are taken in float32 at least; results then have the dtype of the outputs: in bfloat16, counts
and times above 256 are rounded. Of `lengths` the dtype and the shape are checked, and the values where they are not
traced.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jsnn.arguments import check_memory, checked
from jsnn.padding import check_lengths, fill_padding, mean_over_time
from jsnn.rounding import wide
from jsnn.types import Array

__all__ = [
    "first_spike_time",
    "last",
    "max_over_time",
    "mean",
    "spike_count",
    "spike_times",
    "sum",
]


@checked
def max_over_time(outputs: Array, *, lengths: Array | None = None, log_softmax: bool = False) -> Array:
    """Return the largest value of each neuron: y = max_t x_t; [T, B, N] -> [B, N].

    Among equal values the first takes the whole gradient, as in PyTorch. Usual for the membrane of a readout
    that does not spike (Zenke's SpyTorch, Norse's tutorials).

    Examples:
        >>> max_over_time(jnp.array([[[0.0, 3.0]], [[2.0, 1.0]]]))
        Array([[2., 3.]], dtype=float32)
    """
    check_time_major(outputs)
    step = jnp.argmax(fill_padding(outputs, lengths, -jnp.inf), axis=0)
    return _finish(_take_steps(outputs, step[None])[0], log_softmax, outputs.dtype)


@checked
def last(outputs: Array, *, lengths: Array | None = None, log_softmax: bool = False) -> Array:
    """Return the value of each neuron at the last step: y = x_{T-1}; [T, B, N] -> [B, N].

    Examples:
        >>> last(jnp.array([[[0.0, 3.0]], [[2.0, 1.0]]]))
        Array([[2., 1.]], dtype=float32)
        >>> last(jnp.array([[[0.0, 3.0]], [[2.0, 1.0]]]), lengths=jnp.array([1]))
        Array([[0., 3.]], dtype=float32)
    """
    check_time_major(outputs, lengths)
    if lengths is None:
        return _finish(outputs[-1], log_softmax, outputs.dtype)
    return _finish(_take_steps(outputs, lengths[None, :, None] - 1)[0], log_softmax, outputs.dtype)


@checked
def mean(outputs: Array, *, lengths: Array | None = None, log_softmax: bool = False) -> Array:
    """Return the mean over time: y = (1/T) sum_t x_t; [T, B, N] -> [B, N]. Of spikes: the rate, in spikes per step.

    Examples:
        >>> mean(jnp.array([[[0.0, 3.0]], [[2.0, 1.0]]]))
        Array([[1., 2.]], dtype=float32)
    """
    check_time_major(outputs)
    return _finish(mean_over_time(wide(outputs), lengths), log_softmax, outputs.dtype)


@checked
def sum(outputs: Array, *, lengths: Array | None = None, log_softmax: bool = False) -> Array:
    """Return the sum over time: y = sum_t x_t; [T, B, N] -> [B, N].

    Examples:
        >>> sum(jnp.array([[[0.0, 3.0]], [[2.0, 1.0]]]))
        Array([[2., 4.]], dtype=float32)
    """
    check_time_major(outputs)
    return _finish(jnp.sum(fill_padding(wide(outputs), lengths), axis=0), log_softmax, outputs.dtype)


@checked
def spike_count(
    spikes: Array,
    *,
    num_classes: int | None = None,
    lengths: Array | None = None,
    log_softmax: bool = False,
) -> Array:
    """Return the number of spikes of each neuron, or of each class: y = sum_t s_t; [T, B, N] -> [B, N].

    In a population code every class has N / num_classes neighbouring neurons, whose spikes are added:
    [T, B, N] -> [B, num_classes].

    Args:
        spikes: [T, B, N].
        num_classes: how many classes share the N neurons; None for a class for each neuron.
        lengths: [B], the steps of each sample that are not padding; None for all T.
        log_softmax: whether to return log-probabilities.

    Raises:
        ValueError: if N is not a multiple of `num_classes`.

    Examples:
        >>> spikes = jnp.array([[[0.0, 1.0, 1.0, 1.0]], [[0.0, 1.0, 0.0, 1.0]]])
        >>> spike_count(spikes)
        Array([[0., 2., 1., 2.]], dtype=float32)
        >>> spike_count(spikes, num_classes=2)
        Array([[2., 3.]], dtype=float32)
    """
    check_time_major(spikes)
    counts = jnp.sum(fill_padding(wide(spikes), lengths), axis=0)
    if num_classes is not None:
        batch, neurons = counts.shape
        if num_classes < 1 or neurons % num_classes:
            raise ValueError(
                f"a population code needs N to be a multiple of num_classes, got N={neurons} and "
                f"num_classes={num_classes}: change the size of the output layer"
            )
        counts = jnp.sum(counts.reshape(batch, num_classes, neurons // num_classes), axis=-1)
    return _finish(counts, log_softmax, spikes.dtype)


@checked
def first_spike_time(spikes: Array, *, lengths: Array | None = None, log_softmax: bool = False) -> Array:
    """Return the step of each neuron's first spike: y = min {t : s_t != 0}, T-1 if silent; [T, B, N] -> [B, N].

    The gradient is that of `spike_times`. With `log_softmax=True` the times are negated first, so that the
    neuron that fires earliest is the most probable class.

    Examples:
        >>> first_spike_time(jnp.array([[[0.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]]]))
        Array([[1., 2.]], dtype=float32)
    """
    if log_softmax:
        return _finish(-spike_times(wide(spikes), 1, lengths=lengths)[0], log_softmax, spikes.dtype)
    return spike_times(spikes, 1, lengths=lengths)[0]


@checked
def spike_times(spikes: Array, num_spikes: int, *, lengths: Array | None = None) -> Array:
    """Return the steps of each neuron's first `num_spikes` spikes, in order: [T, B, N] -> [num_spikes, B, N].

    A spike that never comes has time T-1. A time is a step function of the spikes; its gradient is set to -1
    with respect to the spike found (at step T-1 where there is none) and 0 elsewhere, so that a stronger
    drive means an earlier spike. Times and gradient are those of snnTorch's `SpikeTime` for one spike per
    neuron.

    Raises:
        ValueError: if `num_spikes` is less than 1.

    Examples:
        >>> spike_times(jnp.array([[[0.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]]]), 2)
        Array([[[1., 3.]],
               [[2., 3.]]], dtype=float32)
    """
    check_time_major(spikes, lengths)
    if num_spikes < 1:
        raise ValueError(f"num_spikes must be >= 1, got {num_spikes}")
    check_memory("the comparison of steps and spikes", (num_spikes, *spikes.shape))
    last_step = len(spikes) - 1 if lengths is None else lengths[:, None] - 1
    count = jnp.cumsum(spikes != 0, axis=0, dtype=jnp.int32)  # [T, B, N]
    order = jnp.arange(1, num_spikes + 1)[:, None, None, None]
    steps_before = jnp.sum(count < order, axis=1)  # [F, B, N], T where there is no such spike
    times = jnp.minimum(steps_before, last_step)  # also where the next spike lies in the padding
    found = _take_steps(spikes, times)
    # zero in value, and the only path along which the gradient flows
    return times.astype(spikes.dtype) + (jax.lax.stop_gradient(found) - found)


def check_time_major(outputs: Array, lengths: Array | None = None) -> None:
    """Raise ValueError or TypeError unless `outputs` is a floating-point array [T, B, N] with T and N at least 1.

    `lengths` must be integers in 1..T, [B], or None.
    """
    if outputs.ndim != 3:
        raise ValueError(
            f"outputs must be [T, B, N], got shape {outputs.shape}: put time first, then batch, then neurons"
        )
    if 0 in (outputs.shape[0], outputs.shape[2]):
        raise ValueError(f"outputs must have at least one time step and one neuron, got shape {outputs.shape}")
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise TypeError(f"outputs must be floating point, got {outputs.dtype}: use .astype(jnp.float32)")
    if lengths is not None:
        check_lengths(lengths, *outputs.shape[:2])


def _take_steps(outputs: Array, steps: Array) -> Array:
    """Return `outputs` [T, B, N] at `steps` [F, B, N] of each neuron -> [F, B, N]."""
    return jnp.take_along_axis(outputs, steps, axis=0)


def _finish(decoded: Array, log_softmax: bool, dtype: Any) -> Array:
    return (jax.nn.log_softmax(wide(decoded), axis=-1) if log_softmax else decoded).astype(dtype)
