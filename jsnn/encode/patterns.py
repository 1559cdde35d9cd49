"""Values as patterns of spikes that nothing random decides: bursts and phases."""

import jax
import jax.numpy as jnp

from jsnn.arguments import checked
from jsnn.encode.checks import at_least_float32, check_at_least, check_num_steps, check_unit_interval, floating
from jsnn.types import Array


@checked
def burst(
    x: Array,
    *,
    num_steps: int,
    max_spikes: int = 5,
    min_interval: int = 2,
    max_interval: int | None = None,
) -> Array:
    """Return a burst from the first step on: the larger a value, the more spikes, the closer; [B, ...] -> [T, B, ...].

        n = ceil(max_spikes * x) spikes, at steps 0, k, 2k, ...
        k = ceil(max_interval - (max_interval - min_interval) * x)

    A value of 0 is silent. Under `jit` values outside [0, 1] are clipped.

    Source: Guo, Fouda, Eltawil and Salama, "Neural coding in spiking neural networks: a comparative study for robust
    neuromorphic systems", Frontiers in Neuroscience 2021.

    Args:
        x: values in [0, 1].
        num_steps: T; spikes after it are left out.
        max_spikes: the spikes of the value 1.
        min_interval: the steps from spike to spike of the value 1.
        max_interval: those of the smallest values; None takes the longest with which `max_spikes` spikes fit into T
            steps, but no less than `min_interval`.

    Raises:
        TypeError: if `x` is not floating point.
        ValueError: if `num_steps`, `max_spikes` or `min_interval` is less than 1; if `max_interval` is less than
            `min_interval`; if values are missing, NaN or outside [0, 1].

    Examples:
        >>> burst(jnp.array([0.0, 0.4, 1.0]), num_steps=10, max_spikes=4)[:, 1:].T
        Array([[1., 0., 0., 1., 0., 0., 0., 0., 0., 0.],
               [1., 0., 1., 0., 1., 0., 1., 0., 0., 0.]], dtype=float32)
    """
    x = floating(x)
    check_num_steps(num_steps, x.shape)
    check_at_least("max_spikes", max_spikes, 1)
    check_at_least("min_interval", min_interval, 1)
    if max_interval is None:
        max_interval = max(min_interval, (num_steps - 1) // max(max_spikes - 1, 1))
    if max_interval < min_interval:
        raise ValueError(f"max_interval must be >= min_interval = {min_interval}, got {max_interval}")
    check_unit_interval(x)
    share = jnp.clip(at_least_float32(x), 0, 1)
    count = _ceil(max_spikes * share)
    interval = _ceil(max_interval - (max_interval - min_interval) * share)
    step = jax.lax.broadcasted_iota(jnp.int32, (num_steps, *x.shape), 0)
    return ((step % interval == 0) & (step // interval < count)).astype(x.dtype)


def _ceil(x: Array) -> Array:
    """Return x rounded up, but 3.0000002 to 3: what is above a whole number by rounding alone, 4 eps of it."""
    return jnp.ceil(x * (1 - 4 * jnp.finfo(x.dtype).eps)).astype(jnp.int32)


@checked
def phase(x: Array, *, num_steps: int, num_phases: int = 8) -> Array:
    """Return the binary digits of each value, the most significant first, over and over; [B, ...] -> [T, B, ...].

        s_t = digit k of floor(2^K x),  k = t mod K,  of weight 2^-(1 + k);  K = num_phases

    The spikes of one period, weighted by `phase_weights`, add up to the value rounded down to K digits; 1 itself
    becomes 1 - 2^-K. Images of 8 bits, divided by 255, keep all their bits with K = 8. Under `jit` values outside
    [0, 1] are clipped.

    Source: Kim, Kim, Huh, Lee and Choi, "Deep neural networks with weighted spikes", Neurocomputing 2018.

    Args:
        x: values in [0, 1].
        num_steps: T; whole periods are multiples of K.
        num_phases: K, from 1 to 24, the digits of a float32.

    Raises:
        TypeError: if `x` is not floating point.
        ValueError: if `num_steps` is less than 1 or `num_phases` not from 1 to 24; if values are missing, NaN or
            outside [0, 1].

    Examples:
        >>> spikes = phase(jnp.array([0.625, 1.0]), num_steps=6, num_phases=3)
        >>> spikes.T
        Array([[1., 0., 1., 1., 0., 1.],
               [1., 1., 1., 1., 1., 1.]], dtype=float32)
        >>> jnp.tensordot(phase_weights(num_steps=3, num_phases=3), spikes[:3], 1).tolist()
        [0.625, 0.875]
    """
    x = floating(x)
    check_num_steps(num_steps, x.shape)
    _check_num_phases(num_phases)
    check_unit_interval(x)
    levels = 2**num_phases
    digits = jnp.clip(jnp.floor(at_least_float32(x) * levels), 0, levels - 1).astype(jnp.int32)
    step = jax.lax.broadcasted_iota(jnp.int32, (num_steps, *x.shape), 0)
    return ((digits >> (num_phases - 1 - step % num_phases)) & 1).astype(x.dtype)


@checked
def phase_weights(*, num_steps: int, num_phases: int = 8) -> Array:
    """Return what a spike at each step of `phase` stands for, 2^-(1 + t mod K); [T], float32.

    A receiver multiplies the spikes by it; the sum over T steps is T / K times the value.

    Raises:
        ValueError: if `num_steps` is less than 1, or `num_phases` not from 1 to 24.

    Examples:
        >>> phase_weights(num_steps=4, num_phases=2).tolist()
        [0.5, 0.25, 0.5, 0.25]
    """
    check_num_steps(num_steps)
    _check_num_phases(num_phases)
    return 2.0 ** -(1.0 + jnp.arange(num_steps) % num_phases)


def _check_num_phases(num_phases: int) -> None:
    if not 1 <= num_phases <= 24:
        raise ValueError(f"num_phases must lie in 1..24, the digits of a float32, got {num_phases}")
