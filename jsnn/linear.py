"""A dense layer whose products are fast on CPUs where it is wide.

XLA's CPU backend multiplies thousands of rows faster if they come some hundred at a time, which stay in the cache: by a
tenth or more, with the same numbers.

The kernel's gradient, inputs^T @ gradient, is a sum over all examples and time steps, and both are read down their
columns. Where a row is a multiple of 512 numbers long, the rows of a column meet in the same lines of the cache, and
one core takes up to twice as long as for a layer a little wider or narrower. So there a row is made a little longer.
`python -m experiments.benchmark --case repairs` times both; `tests/test_linear.py` holds the numbers to XLA's.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.types import Array
from jsnn.varying import alike

_SLOW_MULTIPLE = 512  # numbers in a row
_LINE = 16  # numbers that fill a line of the cache
_ROWS = 512  # or a few more at a time


class Linear(nnx.Linear):
    """`flax.nnx.Linear` whose products are fast on CPUs: the same arguments, numbers and parameters.

    With out_features a multiple of 512 its gradients are of reverse mode, such as `jax.grad`; for `jax.jvp` or
    `jax.hessian` take `flax.nnx.Linear`.

    Inputs [..., in_features] -> [..., out_features].

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> jsnn.Linear(784, 512, rngs=nnx.Rngs(0))(jnp.zeros((2, 784))).shape
        (2, 512)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"dot_general": dot_general} | kwargs)


def dot_general(lhs: Array, rhs: Array, dimension_numbers: Any, precision: Any = None, **kwargs: Any) -> Array:
    """Return `jax.lax.dot_general`, fast for inputs [..., K] and a kernel [K, N] with N a multiple of 512.

    Everything else goes to JAX as it is.
    """
    is_dense = rhs.ndim == 2 and dimension_numbers == (((lhs.ndim - 1,), (0,)), ((), ()))
    plain = is_dense and lhs.dtype == rhs.dtype and all(value is None for value in kwargs.values())
    if plain and rhs.size and rhs.shape[1] % _SLOW_MULTIPLE == 0:
        return _product(precision, *alike((lhs, rhs)))
    return jax.lax.dot_general(lhs, rhs, dimension_numbers, precision, **kwargs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(precision: Any, inputs: Array, kernel: Array) -> Array:
    whole = functools.partial(jnp.matmul, precision=precision)
    if not _come_in_parts(inputs):
        return whole(inputs, kernel)
    return jax.lax.platform_dependent(inputs, kernel, cpu=functools.partial(_in_parts, whole), default=whole)


def _product_forward(precision: Any, inputs: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _product(precision, inputs, kernel), (inputs, kernel)


def _product_backward(precision: Any, residuals: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    inputs, kernel = residuals
    rows, gradients = inputs.reshape(-1, inputs.shape[-1]), gradient.reshape(-1, gradient.shape[-1])

    def as_xla_does(rows: Array, gradients: Array) -> Array:
        return jnp.matmul(rows.T, gradients, precision=precision)

    repaired = functools.partial(_sum_of_parts, precision)
    of_kernel = jax.lax.platform_dependent(rows, gradients, cpu=repaired, default=as_xla_does)
    return _product(precision, gradient, kernel.T), of_kernel


_product.defvjp(_product_forward, _product_backward)


def _come_in_parts(inputs: Array) -> bool:
    """Return whether there are enough rows, on one device; in an export their number may be unknown."""
    rows = math.prod(inputs.shape[:-1])
    return jax.device_count() == 1 and isinstance(rows, int) and rows >= 2 * _ROWS


def _in_parts(product: Callable[[Array, Array], Array], inputs: Array, kernel: Array) -> Array:
    """Return a product whose rows are computed some hundred at a time; a few of the last ones twice."""
    rows = inputs.reshape(-1, inputs.shape[-1])
    count = len(rows) // _ROWS
    length = -(-len(rows) // count)

    def put(i: Array, outputs: Array) -> Array:
        part = product(jax.lax.dynamic_slice_in_dim(rows, i * length, length), kernel)
        return jax.lax.dynamic_update_slice_in_dim(outputs, part, i * length, 0)

    first = jnp.pad(product(rows[:length], kernel), ((0, len(rows) - length), (0, 0)))  # its type is the loop's
    outputs = jax.lax.fori_loop(1, count, put, first)
    return outputs.reshape(*inputs.shape[:-1], kernel.shape[1])


def _sum_of_parts(precision: Any, rows: Array, gradients: Array) -> Array:
    """Return rows^T @ gradients, added up in float32 or wider from products of a few hundred rows."""
    shape = (rows.shape[1], gradients.shape[1])
    wide = jnp.float32 if rows.dtype.itemsize < 4 else rows.dtype

    def part(start: Array | int, length: int) -> Array:
        factors = [_lengthened(jax.lax.dynamic_slice_in_dim(x, start, length)) for x in (rows, gradients)]
        product = jnp.matmul(factors[0].T, factors[1], precision=precision, preferred_element_type=wide)
        return product[: shape[0], : shape[1]]

    count = len(rows) // _ROWS if _come_in_parts(rows) else 0
    total = part(count * _ROWS, rows.shape[0] - count * _ROWS)
    if count:
        total = jax.lax.fori_loop(0, count, lambda i, total: total + part(i * _ROWS, _ROWS), total)
    return total.astype(rows.dtype)


def _lengthened(rows: Array) -> Array:
    """Return rows followed by a few zeros, if their length is a multiple of 512."""
    return rows if rows.shape[1] % _SLOW_MULTIPLE else jnp.pad(rows, ((0, 0), (0, _LINE)))
