"""Two-dimensional convolution that is fast on CPUs too, and above all its gradients.

XLA's CPU backend is slow at what spiking networks need at every step: the gradient of the kernel (a convolution with a
kernel as large as an image) and that of the input (ten times slower still inside a loop). Both, and the convolution
itself where it has many channels, are written here as matrix products, over chunks of images that stay in cache. Other
platforms keep XLA's own. `python -m experiments.benchmark --case repairs` times both; `tests/test_convolution.py` holds
the gradients to XLA's.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax.export import is_symbolic_dim

from jsnn.types import Array
from jsnn.varying import alike

Strides: TypeAlias = tuple[int, int]
Padding: TypeAlias = tuple[tuple[int, int], tuple[int, int]]

_CHUNK_NUMBERS = 800_000  # in the columns of a chunk of images, so that they stay in cache
_MANY_CHANNELS = 8  # from which on a convolution gains from chunks; with few it loses a little
_LONG_RUN = 128  # numbers side by side from which on it is as fast to put them together first, and sooner compiled
_DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")


class Conv(nnx.Conv):
    """`flax.nnx.Conv` with gradients that are fast on CPUs: the same arguments, numbers and parameters.

    They are gradients of reverse mode, such as `jax.grad`; for `jax.jvp` or `jax.hessian` take `flax.nnx.Conv`.

    Inputs [B, H, W, in_features] -> [B, H', W', out_features].

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> layer = jsnn.Conv(1, 4, (5, 5), padding="VALID", rngs=nnx.Rngs(0))
        >>> layer(jnp.zeros((2, 28, 28, 1))).shape
        (2, 24, 24, 4)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, conv_general_dilated=conv_general_dilated, **kwargs)


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: tuple[int, ...],
    padding: Any,
    lhs_dilation: tuple[int, ...] | None = None,
    rhs_dilation: tuple[int, ...] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **kwargs: Any,
) -> Array:
    """Return `jax.lax.conv_general_dilated`, with the fast gradients for plain two-dimensional convolutions.

    Plain means: [N, H, W, C] images, kernels [kh, kw, C, C'] no larger than the padded images, no dilation, no groups,
    and sizes, but for N, that are known and not 0. Everything else goes to JAX as it is.
    """
    dilated = any(d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    plain = (
        lhs.ndim == 4
        and not dilated
        and feature_group_count == 1
        and kwargs.get("batch_group_count", 1) == 1
        and not any(kwargs.get(name) for name in ("preferred_element_type", "out_sharding"))
        and _is_channels_last(dimension_numbers)
        and all(isinstance(size, int) and size for size in (*lhs.shape[1:], *rhs.shape))
    )
    if plain:
        if isinstance(padding, str):
            padding = jax.lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
        pads = tuple((int(low), int(high)) for low, high in padding)
        if all(size + sum(pad) >= window for size, pad, window in zip(lhs.shape[1:3], pads, rhs.shape)):
            return _convolve(tuple(window_strides), pads, kwargs.get("precision"), *alike((lhs, rhs)))
    return jax.lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        dimension_numbers,
        feature_group_count,
        **kwargs,
    )


def _is_channels_last(dimension_numbers: Any) -> bool:
    expected = jax.lax.conv_dimension_numbers((1, 1, 1, 1), (1, 1, 1, 1), _DIMENSION_NUMBERS)
    return dimension_numbers in (expected, _DIMENSION_NUMBERS)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _convolve(strides: Strides, pads: Padding, precision: Any, images: Array, kernel: Array) -> Array:
    as_xla_does = functools.partial(_forward, strides, pads, precision)
    if images.shape[-1] < _MANY_CHANNELS:
        return as_xla_does(images, kernel)

    def repaired(images: Array, kernel: Array) -> Array:
        def of_image(image: Array) -> Array:
            columns = _columns(strides, pads, kernel.shape, image[None])[0]
            product = jnp.matmul(columns, kernel.reshape(-1, kernel.shape[-1]), precision=precision)
            return product.astype(images.dtype)

        return _map(of_image, images, kernel.shape)

    return jax.lax.platform_dependent(images, kernel, cpu=repaired, default=as_xla_does)


def _columns(strides: Strides, pads: Padding, shape: tuple[int, ...], images: Array) -> Array:
    """Return what each output sees of its image, `[N, H, W, C] -> [N, H', W', kh*kw*C]`."""
    # unlike jnp.pad, this also takes negative padding
    padded = jax.lax.pad(images, jnp.zeros((), images.dtype), ((0, 0, 0), *((*p, 0) for p in pads), (0, 0, 0)))
    (rows, down), (columns, along) = (
        (size - window + 1, stride) for size, window, stride in zip(padded.shape[1:], shape, strides)
    )
    beside = [padded[:, :, j : j + columns : along] for j in range(shape[1])]
    if shape[1] * shape[2] >= _LONG_RUN:
        beside = [jnp.concatenate(beside, axis=-1)]
    return jnp.concatenate([part[:, i : i + rows : down] for i in range(shape[0]) for part in beside], axis=-1)


