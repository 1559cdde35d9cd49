"""Whole numbers and sums that rounding errors must not change.

A float is never cut off to a whole number: 0.29 * 100 is 28.999999999999996, and means 29. And what is summed up is
summed up in float32 at least: in bfloat16, 256 + 1 is 256.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.types import Array

_MOST = 0.25  # beyond it a floor would become a rounding


def floor(x: Any, margin: Any = None) -> np.ndarray:
    """Return the largest whole numbers that are not above `x`, up to rounding.

    What lies below a whole number by no more than `margin`, by default 8 eps of a float64, counts as that number.

    Args:
        x: numbers of any shape, within the range of int64.
        margin: the absolute error that they may have, above 0.25 taken as that.

    Returns:
        int64, of the shape of `x`.

    Examples:
        >>> floor(0.29 * 100), floor(28.9)
        (array(29), array(28))
    """
    x = np.asarray(x, np.float64)
    nearest = np.round(x)
    margin = relative_error() * np.maximum(1, np.abs(x)) if margin is None else margin
    return np.where(np.abs(x - nearest) <= np.minimum(margin, _MOST), nearest, np.floor(x)).astype(np.int64)


def relative_error(*numbers: Any) -> float:
    """Return the relative error of what is computed from some numbers: 8 eps of their dtypes, of a float64 at least."""
    dtypes = [x.dtype for x in numbers if isinstance(x, jax.Array | np.ndarray | np.generic)]
    return 8 * max(
        [2.0**-52, *(float(jnp.finfo(dtype).eps) for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating))]
    )


def wide(x: Array) -> Array:
    """Return an array that is narrower than float32 in float32, to square, sum and count in; others as they are."""
    is_narrow = jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize < 4
    return x.astype(jnp.float32) if is_narrow else x


def narrow(result: Array, dtype: Any) -> Array:
    """Return a result that was computed in `wide` in the dtype of what it was computed from.

    Of float16, whose largest number is 65504, it stays in float32; and so does what is not floating point.
    """
    return result.astype(dtype) if jnp.issubdtype(dtype, jnp.floating) and dtype != jnp.float16 else result


def spread(count: int, size: int) -> np.ndarray:
    """Return `count` of the indices 0..size-1, evenly spread from the first to the last.

    Examples:
        >>> spread(4, 10).tolist(), spread(1, 10).tolist()
        ([0, 3, 6, 9], [0])
    """
    return np.arange(count) * (size - 1) // max(count - 1, 1)
