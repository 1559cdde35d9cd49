"""Normalisation of any examples, and augmentation in space, of images [B, H, W, C] or recordings [B, T, H, W, C]."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.arguments import checked
from jsnn.rounding import wide
from jsnn.types import Array


@checked
def to_float(images: Array) -> Array:
    """Return uint8 images 0..255 as float32 in [0, 1], any shape; floating-point images pass unchanged.

    Raises:
        ValueError: another dtype.

    Examples:
        >>> to_float(jnp.array([0, 255], jnp.uint8))
        Array([0., 1.], dtype=float32)
    """
    images = jnp.asarray(images)
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images
    if images.dtype != jnp.uint8:
        raise ValueError(f"images must be uint8 (0..255) or floating point, got {images.dtype}: convert them")
    return images.astype(jnp.float32) / 255


@checked
def normalize(images: Array, mean: float | Sequence[float], std: float | Sequence[float]) -> Array:
    """Return (images - mean) / std for floating-point images [..., C], with one number each or one per channel.

    Raises:
        ValueError: integer images, a `std` that is not positive, or as many numbers as there are no channels.

    Examples:
        >>> normalize(jnp.array([[0.5, 1.0]]), mean=[0.5, 0.5], std=[0.25, 0.25])
        Array([[0., 2.]], dtype=float32)
    """
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images must be floating point, got {images.dtype}: call to_float first")
    shift, scale = np.asarray(mean), np.asarray(std)
    for name, values in (("mean", shift), ("std", scale)):
        if values.shape not in ((), (1,), images.shape[-1:]):
            raise ValueError(f"{name} must be a number or one per channel ({images.shape[-1]}), got {values.shape}")
    if not (scale > 0).all():
        raise ValueError(f"std must be > 0, got {std}")
    x = wide(images)
    return ((x - jnp.asarray(shift, x.dtype)) / jnp.asarray(scale, x.dtype)).astype(images.dtype)


@checked
def random_flip(key: Array, images: Array) -> Array:
    """Mirror each image left to right with probability 1/2, images [B, H, W, C] or recordings [B, T, H, W, C].

    Raises:
        ValueError: images of fewer axes.

    Examples:
        >>> random_flip(jax.random.key(0), jnp.ones((4, 8, 8, 1))).shape
        (4, 8, 8, 1)
    """
    _check_images(images)
    flipped = jax.random.bernoulli(key, shape=(images.shape[0], *[1] * (images.ndim - 1)))
    return jnp.where(flipped, images[..., ::-1, :], images)


@checked
def random_shift(key: Array, images: Array, pixels: int, *, mode: Literal["constant", "reflect"] = "constant") -> Array:
    """Shift each image of [B, H, W, C] by whole pixels, uniform in -pixels..pixels for each axis.

    Of recordings [B, T, H, W, C], all steps are shifted alike.

    What enters at the border is 0 (`mode="constant"`) or the mirror image (`mode="reflect"`), as in
    `jnp.pad`. With `pixels=4` this is the crop from a padded image of He et al. (2016, arXiv:1512.03385).

    Raises:
        ValueError: images of fewer axes, `pixels` negative or not below H and W, unknown mode.

    Examples:
        >>> random_shift(jax.random.key(0), jnp.ones((4, 8, 8, 1)), 2).shape
        (4, 8, 8, 1)
    """
    _check_images(images)
    if not 0 <= pixels < min(images.shape[-3:-1]):
        raise ValueError(f"pixels must be at least 0 and less than H and W of {images.shape}, got {pixels}")
    before = [0] * (images.ndim - 3)
    sides = [(0, 0) for _ in before] + [(pixels, pixels), (pixels, pixels), (0, 0)]
    padded = jnp.pad(images, sides, mode=mode)
    corners = jax.random.randint(key, (images.shape[0], 2), 0, 2 * pixels + 1)

    def crop(image: Array, corner: Array) -> Array:
        return jax.lax.dynamic_slice(image, (*before[1:], corner[0], corner[1], 0), images.shape[1:])

    return jax.vmap(crop)(padded, corners)


@checked
def cutout(key: Array, images: Array, size: int) -> Array:
    """Set a square of `size` x `size` pixels to 0 in each image of [B, H, W, C], or recording of [B, T, H, W, C].

    Its centre is uniform over all pixels, so that at the border a part of the square may lie outside (DeVries
    and Taylor 2017, arXiv:1708.04552). After `normalize` with the set's mean, 0 is the mean colour.

    Raises:
        ValueError: images of fewer axes, or a negative `size`.

    Examples:
        >>> cutout(jax.random.key(0), jnp.ones((4, 8, 8, 1)), 3).shape
        (4, 8, 8, 1)
    """
    _check_images(images)
    if size < 0:
        raise ValueError(f"size must be at least 0, got {size}")
    batch, (height, width) = images.shape[0], images.shape[-3:-1]
    centres = jax.random.randint(key, (batch, 2), 0, jnp.array([height, width]))

    def covered(length: int, centre: Array) -> Array:  # [B, length]
        offset = jnp.arange(length) - (centre[:, None] - size // 2)
        return (offset >= 0) & (offset < size)

    square = covered(height, centres[:, 0])[:, :, None] & covered(width, centres[:, 1])[:, None, :]
    square = square.reshape(batch, *[1] * (images.ndim - 4), height, width, 1)
    return jnp.where(square, jnp.zeros((), images.dtype), images)


def _check_images(images: Array) -> None:
    if images.ndim < 4:
        raise ValueError(f"images must have shape [B, T, H, W, C] or [B, H, W, C], got {images.shape}")
