"""Images on a grid: that each stands where its caption says, and what is refused."""

import numpy as np
import pytest
from flax import nnx
from golden import note_of
from matplotlib.figure import Figure

from jsnn import plot

RNG = np.random.default_rng(0)


def captions(ax):
    return [text.get_text() for text in ax.texts]


def tiles(ax, shape):
    """The tiles below the captions, cut out of the one image that is drawn."""
    grid = np.ma.filled(ax.images[0].get_array(), np.nan)
    corners = [(int(np.ceil(text.get_position()[1])), text.get_position()[0] - (shape[1] - 1) / 2) for text in ax.texts]
    return np.stack([grid[top : top + shape[0], round(left) : round(left) + shape[1]] for top, left in corners])


@pytest.mark.parametrize("count", [1, 5, 40])
def test_every_image_stands_below_its_caption(count):
    images = RNG.random((count, 6, 9))
    ax = plot.images(images, captions=[f"{k}\nof {count}" for k in range(count)])
    np.testing.assert_array_equal(tiles(ax, (6, 9)), images)
    assert captions(ax)[-1] == f"{count - 1}\nof {count}"


def test_images_in_colour():
    images = RNG.integers(0, 256, (3, 6, 5, 3), np.uint8)
    ax = plot.images(images, captions=["a", "b", "c"])
    shown = tiles(ax, (6, 5))
    np.testing.assert_allclose(shown[..., :3], images / 255)
    np.testing.assert_array_equal(shown[..., 3], 1)
    assert ax.images[0].get_array()[0, 0, 3] == 0  # between them nothing is drawn


def test_images_with_one_channel_and_without_captions():
    images = RNG.random((4, 5, 5, 1))
    grid = plot.images(images).images[0].get_array()
    assert np.ma.count(grid) == images.size
    assert captions(plot.images(images)) == []


def test_a_limit_is_said():
    ax = plot.images(np.zeros((100, 4, 4)), captions=list(map(str, range(100))), limit=10)
    assert (len(ax.texts), note_of(ax)) == (10, "the first 10 of 100")


def test_captions_keep_their_room_in_small_axes():
    ax = Figure(figsize=(3, 3), dpi=100).add_subplot()
    plot.images(np.zeros((30, 28, 28)), captions=["two\nlines"] * 30, ax=ax)
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    heights = sorted({round(box.y0) for box in boxes}, reverse=True)
    assert min(-np.diff(heights)) > boxes[0].height  # the rows of captions do not run into each other


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((4, 5), {}, r"images must be \[K, H, W\], or \[K, H, W, 3\] in colour, got shape \(4, 5\)"),
        ((4, 5, 5, 2), {}, r"got shape \(4, 5, 5, 2\)"),
        ((4, 5, 5), {"captions": ["a"]}, "captions must be as many as the images, 4, got 1"),
        ((4, 5, 5), {"limit": 0}, "limit must be >= 1, got 0"),
    ],
)
def test_wrong_images(shape, options, message):
    with pytest.raises(ValueError, match=message):
        plot.images(np.zeros(shape), **options)


def test_colours_out_of_range():
    with pytest.raises(ValueError, match=r"images in colour must lie in \[0, 1\], got 0 to 2: scale them"):
        plot.images(np.linspace(0, 2, 48).reshape(1, 4, 4, 3))
    with pytest.raises(ValueError, match=r"images in colour must lie in \[0, 255\], got 0 to 256"):
        plot.images(np.full((1, 4, 4, 3), [0, 256, 3]))


def test_reconstruction_is_the_mean_of_the_spikes():
    image = RNG.random((8, 8))
    spikes = RNG.random((400, 8, 8)) < image
    ax = plot.input_reconstruction({"gain 1": spikes[..., None], "half": spikes[:200]}, original=image)
    assert captions(ax) == ["original", "gain 1", "half"]
    original, gain_1, half = tiles(ax, (8, 8))
    np.testing.assert_allclose(original, image / image.max())
    np.testing.assert_allclose(gain_1, spikes.mean(axis=0) / spikes.mean(axis=0).max())
    np.testing.assert_allclose(half, spikes[:200].mean(axis=0) / spikes[:200].mean(axis=0).max())
    assert np.abs(gain_1 - original).mean() < 0.1


