"""Codes of change: a spike where a signal rises, a negative one where it falls."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import check_broadcasts, checked
from jsnn.encode.checks import at_least_float32, time_varying
from jsnn.neurons.base import cast
from jsnn.neurons.checks import check_positive
from jsnn.neurons.pytree import FrozenPytree
from jsnn.neurons.ranges import POSITIVE, Range
from jsnn.neurons.shapes import check_fits
from jsnn.types import Array, Parameter, Shape
from jsnn.unrolling import unroll


@checked
def delta(x: Array, *, threshold: Parameter = 0.1, padding: bool = False, off_spike: bool = False) -> Array:
    """Return a spike where a value exceeds the one a step before by the threshold; [T, ...] -> [T, ...].

        d_t = x_t - x_{t-1};  s_t = 1 if d_t >= threshold,  -1 if d_t <= -threshold and `off_spike`,  else 0

    The threshold itself counts as exceeded, unlike in neurons. Slow changes, below it at each step, leave no trace:
    `send_on_delta` and `step_forward` see them.

    Source: snnTorch's `spikegen.delta`.

    Args:
        x: a signal over time.
        threshold: the least change that spikes, in the unit of the signal.
        padding: what the first value is compared with: False 0, True itself, so that it never spikes.
        off_spike: whether a fall by the threshold gives a spike of -1.

    Raises:
        ValueError: if `threshold` is not positive, or `x` has no time axis.

    Examples:
        >>> x = jnp.array([1.0, 2.0, 2.0, 0.0, 0.5])
        >>> delta(x, threshold=1.0).tolist(), delta(x, threshold=1.0, padding=True, off_spike=True).tolist()
        ([1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, -1.0, 0.0])
    """
    x = time_varying(x)
    check_positive("threshold", threshold)
    check_broadcasts("threshold", threshold, x.shape, "x")
    threshold = jnp.asarray(threshold, x.dtype)
    before = x[:1] if padding else jnp.zeros_like(x[:1])
    change = jnp.diff(x, axis=0, prepend=before)
    on = (change >= threshold).astype(x.dtype)
    return on - (change <= -threshold).astype(x.dtype) if off_spike else on


@checked
def delta_inverse(spikes: Array, *, threshold: Parameter = 0.1, initial: float | Array = 0.0) -> Array:
    """Return the signal that spikes of change stand for: x_t = initial + threshold * sum_{r <= t} s_r.

    [T, ...] -> [T, ...].

    Of `step_forward`'s spikes it is within a threshold of the signal, as long as that changes by no more than the
    threshold a step. Of `delta`'s (with `off_spike`) and `send_on_delta`'s it is exact where each change is a
    threshold or nothing, and rough elsewhere.

    Args:
        spikes: in {-1, 0, 1}, or counts.
        threshold: what a spike stands for; that of the encoder.
        initial: the value before the first spike, [...] or a number.

    Raises:
        ValueError: if `threshold` is not positive, or `spikes` has no time axis.

    Examples:
        >>> delta_inverse(jnp.array([0.0, 1.0, 0.0, -1.0, 1.0]), threshold=0.5, initial=2.0).tolist()
        [2.0, 2.5, 2.5, 2.0, 2.5]
    """
    spikes = time_varying(spikes, "spikes")
    check_positive("threshold", threshold)
    for name, value in (("threshold", threshold), ("initial", initial)):
        check_broadcasts(name, value, spikes.shape, "spikes")
    changes = jnp.cumsum(at_least_float32(spikes), axis=0)
    return (cast(initial, changes.dtype) + cast(threshold, changes.dtype) * changes).astype(spikes.dtype)


class ReferenceState(NamedTuple):
    """The state of `SendOnDelta` and `StepForward`."""

    reference: Array
    """The value that the signal is compared with, [B, ...]."""


@nnx.dataclass
class SendOnDelta(FrozenPytree):
    """Send-on-delta coder for streams: a spike when the signal has left the value of the last spike behind.

        d = x - reference;  s = 1 if d >= threshold,  -1 if d <= -threshold,  else 0;  reference = x where s != 0

    A Neuron: `init` starts it at the reference 0, and `ReferenceState(x)` at a value of one's own. A sensor that sends
    only what is news; slow changes add up until they are. No gradient flows through the spikes.

    Source: Miskowicz, "Send-on-delta concept: an event-based data reporting strategy", Sensors 2006.

    Attributes:
        threshold: the least change that spikes, in the unit of the signal; must be positive.

    Raises:
        ValueError: if `threshold` is not positive.

    Examples:
        >>> state, spikes = unroll(SendOnDelta(0.5), jnp.array([0.0, 0.25, 0.5, 0.75, 2.0, 1.0]))
        >>> spikes.tolist()
        [0.0, 0.0, 1.0, 0.0, 1.0, -1.0]
    """

    threshold: Parameter = 0.1

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "threshold": POSITIVE}

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> ReferenceState:
        return ReferenceState(jnp.zeros(shape, dtype))

    def step(self, state: ReferenceState, current: Array) -> tuple[ReferenceState, Array]:
        x = current.astype(state.reference.dtype)
        spikes = self.spikes(x - state.reference)
        return ReferenceState(self.follow(state.reference, x, spikes)), spikes.astype(current.dtype)

    def spikes(self, change: Array) -> Array:
        """Return spikes in {-1, 0, 1} where the change reaches the threshold."""
        threshold = jnp.asarray(self.threshold, change.dtype)
        return (change >= threshold).astype(change.dtype) - (change <= -threshold).astype(change.dtype)

    def follow(self, reference: Array, x: Array, spikes: Array) -> Array:
        """Return the reference after a spike: the signal itself."""
        return jnp.where(spikes != 0, x, reference)


@nnx.dataclass
class StepForward(SendOnDelta):
    """Step-forward coder for streams: as `SendOnDelta`, but a spike moves the reference by one threshold.

        d = x - reference;  s = 1 if d > threshold,  -1 if d < -threshold,  else 0;  reference += threshold * s

    The reference is the signal that `delta_inverse` recovers: it follows the signal within a threshold, at no more
    than a threshold a step.

    Source: Kasabov et al., "Evolving spatio-temporal data machines based on the NeuCube neuromorphic framework",
    Neural Networks 2016.

    Attributes:
        threshold: how far reference and signal may lie apart, in the unit of the signal; must be positive.

    Examples:
        >>> state, spikes = unroll(StepForward(0.5), jnp.array([0.0, 1.25, 1.25, 1.25, 0.25]))
        >>> spikes.tolist()
        [0.0, 1.0, 1.0, 0.0, -1.0]
    """

    def spikes(self, change: Array) -> Array:
        threshold = jnp.asarray(self.threshold, change.dtype)
        return (change > threshold).astype(change.dtype) - (change < -threshold).astype(change.dtype)

    def follow(self, reference: Array, x: Array, spikes: Array) -> Array:
        """Return the reference after a spike: one threshold further."""
        return reference + cast(self.threshold, x.dtype) * spikes


@checked
def send_on_delta(x: Array, *, threshold: Parameter = 0.1) -> Array:
    """Return the spikes of `SendOnDelta` for a whole signal, from its first value on.

    [T, ...] -> [T, ...] in {-1, 0, 1}.

    Raises:
        ValueError: if `threshold` is not positive, or `x` has no time axis.

    Examples:
        >>> send_on_delta(jnp.array([1.0, 1.25, 1.5, 1.0]), threshold=0.5).tolist()
        [0.0, 0.0, 1.0, -1.0]
    """
    x = time_varying(x)
    check_fits(x.shape[1:], threshold=threshold)
    return unroll(SendOnDelta(threshold), x, ReferenceState(at_least_float32(x[0])))[1]


@checked
def step_forward(x: Array, *, threshold: Parameter = 0.1) -> Array:
    """Return the spikes of `StepForward` for a whole signal, from its first value on.

    [T, ...] -> [T, ...] in {-1, 0, 1}.

    `delta_inverse(spikes, threshold=threshold, initial=x[0])` recovers the signal.

    Raises:
        ValueError: if `threshold` is not positive, or `x` has no time axis.

    Examples:
        >>> step_forward(jnp.array([1.0, 1.75, 2.0, 2.0]), threshold=0.25).tolist()
        [0.0, 1.0, 1.0, 1.0]
    """
    x = time_varying(x)
    check_fits(x.shape[1:], threshold=threshold)
    return unroll(StepForward(threshold), x, ReferenceState(at_least_float32(x[0])))[1]


@checked
def contrast_threshold(x: Array, *, factor: float = 1.0) -> Array:
    """Return the threshold of `time_contrast`, one for each signal: mean |d| + factor * std |d|; [T, ...] -> [...].

    Raises:
        ValueError: if `factor` is negative, or `x` has fewer than 2 steps.

    Examples:
        >>> contrast_threshold(jnp.array([0.0, 1.0, 4.0]), factor=0.5).tolist()
        2.5
    """
    x = time_varying(x)
    if factor < 0:
        raise ValueError(f"factor must be >= 0, got {factor}")
    if len(x) < 2:
        raise ValueError(f"x must have at least 2 steps to show a change, got shape {x.shape}")
    size = jnp.abs(jnp.diff(x, axis=0))
    return jnp.mean(size, axis=0) + factor * jnp.std(size, axis=0)


@checked
def time_contrast(x: Array, *, factor: float = 1.0) -> Array:
    """Return spikes at the changes that are large for their signal; [T, ...] -> [T, ...] in {-1, 0, 1}.

        d_t = x_t - x_{t-1},  d_0 = 0;  s_t = 1 if d_t > threshold,  -1 if d_t < -threshold,  else 0
        threshold = mean |d| + factor * std |d|  over the T - 1 changes

    Each signal has its own threshold, so that their units do not matter; it takes the whole signal to know it, so
    that streams need `SendOnDelta`. A change must exceed the threshold by more than the rounding error, 2 eps max |x|,
    so that a signal that rises evenly has no spikes.

    Source: threshold-based representation, in Petro, Kasabov and Kiss, "Selection and optimization of temporal spike
    encoding methods for spiking neural networks", IEEE TNNLS 2020; here of the changes' sizes, so that a signal
    that mostly falls has a positive threshold as well.

    Raises:
        ValueError: if `factor` is negative, or `x` has fewer than 2 steps.

    Examples:
        >>> time_contrast(jnp.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0])).tolist()
        [0.0, 0.0, 1.0, 0.0, -1.0, 0.0]
    """
    threshold = contrast_threshold(x, factor=factor)
    threshold = threshold + 2 * jnp.finfo(x.dtype).eps * jnp.max(jnp.abs(x), axis=0)
    change = jnp.diff(x, axis=0, prepend=x[:1])
    return (change > threshold).astype(change.dtype) - (change < -threshold).astype(change.dtype)
