"""Normalisation and augmentation: hand-computed cases, distributions, jit = eager, dtype, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnn import augment

IMAGES = np.arange(1, 6 * 5 * 4 * 3 + 1, dtype=np.float32).reshape(6, 5, 4, 3)
RECORDINGS = np.arange(1, 6 * 9 * 5 * 4 * 3 + 1, dtype=np.float32).reshape(6, 9, 5, 4, 3)
RANDOM = {
    "random_flip": augment.random_flip,
    "random_shift": lambda key, images: augment.random_shift(key, images, 2),
    "random_shift_reflect": lambda key, images: augment.random_shift(key, images, 2, mode="reflect"),
    "cutout": lambda key, images: augment.cutout(key, images, 3),
    # of which the second axis is time
    "time_shift": lambda key, inputs: augment.time_shift(key, inputs, 2),
    "time_stretch": lambda key, inputs: augment.time_stretch(key, inputs, 1.5),
    "jitter": lambda key, inputs: augment.jitter(key, inputs, 2),
    "drop": lambda key, inputs: augment.drop(key, inputs, 0.3),
    "channel_shift": lambda key, inputs: augment.channel_shift(key, inputs, 2),
    "cutmix": lambda key, inputs: augment.cutmix(
        key, inputs + jnp.arange(len(inputs), dtype=inputs.dtype)[:, None, None, None], jnp.arange(len(inputs))
    )[0],
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


def test_normalize_rounds_once():
    images = jnp.array([[0.4921875]], jnp.bfloat16)  # the nearest to the mean, from which it differs all the same
    expected = (np.float32(0.4921875) - np.float32(0.4914)) / np.float32(0.247)
    np.testing.assert_allclose(augment.normalize(images, 0.4914, 0.247).astype(jnp.float32), [[expected]], rtol=4e-3)


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


def test_nothing_asked_for_changes_nothing():
    functions = (
        lambda key, x: augment.random_shift(key, x, 0),
        lambda key, x: augment.cutout(key, x, 0),
        lambda key, x: augment.time_shift(key, x, 0),
        lambda key, x: augment.channel_shift(key, x, 0),
        lambda key, x: augment.jitter(key, x, 0),
        lambda key, x: augment.drop(key, x, 0.0),
        lambda key, x: augment.time_stretch(key, x, 1.0),
    )
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


@pytest.mark.parametrize("name", sorted(set(RANDOM) - {"cutmix"}))  # which draws an order of the whole batch
def test_an_export_of_any_batch(name):
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, 5, 4, 3), jnp.float32)
    exported = jax.export.export(jax.jit(lambda images: RANDOM[name](jax.random.key(0), images)))(images)
    assert exported.out_avals[0].shape == (batch, 5, 4, 3)


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


# Recordings [B, T, ...]


@pytest.mark.parametrize("name", ["random_flip", "random_shift", "random_shift_reflect", "cutout"])
def test_all_steps_of_a_recording_change_alike_in_space(name):
    steps = np.stack([IMAGES, 2 * IMAGES, 3 * IMAGES], axis=1)
    result = jax.jit(RANDOM[name])(jax.random.key(4), steps)
    alone = np.asarray(jax.jit(RANDOM[name])(jax.random.key(4), IMAGES))
    np.testing.assert_array_equal(result, np.stack([alone, 2 * alone, 3 * alone], axis=1))


def moved(recording: np.ndarray, by: int, axis: int) -> np.ndarray:
    """A recording [T, ...] moved along an axis by hand, with zeros where nothing was."""
    out = np.zeros_like(recording)
    for place in range(recording.shape[axis]):
        if 0 <= place + by < recording.shape[axis]:
            index, source = ([slice(None)] * recording.ndim for _ in range(2))
            index[axis], source[axis] = place + by, place
            out[tuple(index)] = recording[tuple(source)]
    return out


@pytest.mark.parametrize(
    ("function", "axis"),
    [
        (lambda key, x: augment.time_shift(key, x, 2), 0),
        (lambda key, x: augment.channel_shift(key, x, 2), -1),
    ],
)
def test_every_shift_along_an_axis_is_one_made_by_hand_and_all_occur(function, axis):
    inputs = np.tile(RECORDINGS[:1], (200, 1, 1, 1, 1))
    result = np.asarray(jax.jit(function)(jax.random.key(2), inputs))
    candidates = np.stack([moved(RECORDINGS[0], by, axis) for by in range(-2, 3)])
    matches = (result[:, None] == candidates[None]).all(axis=(2, 3, 4, 5))
    assert (matches.sum(axis=1) == 1).all()
    assert (matches.sum(axis=0) > 20).all()


def test_a_stretch_moves_every_spike_once():
    """The scale is seen from the recording: of a ramp, the value k stands at floor((k + 1/2) s)."""
    ramp = jnp.tile(jnp.arange(1.0, 101)[None, :, None], (300, 1, 1))
    result = np.asarray(jax.jit(lambda key, x: augment.time_stretch(key, x, 2.0))(jax.random.key(3), ramp))[..., 0]
    first = np.array([np.flatnonzero(one == 50)[:1].tolist() for one in result], object)  # where it stands alone
    scales = np.array([found[0] / 49.5 for found in first if found])
    assert 0.5 <= scales.min() < 1.0
    assert 1.5 < scales.max() <= 2.0
    compressed = [one for one in result if np.count_nonzero(one[60:]) == 0]
    assert compressed
    assert all(one.sum() == 5050 for one in compressed)  # summed up, and nothing lost
    stretched = [one for one in result if np.count_nonzero(one) < 60 and one[-1] + one[-2]]
    assert stretched
    for one in stretched:
        kept = one[one > 0]
        np.testing.assert_array_equal(kept, np.arange(1, len(kept) + 1))  # in order, none doubled


def test_jitter_moves_each_place_by_itself():
    inputs = np.zeros((400, 9, 3), np.uint8)
    inputs[:, 4, 0] = inputs[:, 0, 1] = 1
    result = np.asarray(jax.jit(lambda key, x: augment.jitter(key, x, 2))(jax.random.key(1), inputs))
    np.testing.assert_array_equal(result[:, :, 0].sum(axis=1), 1)
    counts = result.sum(axis=0)
    assert (counts[2:7, 0] > 50).all()
    assert counts[:2, 0].sum() == counts[7:, 0].sum() == counts[:, 2].sum() == 0
    assert (counts[:3, 1] > 50).all()
    assert 120 < counts[:, 1].sum() < 360  # two of five leave


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("value", "dtype"), [(200, np.uint8), (-100, np.int8), (9, np.uint32), (0.5, jnp.bfloat16), (200.0, jnp.float32)]
)
def test_what_meets_is_summed_up_and_stays_in_its_dtype(value, dtype):
    inputs = jnp.full((50, 2, 1), value, dtype)
    for function in (lambda key, x: augment.jitter(key, x, 1), lambda key, x: augment.time_stretch(key, x, 4.0)):
        result = jax.jit(function)(jax.random.key(0), inputs)
        assert result.dtype == dtype
        assert float(result.max() if value > 0 else result.min()) == {np.uint8: 255, np.int8: -128}.get(
            dtype, 2 * value
        )


@pytest.mark.parametrize(
    ("axes", "shape"), [(None, (50, 9, 5, 4)), ((1,), (50, 9, 1, 1)), ((-1,), (50, 1, 1, 4)), ((1, 2), (50, 9, 5, 1))]
)
def test_drop_along_axes(axes, shape):
    inputs = np.ones((50, 9, 5, 4), np.uint8)
    result = np.asarray(jax.jit(lambda key, x: augment.drop(key, x, 0.25, axes=axes))(jax.random.key(7), inputs))
    same = result[tuple(slice(0, size) for size in shape)]
    np.testing.assert_array_equal(result, np.broadcast_to(same, inputs.shape))
    assert abs(same.mean() - 0.75) < 0.1
    for axis in (axis for axis, size in enumerate(shape) if size > 1):
        assert (same != same.take([0], axis)).any()


@pytest.mark.rows(2)
@pytest.mark.parametrize("axes", [(1,), (2, 3), (1, -2)])
def test_cutmix_takes_one_box_from_another_recording(axes):
    batch = 64
    inputs = np.broadcast_to(np.arange(batch, dtype=np.float32)[:, None, None, None], (batch, 9, 5, 4))
    onehot = np.eye(batch, dtype=np.float32)
    function = jax.jit(lambda key, x, y: augment.cutmix(key, x, y, axes=axes))
    mixed, labels = map(np.asarray, function(jax.random.key(9), inputs, np.arange(batch)))
    same, shares = map(np.asarray, function(jax.random.key(9), inputs, onehot))
    np.testing.assert_array_equal(same, mixed)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    sizes = []
    for index in range(batch):
        others = set(np.unique(mixed[index])) - {index}
        assert len(others) <= 1
        inside = mixed[index] != index
        sizes.append(inside.mean())
        if others:
            (other,) = map(int, others)
            assert shares[index, other] == pytest.approx(inside.mean(), abs=1e-6)
            assert labels[index] == (other if inside.mean() > 0.5 else index)
            corners = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
            assert inside.sum() == np.prod([len(one) for one in corners])  # a box
            for axis, places in enumerate(corners, 1):
                assert (np.diff(places) == 1).all()
                assert axis in [a % 4 for a in axes] or len(places) == inputs.shape[axis]
    assert 0.35 < np.mean(sizes) < 0.65  # uniform shares


KEY, SOME = jax.random.key(0), np.zeros((4, 9, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: augment.time_shift(KEY, SOME, 9),
            "steps must be at least 0 and less than 9, the size of the axis, got 9",
        ),
        (lambda: augment.time_shift(KEY, SOME[0, 0], 1), r"inputs must have shape \[B, T, ...\], .* got \(3,\)"),
        (lambda: augment.time_shift(KEY, SOME[:0], 1), r"none of its sizes 0, got \(0, 9, 3\)"),
        (lambda: augment.channel_shift(KEY, SOME[..., 0], 1), r"\[B, T, ..., C\], .* got \(4, 9\)"),
        (lambda: augment.channel_shift(KEY, SOME, -1), "channels must be at least 0 and less than 3, .* got -1"),
        (lambda: augment.jitter(KEY, SOME, 9), "steps must be at least 0 and less than 9"),
        (lambda: augment.time_stretch(KEY, SOME, 0.5), "factor must be at least 1 and finite, got 0.5"),
        (lambda: augment.time_stretch(KEY, SOME, np.inf), "factor must be at least 1 and finite, got inf"),
        (lambda: augment.drop(KEY, SOME, 1.5), r"probability must lie in \[0, 1\], got 1.5"),
        (lambda: augment.drop(KEY, SOME, 0.5, axes=(0, 1)), "axes must name axes .* without the batch, got .0, 1."),
        (lambda: augment.drop(KEY, SOME, 0.5, axes=(1, -2)), "each once"),
        (lambda: augment.cutmix(KEY, SOME, np.arange(4), axes=(3,)), r"axes must name axes of inputs \(4, 9, 3\)"),
        (lambda: augment.cutmix(KEY, SOME, np.arange(4), axes=()), r"axes must name axes"),
        (lambda: augment.cutmix(KEY, SOME, np.arange(3)), r"targets must be integers \[B\] or floating point \[B, N\]"),
        (lambda: augment.cutmix(KEY, SOME, np.eye(4, dtype=int)), "got int.* of shape .4, 4."),
        (lambda: augment.cutmix(KEY, SOME, np.eye(4, dtype=bool)), "targets must be .* floating point .* got bool"),
    ],
)
def test_bad_recordings(call, message):
    with pytest.raises(ValueError, match=message):
        call()