def test_reconstruction_of_silence():
    assert tiles(plot.input_reconstruction(np.zeros((5, 4, 4))), (4, 4)).max() == 0


@pytest.mark.parametrize(
    ("spikes", "original", "message"),
    [
        (np.zeros((5, 4)), None, r"spikes must be \[T, H, W\] or \[T, H, W, 1\], got shape \(5, 4\): choose a sample"),
        (np.zeros((5, 4, 4, 3)), None, r"spikes must have one channel, .* got shape \(4, 4, 3\)"),
        (np.zeros((5, 4, 4)), np.zeros((5, 5)), r"the images must have one shape, got .*\(5, 5\)"),
        ({"a": np.zeros((5, 4))}, None, r"spikes\['a'\] must be \[T, H, W\]"),
    ],
)
def test_wrong_reconstruction(spikes, original, message):
    with pytest.raises(ValueError, match=message):
        plot.input_reconstruction(spikes, original=original)


def test_feature_maps():
    maps = RNG.random((7, 7, 12))
    ax = plot.feature_maps(maps)
    assert captions(ax) == [str(channel) for channel in range(12)]
    np.testing.assert_array_equal(tiles(ax, (7, 7)), np.moveaxis(maps, -1, 0))
    assert [other.get_ylabel() for other in ax.figure.axes[1:]] == ["Activity"]
    over_time = plot.feature_maps(np.stack([maps, maps + 1]))
    np.testing.assert_allclose(tiles(over_time, (7, 7)), np.moveaxis(maps, -1, 0) + 0.5)
    with pytest.raises(ValueError, match=r"feature maps must be \[H, W, C\] or \[T, H, W, C\], .*: choose a sample"):
        plot.feature_maps(np.zeros((10, 2, 7, 7, 12)))


def test_weights_of_a_dense_layer():
    weights = RNG.normal(size=(64, 10))
    image = plot.weights(weights).images[0]
    np.testing.assert_array_equal(image.get_array(), weights)
    low, high = image.get_clim()
    assert -low == high == pytest.approx(np.percentile(np.abs(weights), 99.5))
    as_images = plot.weights(nnx.Param(weights), image_shape=(8, 8))
    np.testing.assert_array_equal(tiles(as_images, (8, 8)), weights.T.reshape(10, 8, 8))


def test_weights_of_a_convolution():
    kernels = RNG.normal(size=(3, 3, 32, 64))
    ax = plot.weights(kernels)
    assert note_of(ax) == "the first 8 x 8 of 32 x 64 kernels"
    grid = np.ma.filled(ax.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(grid[-3:, -3:], kernels[:, :, 7, 7])
    first_layer = plot.weights(kernels[:, :, :1, :12])
    np.testing.assert_array_equal(tiles(first_layer, (3, 3)), np.moveaxis(kernels[:, :, 0, :12], -1, 0))


def test_weights_all_zero():
    assert plot.weights(np.zeros((4, 3))).images[0].get_clim() == (-1, 1)


@pytest.mark.parametrize(
    ("shape", "image_shape", "message"),
    [
        ((5,), None, r"weights must be \[inputs, outputs\], .* got shape \(5,\)"),
        ((3, 3, 4, 5), (3, 3), r"without image_shape, got shape \(3, 3, 4, 5\)"),
        ((64, 10), (7, 9), r"image_shape \(7, 9\) must have as many pixels as weights has inputs, 64"),
    ],
)
def test_wrong_weights(shape, image_shape, message):
    with pytest.raises(ValueError, match=message):
        plot.weights(np.zeros(shape), image_shape=image_shape)
