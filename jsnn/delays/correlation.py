"""Correlation over time in few and large products: for layers in which each synapse sees many of the last inputs.

    y[t] = sum over k of product(x[t + k], taps[k])

Term by term it takes a product for each step and tap. Through a discrete Fourier transform along time it takes three
for each frequency (a product of two complex numbers is three of real ones), and there are half as many frequencies as
steps. The transforms, and the sums that make three products one, are matrices that are known beforehand:

    y = back @ products(of_inputs @ x, of_taps @ taps)

So all is products of matrices, which every platform is good at, forward and backward. For 26 taps, 100 steps and 256
neurons on either side they come to a sixth of the operations. A long recording is cut into blocks.
"""

import functools
import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax.export import is_symbolic_dim

from jsnn.types import Array

_BLOCK = 96  # steps, or four times as many as there are taps: longer ones cost more to transform, shorter ones overlap
_TOUCHED = 60  # multiplications in whose time one of the numbers made of the taps is written and read

Products = Callable[[Array, Array], Array]


def correlate(inputs: Array, taps: Array, products: Products) -> Array:
    """Return the sum over k of `product(inputs[t + k], taps[k])`, through the frequencies.

    The numbers are those of the sum, and so are the gradients, to rounding: about 1e-6 of the largest in float32.

    Args:
        inputs: x, `[K - 1 + T, ...]`, floating point.
        taps: `[K, ...]`, of the same dtype.
        products: the product, linear in both, of many at once, `([F, S, ...], [F, ...]) -> [F, S, ...]`, such as
            `jax.vmap(jnp.matmul)`.

    Returns:
        y, `[T, ...]`.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> x = jnp.arange(6.0).reshape(6, 1, 1)  # six steps, a batch of one, one neuron
        >>> y = correlate(x, jnp.array([1.0, 0.0, 0.5]).reshape(3, 1, 1), jax.vmap(jnp.matmul))
        >>> [round(float(each), 3) for each in y.ravel()]
        [1.0, 2.5, 4.0, 5.5]
    """
    before, steps = len(taps) - 1, len(inputs) - len(taps) + 1
    count, length = _division(steps, before)
    blocks = _overlapping(inputs, before, length, count)
    of_inputs, of_taps, back = (jnp.asarray(matrix, inputs.dtype) for matrix in _transforms(length + before))
    made = products(_along_time(of_inputs, blocks), _along_time(of_taps[:, : before + 1], taps))
    y = _along_time(back[:length], made)
    return jnp.moveaxis(y, 1, 0).reshape(count * length, *y.shape[2:])[:steps]


def is_faster(inputs: Array, taps: Array, size: int) -> bool:
    """Return whether the way through the frequencies is faster than term by term, on a CPU.

    Args:
        inputs: those of `correlate`.
        taps: those of `correlate`, the outputs on the last axis.
        size: how many numbers are put out at each step.
    """
    if is_symbolic_dim(size):  # as in a network that is exported for batches of any size
        return False
    before, steps = len(taps) - 1, len(inputs) - len(taps) + 1
    count, length = _division(steps, before)
    product = size * math.prod(taps.shape[1:-1])
    frequencies = 1.5 * (length + before)  # as rows of the matrices
    transforms = (length + before) * inputs[0].size + length * size
    of_taps = taps[0].size * (len(taps) + _TOUCHED)
    return frequencies * (count * (product + transforms) + of_taps) < steps * len(taps) * product


def _division(steps: int, before: int) -> tuple[int, int]:
    """Return into how many blocks steps are cut, and their length."""
    count = max(1, round(steps / max(_BLOCK, 4 * before)))
    return count, -(-steps // count)


def _overlapping(inputs: Array, before: int, length: int, count: int) -> Array:
    """Return blocks of so many steps, each with those before it, `[before + length, count, ...]`."""
    if count == 1:
        return inputs[:, None]
    missing = before + length * count - len(inputs)
    inputs = jnp.pad(inputs, [(0, missing)] + [(0, 0)] * (inputs.ndim - 1))
    blocks = inputs[before:].reshape(count, length, *inputs.shape[1:])
    ends = jnp.concatenate([inputs[None, :before], blocks[:-1, length - before :]])
    return jnp.moveaxis(jnp.concatenate([ends, blocks], axis=1), 1, 0)


def _along_time(matrix: Array, x: Array) -> Array:
    return jnp.tensordot(matrix, x, 1, precision="highest")


@functools.lru_cache(maxsize=64)
def _transforms(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what inputs, taps and products are multiplied by along time.

    With the transforms x = a + ib of the inputs and c + id of the taps, turned around, it is Gauss's product of complex
    numbers: from (a + b) c, a (d - c) and b (c + d) come ac - bd, the first less the last, and ad + bc.
    """
    frequencies = np.arange(size // 2 + 1)
    angles = 2 * math.pi / size * (np.outer(frequencies, np.arange(size)) % size)
    cosine, sine = np.cos(angles), np.sin(angles)
    of_inputs = np.concatenate([cosine - sine, cosine, -sine])
    of_taps = np.concatenate([cosine, sine - cosine, cosine + sine])
    are_real = (frequencies == 0) | (2 * frequencies == size)  # the others stand for their negatives, too
    back = np.concatenate([cosine - sine, -sine, -cosine]) * np.tile(np.where(are_real, 1, 2), 3)[:, None] / size
    needed = np.concatenate([np.ones_like(are_real), ~are_real, ~are_real])  # of real numbers the first alone
    return of_inputs[needed], of_taps[needed], back[needed].T
