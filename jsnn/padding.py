"""Recordings of different lengths in one array [T, B, ...]: padded at the end, with the number of steps of each, [B].

What stands in the padding, NaN too, reaches no value and no gradient: it is replaced before anything is computed.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jsnn.arguments import is_traced
from jsnn.types import Array


def check_lengths(lengths: Any, num_steps: int, batch: int) -> None:
    """Raise TypeError or ValueError unless `lengths` are `batch` integers in 1..num_steps.

    The values of traced lengths are not known, and not checked.
    """
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(
            f"lengths must be integers, the number of steps of each sample that are not padding, got {lengths.dtype}: "
            f"those of a mask [T, B] are mask.sum(0), of [B, T] mask.sum(1)"
        )
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must have shape {(batch,)}, one number a sample, got {lengths.shape}")
    if is_traced(lengths):
        return
    wrong = [length for length in np.asarray(lengths).tolist() if not 1 <= length <= num_steps]
    if wrong:
        raise ValueError(
            f"lengths must lie in 1..{num_steps}, the number of steps, got {wrong[0]}: leave out what is empty, and "
            f"cut off what is longer"
        )


def counted_steps(lengths: Array, x: Array) -> Array:
    """Return where `x` [T, B, ...] is not padding, bool [T, B, 1, ...]: at the steps t < lengths.

    Raises:
        TypeError: if `lengths` are not integers.
        ValueError: if `lengths` are not [B], or one of them, where known, is outside 1..T; if `x` is not [T, B, ...].
    """
    if x.ndim < 2:
        raise ValueError(f"lengths are for arrays [T, B, ...], got shape {x.shape}: put time first, then batch")
    check_lengths(lengths, *x.shape[:2])
    counted = jnp.arange(len(x))[:, None] < lengths
    return counted.reshape(*counted.shape, *[1] * (x.ndim - 2))


def fill_padding(x: Array, lengths: Array | None, value: float = 0) -> Array:
    """Return `x` [T, B, ...] with `value` in the padding; unchanged if `lengths` is None."""
    return x if lengths is None else jnp.where(counted_steps(lengths, x), x, value)


def mean_over_time(x: Array, lengths: Array | None) -> Array:
    """Return the mean of `x` [T, B, ...] over the steps of each sample, [B, ...]; over all if `lengths` is None."""
    if lengths is None:
        return jnp.mean(x, axis=0)
    total = jnp.sum(fill_padding(x, lengths), axis=0)
    return total / lengths.astype(total.dtype).reshape(-1, *[1] * (x.ndim - 2))


def check_over_time(axis: int | tuple[int, ...] | None, x: Array) -> None:
    """Raise ValueError unless time, axis 0, is among the axes of `x` that are averaged; None stands for all."""
    if axis is not None and 0 not in {one % x.ndim for one in ((axis,) if isinstance(axis, int) else axis)}:
        raise ValueError(f"axis must name time, 0, where there are lengths, got {axis}: take axis=0, (0, 1) or None")


def mean_of_steps(x: Array, counted: Array | None, lengths: Array | None) -> Array:
    """Return the mean of `x` [...] where `counted` [...] holds; with `lengths`, `x` is [T, B], and padding is left out.

    Each step then has the weight 1 / length: every sample counts as much as any other, and the mean is that of the
    samples' own means. Where steps of a sample are not counted, it counts that much less.
    """
    if lengths is None:
        return jnp.mean(x, where=counted)
    own = 1 / lengths.astype(jnp.promote_types(x.dtype, jnp.float32))
    weights = jnp.where(counted_steps(lengths, x), own, 0)
    weights = weights if counted is None else jnp.where(counted, weights, 0)
    return jnp.sum(jnp.where(weights > 0, x, 0) * weights) / jnp.sum(weights)
