"""Normalisation and augmentation: hand-computed cases, distributions, jit = eager, dtype, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnn import augment

IMAGES = np.arange(1, 6 * 5 * 4 * 3 + 1, dtype=np.float32).reshape(6, 5, 4, 3)
RANDOM = {
    "random_flip": augment.random_flip,
    "random_shift": lambda key, images: augment.random_shift(key, images, 2),
    "random_shift_reflect": lambda key, images: augment.random_shift(key, images, 2, mode="reflect"),
    "cutout": lambda key, images: augment.cutout(key, images, 3),
}


def shifted(image: np.ndarray, down: int, right: int, mode: str) -> np.ndarray:
    """The image moved by hand, pixel by pixel."""
    height, width, _ = image.shape
    out = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y, x = row - down, column - right
            if mode == "reflect":
                y, x = (height - 1) - abs((height - 1) - abs(y)), (width - 1) - abs((width - 1) - abs(x))
            if 0 <= y < height and 0 <= x < width:
                out[row, column] = image[y, x]
    return out


def test_to_float_scales_bytes_and_leaves_floats():
    np.testing.assert_allclose(augment.to_float(np.array([0, 51, 255], np.uint8)), [0.0, 0.2, 1.0], rtol=1e-6)
    half = jnp.array([0.5], jnp.bfloat16)
    assert augment.to_float(half) is half


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [(1.0, 2.0, [[0.0, 1.0, 3.5]]), ([1.0, 2.0, 4.0], [1.0, 0.5, 4.0], [[0.0, 2.0, 1.0]])],
)
def test_normalize_by_hand(mean, std, expected, dtype):
    images = jnp.array([[1.0, 3.0, 8.0]], dtype)
    result = jax.jit(lambda x: augment.normalize(x, mean, std))(images)
    assert result.dtype == dtype
    np.testing.assert_allclose(np.asarray(result, np.float32), expected)


def test_flip_mirrors_about_half_of_the_images():
    images = np.tile(IMAGES[:1], (400, 1, 1, 1))
    result = np.asarray(jax.jit(augment.random_flip)(jax.random.key(1), images))
    mirrored = (result == images[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (result == images).all(axis=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 160 < mirrored.sum() < 240


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_every_shift_is_one_made_by_hand_and_all_occur(mode):
    images = np.tile(IMAGES[:1], (300, 1, 1, 1))
    shift = jax.jit(lambda key, x: augment.random_shift(key, x, 2, mode=mode))
    result = np.asarray(shift(jax.random.key(2), images))
    candidates = np.stack([shifted(IMAGES[0], down, right, mode) for down in range(-2, 3) for right in range(-2, 3)])
    matches = (result[:, None] == candidates[None]).all(axis=(2, 3, 4))  # [images, shifts]
    assert (matches.sum(axis=1) == 1).all()
    assert matches.any(axis=0).all()


def test_no_shift_and_no_cutout_change_nothing():
    functions = (lambda key, x: augment.random_shift(key, x, 0), lambda key, x: augment.cutout(key, x, 0))
    for function in functions:
        np.testing.assert_array_equal(jax.jit(function)(jax.random.key(0), IMAGES), IMAGES)


@pytest.mark.rows(2)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_cutout_removes_one_square_that_the_border_may_clip(size):
    images = np.tile(IMAGES[:1], (300, 1, 1, 1))
    result = np.asarray(jax.jit(lambda key, x: augment.cutout(key, x, size))(jax.random.key(3), images))
    height, width = images.shape[1:3]
    candidates = []
    for row in range(height):
        for column in range(width):
            image = IMAGES[0].copy()
            top, left = row - size // 2, column - size // 2
            image[max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
            candidates.append(image)
    matches = (result[:, None] == np.stack(candidates)[None]).all(axis=(2, 3, 4))  # [images, centres]
    assert matches.any(axis=1).all()
    assert matches.any(axis=0).all()


@pytest.mark.rows(1)
@pytest.mark.parametrize("name", RANDOM)
def test_random_functions_are_pure_and_draw_for_each_image(name):
    images = jnp.asarray(np.tile(IMAGES[:1], (64, 1, 1, 1)), jnp.uint8)
    function = jax.jit(RANDOM[name])
    result = np.asarray(function(jax.random.key(5), images))
    np.testing.assert_array_equal(result, RANDOM[name](jax.random.key(5), images))
    assert (result != np.asarray(function(jax.random.key(6), images))).any()
    assert (result != result[:1]).any()


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.bfloat16, jnp.float16, jnp.float32])
def test_random_functions_keep_shape_and_dtype(name, dtype):
    images = jax.ShapeDtypeStruct((6, 5, 4, 3), dtype)
    result = jax.eval_shape(RANDOM[name], jax.random.key(0), images)
    assert (result.shape, result.dtype) == (images.shape, images.dtype)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: augment.to_float(np.array([1, 2])), "uint8 .* got int"),
        (lambda: augment.normalize(np.zeros((2, 3), np.uint8), 0.0, 1.0), "call to_float first"),
        (lambda: augment.normalize(IMAGES, 0.0, 0.0), "std must be > 0, got 0.0"),
        (lambda: augment.normalize(IMAGES, [0.0, 0.0], 1.0), r"mean .* one per channel \(3\), got \(2,\)"),
        (lambda: augment.normalize(IMAGES, 0.0, [1.0] * 5), r"std .* one per channel \(3\), got \(5,\)"),
        (lambda: augment.random_flip(jax.random.key(0), IMAGES[0]), r"\[B, H, W, C\], got \(5, 4, 3\)"),
        (lambda: augment.random_shift(jax.random.key(0), IMAGES[0], 1), r"\[B, H, W, C\]"),
        (lambda: augment.random_shift(jax.random.key(0), IMAGES, -1), "pixels .* got -1"),
        (lambda: augment.random_shift(jax.random.key(0), IMAGES, 4), "pixels .* got 4"),
        (lambda: augment.random_shift(jax.random.key(0), IMAGES, 1, mode="wrap"), "mode .* got 'wrap'"),
        (lambda: augment.cutout(jax.random.key(0), IMAGES[0], 1), r"\[B, H, W, C\]"),
        (lambda: augment.cutout(jax.random.key(0), IMAGES, -2), "size must be at least 0, got -2"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
