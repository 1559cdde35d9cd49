"""The elementwise operations of JAX, and those of them that a kernel's compiler has.

The compiler of a kernel, Mosaic, knows fewer operations than XLA. `REWRITTEN` gives the others in terms of those that
it knows, to a few units in the last place. What stands in neither table is not elementwise, or not to be had in a
kernel. A newer JAX may write an old function with a new operation: `tests/test_fused.py` holds the tables to every
neuron, surrogate and common function.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jsnn.types import Array

ARITHMETIC = {
    *("add", "and", "clamp", "convert_element_type", "eq", "ge", "gt", "le", "lt", "max", "min", "mul", "ne", "neg"),
    *("not", "or", "select_n", "square", "sub", "xor"),
}
FUNCTIONS = {"abs", "cos", "div", "erf", "exp", "exp2", "log", "rem", "round", "rsqrt", "sign", "sin", "tanh"}


def _expm1(x: Array) -> Array:
    """Return exp(x) - 1, by Taylor's series near 0, where `exp(x) - 1` would lose digits."""
    series = jnp.ones_like(x)
    for n in range(_terms(x, 9, 16), 1, -1):
        series = 1 + series * x / n
    return jax.lax.select(jnp.abs(x) < 0.5, series * x, jnp.exp(x) - 1)


def _log1p(x: Array) -> Array:
    """Return log(1 + x), by the series of `2 arctanh(x / (2 + x))` near 0, where it would lose digits."""
    s = x / (2 + x)
    series = jnp.zeros_like(x)
    for n in range(_terms(x, 5, 11), -1, -1):
        series = 1 / (2 * n + 1) + series * s * s
    return jax.lax.select(jnp.abs(x) < 0.3, 2 * s * series, jnp.log(1 + x))


def _terms(x: Array, single: int, double: int) -> int:
    return single if jnp.finfo(x.dtype).bits <= 32 else double


def _floor(x: Array) -> Array:
    nearest = jax.lax.round(x, jax.lax.RoundingMethod.TO_NEAREST_EVEN)
    return nearest - (nearest > x).astype(x.dtype)


def _integer_pow(x: Array, *, y: int) -> Array:
    power = jnp.ones_like(x) if y == 0 else x
    for bit in bin(abs(y))[3:]:
        power = power * power * x if bit == "1" else power * power
    return 1 / power if y < 0 else power


def _pow(x: Array, y: Array) -> Array:
    """Return `x ** y`, to about `|y log(x)|` units in the last place."""
    x, y = jnp.broadcast_arrays(x, jnp.asarray(y, x.dtype))
    size = jax.lax.select(y == 0, jnp.ones_like(x), jnp.exp(y * jnp.log(jnp.abs(x))))
    signed = jax.lax.select(2 * _floor(y / 2) == y, size, -size)
    undefined = jax.lax.select(_floor(y) == y, signed, jnp.full_like(x, jnp.nan))
    return jax.lax.select(x < 0, undefined, size)


def _logistic(x: Array, **_: Any) -> Array:
    return 1 / (1 + jnp.exp(-x))


def _sqrt(x: Array, **_: Any) -> Array:
    return jax.lax.select((x == 0) | (x == jnp.inf), x, x * jax.lax.rsqrt(x))


def _same(x: Array, **_: Any) -> Array:
    return x


REWRITTEN: dict[str, Callable[..., Array]] = {
    "add_any": lambda x, y: x + y,
    "ceil": lambda x: -_floor(-x),
    "copy": _same,
    "cosh": lambda x, **_: (jnp.exp(x) + jnp.exp(-x)) / 2,
    "expm1": lambda x, **_: _expm1(x),
    "floor": _floor,
    "integer_pow": _integer_pow,
    "is_finite": lambda x: jnp.abs(x) < jnp.inf,
    "log1p": lambda x, **_: _log1p(x),
    "log2": lambda x, **_: jnp.log(x) / math.log(2),
    "logistic": _logistic,
    "name": _same,
    "one_minus_square": lambda x: (1 - x) * (1 + x),
    "pow": _pow,
    "sinh": lambda x, **_: (_expm1(x) - _expm1(-x)) / 2,
    "sqrt": _sqrt,
    "stop_gradient": _same,
    "tan": lambda x, **_: jnp.sin(x) / jnp.cos(x),
}
