"""A dense layer whose kernel's gradient is fast on CPUs where it is wide.

That gradient, inputs^T @ gradient, is a sum over all examples and time steps. XLA's CPU backend folds the transposition
into the product and then reads down columns; where a row is a multiple of 512 numbers long, the rows of a column meet
in the same lines of the cache, and one core takes up to twice as long as for a layer a little wider or narrower. There
the transposition is held out of the product, at the price of a copy of the inputs.
`python -m experiments.benchmark --case repairs` times both; `tests/test_linear.py` holds the gradients to XLA's.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.types import Array

_SLOW_MULTIPLE = 512  # numbers in a row


class Linear(nnx.Linear):
    """`flax.nnx.Linear` with a gradient that is fast on CPUs: the same arguments, numbers and parameters.

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
    """Return `jax.lax.dot_general`, its gradient fast for inputs [..., K] and a kernel [K, N], N a multiple of 512.

    Everything else goes to JAX as it is.
    """
    is_dense = rhs.ndim == 2 and dimension_numbers == (((lhs.ndim - 1,), (0,)), ((), ()))
    plain = is_dense and lhs.dtype == rhs.dtype and all(value is None for value in kwargs.values())
    if plain and rhs.size and rhs.shape[1] % _SLOW_MULTIPLE == 0:
        return _product(precision, lhs, rhs)
    return jax.lax.dot_general(lhs, rhs, dimension_numbers, precision, **kwargs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(precision: Any, inputs: Array, kernel: Array) -> Array:
    return jnp.matmul(inputs, kernel, precision=precision)


def _product_forward(precision: Any, inputs: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _product(precision, inputs, kernel), (inputs, kernel)


def _product_backward(precision: Any, residuals: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    inputs, kernel = residuals
    rows, gradients = inputs.reshape(-1, inputs.shape[-1]), gradient.reshape(-1, gradient.shape[-1])

    def as_xla_does(rows: Array, gradients: Array) -> Array:
        return jnp.matmul(rows.T, gradients, precision=precision)

    def repaired(rows: Array, gradients: Array) -> Array:
        return jnp.matmul(jax.lax.optimization_barrier(rows.T), gradients, precision=precision)

    of_kernel = jax.lax.platform_dependent(rows, gradients, cpu=repaired, default=as_xla_does)
    return jnp.matmul(gradient, kernel.T, precision=precision), of_kernel


_product.defvjp(_product_forward, _product_backward)