def _forward(strides: Strides, pads: Padding, precision: Any, images: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(
        images, kernel, strides, pads, dimension_numbers=_DIMENSION_NUMBERS, precision=precision
    )


def _convolve_forward(
    strides: Strides, pads: Padding, precision: Any, images: Array, kernel: Array
) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(strides, pads, precision, images, kernel), (images, kernel)


def _convolve_backward(
    strides: Strides, pads: Padding, precision: Any, residuals: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    def as_xla_does(images: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        return jax.vjp(functools.partial(_forward, strides, pads, precision), images, kernel)[1](gradient)

    def repaired(images: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        return (
            _map(
                functools.partial(_input_gradient, strides, pads, precision, kernel, images.shape[1:3]),
                gradient,
                kernel.shape,
            ),
            _kernel_gradient(strides, pads, precision, images, kernel.shape, gradient),
        )

    return jax.lax.platform_dependent(*residuals, gradient, cpu=repaired, default=as_xla_does)


def _map(function: Callable[[Array], Array], images: Array, shape: tuple[int, ...]) -> Array:
    """Return the function of each image, computed for a chunk of them at a time."""
    return jax.lax.map(function, images, batch_size=_chunk(images, images.shape[-1], shape))


def _chunk(images: Array, channels: int, shape: tuple[int, ...]) -> int:
    """Return how many images to take at a time, of each of whose positions a kernel sees kh*kw*channels numbers.

    A divisor of their number where one is near: a chunk of another size is compiled once more. One, if nobody knows
    yet how many there are, as in a network that is exported.
    """
    count = images.shape[0]
    if is_symbolic_dim(count):
        return 1
    numbers = math.prod(images.shape[1:3]) * math.prod(shape[:2]) * channels
    most = min(max(1, _CHUNK_NUMBERS // max(1, numbers)), max(1, count))
    near = [size for size in range((most + 1) // 2, 3 * most // 2 + 1) if count % size == 0]
    return min(near, key=lambda size: abs(math.log(size / most)), default=most)


def _input_gradient(
    strides: Strides, pads: Padding, precision: Any, kernel: Array, shape: tuple[int, ...], gradient: Array
) -> Array:
    """Return the gradient of one image: what each output passes back to the inputs it saw, in one product, summed."""
    height, width, channels, out_channels = kernel.shape
    passed = jnp.matmul(
        gradient.reshape(-1, out_channels),
        kernel.reshape(-1, out_channels).T,
        precision=precision,
        preferred_element_type=jnp.promote_types(gradient.dtype, jnp.float32),
    ).reshape(*gradient.shape[:2], height, width, channels)
    padded = _add_overlapping(_add_overlapping(passed, 1, strides[1]), 0, strides[0])
    # cut off what lies in the padding, and add the rows at the end that no window saw
    crop = [(-low, size + low - found, 0) for size, found, (low, _) in zip(shape, padded.shape, pads)]
    return jax.lax.pad(padded, jnp.zeros((), padded.dtype), (*crop, (0, 0, 0))).astype(gradient.dtype)


def _add_overlapping(x: Array, axis: int, stride: int) -> Array:
    """Return the sum of x[..., k, :] over k, each shifted by k along an axis whose entries lie `stride` apart."""
    count = x.shape[-2]
    zero = jnp.zeros((), x.dtype)

    def shifted(k: int) -> Array:
        edges = [(k, count - 1 - k, stride - 1) if a == axis else (0, 0, 0) for a in range(x.ndim - 1)]
        return jax.lax.pad(x[..., k, :], zero, edges)

    return functools.reduce(jnp.add, map(shifted, range(count)))


def _kernel_gradient(
    strides: Strides, pads: Padding, precision: Any, images: Array, shape: tuple[int, ...], gradient: Array
) -> Array:
    """Return the gradient of a kernel: the sum of one matrix product for each chunk of images.

    Products are faster with their wider factor on the right.
    """
    matmul = functools.partial(
        jnp.matmul, precision=precision, preferred_element_type=jnp.promote_types(images.dtype, jnp.float32)
    )  # a sum over many chunks, too long for bfloat16
    is_wide = math.prod(shape[:3]) > shape[3]

    def of_chunk(images: Array, gradient: Array) -> Array:
        columns = _columns(strides, pads, shape, images)
        seen, passed = columns.reshape(-1, columns.shape[-1]), gradient.reshape(-1, shape[-1])
        return matmul(passed.T, seen) if is_wide else matmul(seen.T, passed)

    chunk = _chunk(gradient, images.shape[-1], shape)
    count = images.shape[0] // chunk * chunk
    total = of_chunk(images[count:], gradient[count:])
    if count:

        def add(total: Array, chunk: tuple[Array, Array]) -> tuple[Array, None]:
            return total + of_chunk(*chunk), None

        def in_chunks(array: Array) -> Array:
            return array[:count].reshape(-1, chunk, *array.shape[1:])

        total, _ = jax.lax.scan(add, total, (in_chunks(images), in_chunks(gradient)))
    return (total.T if is_wide else total).reshape(shape).astype(images.dtype)


_convolve.defvjp(_convolve_forward, _convolve_backward)
