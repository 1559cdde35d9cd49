"""Two-dimensional convolution that is fast on CPUs too, and above all its gradients.

XLA's CPU backend is slow at four things: the gradient of the kernel (a convolution with a kernel as large as an image),
the gradient of the input in a loop (ten times slower than outside), many images without padding, and several kernels
under `jax.vmap`. They are written here as matrix products over chunks of images that stay in cache, and as convolutions
that XLA runs well. Other platforms keep XLA's own. `python -m experiments.benchmark --case repairs` times both;
`tests/test_convolution.py` holds the gradients to XLA's.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.export import is_symbolic_dim

from jsnn.types import Array
from jsnn.varying import alike

Strides: TypeAlias = tuple[int, int]
Padding: TypeAlias = tuple[tuple[int, int], ...]  # before and after, of rows and columns
Convolve: TypeAlias = Callable[[Array, Array], Array]  # (images [N, H, W, C], kernel) -> [N, H', W', C']

_CHUNK_NUMBERS = 400_000  # in the columns of a chunk of images, so that they stay in cache
_VECTOR = 16  # outputs that the widest units take at once: a multiple of so many channels is convolved faster
_FEW_CHANNELS = 8  # below which columns are made faster with positions last
_MOST_INPUTS = 1.5  # for each output, strides apart; with more, their gradient is faster as a product
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

    def in_chunks(images: Array, kernel: Array) -> Array:
        filled = jnp.pad(kernel, ((0, 0), (0, 0), (0, 0), (0, -kernel.shape[3] % _VECTOR)))
        return _map(lambda image: as_xla_does(image[None], filled)[0, ..., : kernel.shape[3]], images, kernel.shape)

    is_whole = any(map(any, pads)) or is_symbolic_dim(images.shape[0])
    repaired = _one_kernel_at_a_time(as_xla_does if is_whole else in_chunks)
    return jax.lax.platform_dependent(images, kernel, cpu=repaired, default=as_xla_does)


def _forward(strides: Strides, pads: Padding, precision: Any, images: Array, kernel: Array) -> Array:
    if any(pad < 0 for axis in pads for pad in axis):  # with which XLA in JAX 0.10 reads what is not there
        images = _pad(images, tuple((min(low, 0), min(high, 0)) for low, high in pads))
        pads = tuple((max(low, 0), max(high, 0)) for low, high in pads)
    return jax.lax.conv_general_dilated(
        images, kernel, strides, pads, dimension_numbers=_DIMENSION_NUMBERS, precision=precision
    )


def _pad(images: Array, pads: Padding) -> Array:
    """Return images with zeros around them, or cut off where the padding is negative, which `jnp.pad` does not take."""
    return jax.lax.pad(images, jnp.zeros((), images.dtype), ((0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)))


def _one_kernel_at_a_time(convolve: Convolve) -> Convolve:
    """Return a convolution that `jax.vmap` over kernels runs for one kernel after another.

    XLA takes several kernels for groups of channels, and is two to seven times slower with them.
    """
    convolve = jax.custom_batching.custom_vmap(convolve)

    @convolve.def_vmap
    def of_several(size: int, has_axis: list[bool], images: Array, kernel: Array) -> tuple[Array, bool]:
        if has_axis[1]:
            images = images if has_axis[0] else jnp.broadcast_to(images, (size, *images.shape))
            return jax.lax.map(lambda pair: convolve(*pair), (images, kernel)), True
        count, *shape = images.shape[1:]
        outputs = convolve(images.reshape(size * count, *shape), kernel)
        return outputs.reshape(size, count, *outputs.shape[1:]), True

    return convolve


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
        sizes, found = images.shape[1:3], gradient.shape[1:3]
        around = tuple(
            (window - 1 - low, size - 1 + low - (count - 1) * stride)
            for window, (low, _), size, count, stride in zip(kernel.shape, pads, sizes, found, strides)
        )
        has_few_inputs = math.prod(sizes) <= _MOST_INPUTS * math.prod(found) * math.prod(strides)
        if has_few_inputs and min(map(min, around)) >= 0:
            passed_back = _one_kernel_at_a_time(functools.partial(_by_convolution, strides, around, precision))
        else:
            passed_back = functools.partial(_by_product, strides, pads, precision, sizes)
        return (
            passed_back(gradient, kernel),
            _kernel_gradient(strides, pads, precision, images, kernel.shape, gradient),
        )

    return jax.lax.platform_dependent(*residuals, gradient, cpu=repaired, default=as_xla_does)


def _by_convolution(strides: Strides, around: Padding, precision: Any, gradient: Array, kernel: Array) -> Array:
    """Return the gradient of the images: the outputs' gradient, convolved with the kernel turned round.

    XLA's own is the same one, written so that it is ten times slower in a loop.
    """
    turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    return jax.lax.conv_general_dilated(
        gradient, turned, (1, 1), around, strides, dimension_numbers=_DIMENSION_NUMBERS, precision=precision
    )


def _map(
    function: Callable[[Array], Array], images: Array, shape: tuple[int, ...], numbers: int = _CHUNK_NUMBERS
) -> Array:
    """Return the function of each image, computed for a chunk of them at a time."""
    return jax.lax.map(function, images, batch_size=_chunk(images, shape, numbers))


def _chunk(images: Array, shape: tuple[int, ...], numbers: int = _CHUNK_NUMBERS) -> int:
    """Return how many images to take at a time, at each of whose positions a kernel of this shape sees kh*kw*C numbers.

    A divisor of their number where one is near: a chunk of another size is compiled once more. One, if nobody knows
    yet how many there are, as in a network that is exported.
    """
    count = images.shape[0]
    if is_symbolic_dim(count):
        return 1
    of_image = math.prod(images.shape[1:3]) * math.prod(shape[:3])
    most = min(max(1, numbers // max(1, of_image)), max(1, count))
    near = [size for size in range((most + 1) // 2, 3 * most // 2 + 1) if count % size == 0]
    return min(near, key=lambda size: abs(math.log(size / most)), default=most)


def _by_product(
    strides: Strides, pads: Padding, precision: Any, shape: tuple[int, ...], gradient: Array, kernel: Array
) -> Array:
    """Return the gradient of the images: what each output passes back to the inputs it saw, in one product, summed."""
    height, width, channels, out_channels = kernel.shape

    def of_image(gradient: Array) -> Array:
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

    return _map(of_image, gradient, kernel.shape, _CHUNK_NUMBERS // 4)  # which are read again and again


def _add_overlapping(x: Array, axis: int, stride: int) -> Array:
    """Return the sum of x[..., k, :] over k, each shifted by k along an axis whose entries lie `stride` apart."""
    apart = [(0, 0, stride - 1 if a == axis else 0) for a in range(x.ndim)]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), apart)
    length, count = x.shape[axis], x.shape[-2]
    total = jnp.zeros((*x.shape[:axis], length + count - 1, *x.shape[axis + 1 : -2], x.shape[-1]), x.dtype)
    for k in range(count):
        total = total.at[(*[slice(None)] * axis, slice(k, k + length))].add(x[..., k, :])
    return total


def _kernel_gradient(
    strides: Strides, pads: Padding, precision: Any, images: Array, shape: tuple[int, ...], gradient: Array
) -> Array:
    """Return the gradient of a kernel: the sum of one matrix product for each chunk of images."""
    matmul = functools.partial(
        jnp.matmul, precision=precision, preferred_element_type=jnp.promote_types(images.dtype, jnp.float32)
    )  # a sum over many chunks, too long for bfloat16
    is_few = shape[2] < _FEW_CHANNELS
    is_wide = not is_few and math.prod(shape[:3]) > shape[3]  # products are faster with their wider factor on the right

    def of_chunk(images: Array, gradient: Array) -> Array:
        seen = (_rows if is_few else _columns)(strides, shape, _pad(images, pads))
        passed = gradient.reshape(-1, shape[-1])
        return matmul(passed.T, seen.T) if is_wide else matmul(seen, passed)

    chunk = _chunk(gradient, shape)
    count = images.shape[0] // chunk * chunk
    total = of_chunk(images[count:], gradient[count:])
    if count:

        def add(total: Array, chunk: tuple[Array, Array]) -> tuple[Array, None]:
            return total + of_chunk(*chunk), None

        def in_chunks(array: Array) -> Array:
            return array[:count].reshape(-1, chunk, *array.shape[1:])

        total, _ = jax.lax.scan(add, total, (in_chunks(images), in_chunks(gradient)))
    return (total.T if is_wide else total).reshape(shape).astype(images.dtype)


def _columns(strides: Strides, shape: tuple[int, ...], images: Array) -> Array:
    """Return what each output sees of its image, `[N, H, W, C] -> [kh*kw*C, N*H'*W']`."""
    (rows, down), (columns, along) = _windows(strides, shape, images.shape[1:3])
    beside = [images[:, :, j : j + columns : along] for j in range(shape[1])]
    if shape[1] * shape[2] >= _LONG_RUN:
        beside = [jnp.concatenate(beside, axis=-1)]
    seen = jnp.concatenate([part[:, i : i + rows : down] for i in range(shape[0]) for part in beside], axis=-1)
    return seen.reshape(-1, seen.shape[-1]).T


def _rows(strides: Strides, shape: tuple[int, ...], images: Array) -> Array:
    """Return the same as `_columns`, in an order in memory that is faster where channels are few."""
    (rows, down), (columns, along) = _windows(strides, shape, images.shape[1:3])
    channels = jnp.moveaxis(images, -1, 0)
    seen = [channels[:, :, i : i + rows : down, j : j + columns : along] for i, j in np.ndindex(*shape[:2])]
    return jnp.stack(seen).reshape(math.prod(shape[:3]), -1)


def _windows(strides: Strides, shape: tuple[int, ...], sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return, for each axis, over how many positions a window moves and by which stride."""
    return [(size - window + 1, stride) for size, window, stride in zip(sizes, shape, strides)]


_convolve.defvjp(_convolve_forward, _convolve_backward)
