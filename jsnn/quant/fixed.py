"""Arithmetic in integers, which the rounded network and its integer twin share to the bit."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.neurons.spiking_activation import differentiated_as
from jsnn.types import Array

LARGEST = 2**23  # of a current or a sum, in units: times 255 it fits into int32, and float32 holds it
LARGEST_INPUT = 127
_BITS = 8  # of a multiplier
_MOST_SHIFT = 23
_MOST_LEFT = 22  # with which all but 0 is above LARGEST, and fits into int32
# multiplied with, where XLA may divide in another way in another program
_RECIPROCALS = np.concatenate([[0.0], 1 / np.arange(1.0, 2**_BITS)]).astype(np.float32)
_POWERS = 2.0 ** np.arange(-64, 65, dtype=np.float32)


class Factor(NamedTuple):
    """A factor as integers apply it: multiplier * 2**-shift."""

    multiplier: Array
    """Int32, below 256 in size."""
    shift: Array
    """Int32, at most 23; negative to the left."""

    @property
    def value(self) -> Array:
        """The factor as float32, exactly."""
        return self.multiplier.astype(jnp.float32) * jnp.asarray(_POWERS)[64 - self.shift]


def factor_of(value: Any, rounding: Callable[[Array], Array] = jnp.round) -> Factor:
    """Return the factor that is nearest to a number, or to each in an array; with `jnp.floor`, not above it."""
    mantissa, exponent = jnp.frexp(jnp.asarray(value, jnp.float32))
    multiplier = rounding(mantissa * 2**_BITS).astype(jnp.int32)
    is_full = abs(multiplier) == 2**_BITS  # rounded up to the next power of two
    multiplier, shift = jnp.where(is_full, multiplier // 2, multiplier), _BITS - exponent - is_full
    excess = jnp.clip(shift - _MOST_SHIFT, 0, 30)
    return Factor(shifted(multiplier, excess), jnp.minimum(shift, _MOST_SHIFT).astype(jnp.int32))


def power_of_two(value: Any) -> Factor:
    """Return the smallest power of two that is not below a positive number, or each in an array."""
    mantissa, exponent = jnp.frexp(jnp.asarray(value, jnp.float32))
    shift = jnp.where(mantissa == 0.5, 1, 0) - exponent
    return Factor(
        jnp.where((mantissa == 0) | (shift > _MOST_SHIFT), 0, 1).astype(jnp.int32), jnp.minimum(shift, _MOST_SHIFT)
    )


def divided(x: Array, factor: Factor) -> Array:
    """Return float32 numbers divided by a factor, not below 0; 0 where it is 0."""
    return x * jnp.asarray(_RECIPROCALS)[factor.multiplier] * jnp.asarray(_POWERS)[64 + factor.shift]


def shifted(x: Array, shift: Array) -> Array:
    """Return x * 2**-shift for a shift >= 0, rounded to the nearest integer, a tie upwards."""
    return (x + ((1 << shift) >> 1)) >> shift


def rescaled(x: Array, factor: Factor) -> Array:
    """Return integers times a factor, rounded to the nearest, a tie upwards, and cut at +-LARGEST."""
    left, right = jnp.clip(-factor.shift, 0, _MOST_LEFT), jnp.maximum(factor.shift, 0)
    x = jnp.clip(x, -(LARGEST >> left), LARGEST >> left)
    return jnp.clip(shifted((x * factor.multiplier) << left, right), -LARGEST, LARGEST)


def saturated(x: Array, bits: int) -> Array:
    """Return integers within the range of so many bits, the same on both sides of 0."""
    return jnp.clip(x, -largest(bits), largest(bits))


def largest(bits: int) -> int:
    """Return the largest integer of so many bits."""
    return 2 ** (bits - 1) - 1


def integers(x: Array, unit: float, most: int = 2 * LARGEST) -> Array:
    """Return how many units are nearest to real numbers, int32, cut at +-most."""
    return jnp.clip(jnp.round(x.astype(jnp.float32) * np.float32(1 / unit)), -most, most).astype(jnp.int32)


def straight_through(count: Array, unit: float, smooth: Array) -> Array:
    """Return integers in real units, with the derivative of `smooth`, and NaN where that is NaN."""
    return differentiated_as(
        jnp.where(jnp.isnan(smooth), jnp.nan, jax.lax.stop_gradient(count).astype(jnp.float32) * np.float32(unit)),
        smooth,
    )
