"""Images: many in one picture, what spikes tell of an input, feature maps, and weights."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jsnn.arguments import checked
from jsnn.plot.arrays import by_name, finite
from jsnn.plot.canvas import DIVERGING, SEQUENTIAL, axes_or_new, note, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage


@checked
def images(
    values: ArrayLike, *, captions: Sequence[str] | None = None, limit: int = 64, ax: "Axes | None" = None
) -> "Axes":
    """Draw images side by side, such as a network's worst mistakes.

    Args:
        values: [K, H, W], in grey, or [K, H, W, 3], colours in [0, 1] (integers: 0..255).
        captions: what stands above each image.
        limit: how many images are drawn at most, the first ones.
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: if the shape is another, the array is empty or not finite, colours lie outside their range, the
            captions are not K, or `limit` is less than 1.

    Examples:
        >>> import numpy as np
        >>> from jsnn import plot
        >>> ax = plot.images(np.zeros((3, 8, 8)), captions=["7", "taken for 1", "5"])
        >>> [text.get_text() for text in ax.texts]
        ['7', 'taken for 1', '5']
    """
    array = finite("images", values)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3 and not (array.ndim == 4 and array.shape[3] == 3):
        raise ValueError(f"images must be [K, H, W], or [K, H, W, 3] in colour, got shape {array.shape}")
    if array.ndim == 4:
        array = in_unit_range("images", array)
    if captions is not None and len(captions) != len(array):
        raise ValueError(f"captions must be as many as the images, {len(array)}, got {len(captions)}")
    ax, _ = _tiles(array, captions, limit, "gray", ax)
    return ax


@checked
def input_reconstruction(
    spikes: ArrayLike | Mapping[str, ArrayLike], *, original: ArrayLike | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw what a rate code tells of an image: the mean of its spikes over time, 0 to 1 spikes per step and pixel.

    A smaller gain of the encoder gives fewer spikes, and a noisier image.

    Args:
        spikes: the encoded image [T, H, W] or [T, H, W, 1]; several codes by name, such as
            `{"gain 1": ..., "gain 0.25": ...}`, stand side by side, each from black (0) to white (its maximum).
        original: the image itself, [H, W] or [H, W, 1], to stand first.
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: if the shapes are others or differ, or the arrays are empty or not finite.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jsnn import encode, plot
        >>> image = jnp.linspace(0, 1, 64).reshape(8, 8)
        >>> keys = jax.random.split(jax.random.key(0))
        >>> codes = {f"gain {g}": encode.rate(key, image * g, num_steps=100) for g, key in zip((1, 0.25), keys)}
        >>> ax = plot.input_reconstruction(codes, original=image)
        >>> [text.get_text() for text in ax.texts]
        ['original', 'gain 1', 'gain 0.25']
    """
    means = {}
    if original is not None:
        means["original"] = _plane("original", original)
    for name, (title, values) in by_name("spikes", spikes).items():
        array = finite(title, values)
        if array.ndim not in (3, 4):
            raise ValueError(f"{title} must be [T, H, W] or [T, H, W, 1], got shape {array.shape}: choose a sample")
        mean = _plane(title, np.mean(array, axis=0, dtype=np.float64))
        means[name or "mean of the spikes"] = mean
    shapes = {name: mean.shape for name, mean in means.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"the images must have one shape, got {shapes}")
    scaled = np.stack([mean / (np.abs(mean).max() or 1) for mean in means.values()])
    ax, _ = _tiles(scaled, list(means), len(means), "gray", ax)
    return ax


@checked
def feature_maps(values: ArrayLike, *, limit: int = 64, ax: "Axes | None" = None) -> "Axes":
    """Draw the maps of a convolutional layer for one sample, each with the number of its channel.

    Args:
        values: [H, W, C]; or over time, [T, H, W, C], whose mean is drawn: of spikes, the rate in spikes per step.
        limit: how many channels are drawn at most, the first ones.
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: if the shape is another, the array is empty or not finite, or `limit` is less than 1.

    Examples:
        >>> import numpy as np
        >>> from jsnn import plot
        >>> ax = plot.feature_maps(np.zeros((20, 7, 7, 12)))
        >>> len(ax.texts)
        12
    """
    array = finite("feature maps", values)
    if array.ndim not in (3, 4):
        raise ValueError(
            f"feature maps must be [H, W, C] or [T, H, W, C], got shape {array.shape}: choose a sample, maps[:, 0]"
        )
    over_time = array.ndim == 4
    if over_time:
        array = array.mean(axis=0, dtype=np.float64)
    maps = np.moveaxis(array, -1, 0)
    bar = "Mean over time" if over_time else "Activity"
    ax, _ = _tiles(maps, [str(channel) for channel in range(len(maps))], limit, SEQUENTIAL, ax, bar=bar)
    return ax


@checked
def weights(
    values: ArrayLike, *, image_shape: tuple[int, int] | None = None, limit: int = 64, ax: "Axes | None" = None
) -> "Axes":
    """Draw weights in colour, blue below zero and red above; the 0.5% that are the largest have the colour of the ends.

    Args:
        values: [inputs, outputs] of a dense layer, as one map; or the kernels [H, W, inputs, outputs] of a
            convolution, an image for each pair of channels, one output per column.
        image_shape: (H, W) of the input of a dense layer: draws the weights of each output neuron as an image.
        limit: how many images are drawn at most, the first ones.
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: if the shape is another, `image_shape` does not fit it, or the array is empty or not finite.

    Examples:
        >>> import numpy as np
        >>> from jsnn import plot
        >>> ax = plot.weights(np.zeros((784, 10)), image_shape=(28, 28))
        >>> len(ax.texts)
        10
    """
    array = finite("weights", values)
    if array.ndim not in (2, 4) or (image_shape is not None and array.ndim != 2):
        raise ValueError(
            f"weights must be [inputs, outputs], or [H, W, inputs, outputs] without image_shape, "
            f"got shape {array.shape}"
        )
    if image_shape is not None and math.prod(image_shape) != len(array):
        raise ValueError(f"image_shape {image_shape} must have as many pixels as weights has inputs, {len(array)}")
    if array.ndim == 4 and array.shape[2] > 1:
        ax, image = _kernels(array, limit, ax)
    elif array.ndim == 4 or image_shape is not None:
        tiles = np.moveaxis(array, -1, 0).reshape(-1, *(image_shape or array.shape[:2]))
        ax, image = _tiles(tiles, [str(k) for k in range(len(tiles))], limit, DIVERGING, ax, bar="Weight")
    else:
        ax = axes_or_new(ax)
        image = ax.imshow(array, cmap=DIVERGING, aspect="auto", interpolation="nearest")
        ax.set_xlabel("Output neuron")
        ax.set_ylabel("Input neuron")
        whole_numbers(ax.xaxis)
        whole_numbers(ax.yaxis)
        ax.figure.colorbar(image, ax=ax, label="Weight", aspect=30)
    largest = float(np.percentile(np.abs(array), 99.5)) or float(np.abs(array).max()) or 1.0
    image.set_clim(-largest, largest)
    return ax


def _kernels(array: np.ndarray, limit: int, ax: "Axes | None") -> tuple["Axes", "AxesImage"]:
    """Return kernels [H, W, inputs, outputs], an input channel in each row and an output channel in each column."""
    rows = max(1, min(array.shape[2], math.isqrt(limit)))
    columns = max(1, min(array.shape[3], limit // rows))
    tiles = np.moveaxis(array[:, :, :rows, :columns], (2, 3), (0, 1)).reshape(-1, *array.shape[:2])
    ax, image = _tiles(tiles, None, limit, DIVERGING, ax, columns=columns, bar="Weight")
    ax.set_xlabel("Output channel")
    ax.set_ylabel("Input channel")
    if (rows, columns) != array.shape[2:]:
        note(ax, f"the first {rows} x {columns} of {array.shape[2]} x {array.shape[3]} kernels")
    return ax, image


def _plane(name: str, values: ArrayLike) -> np.ndarray:
    array = finite(name, values)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2:
        raise ValueError(f"{name} must have one channel, [H, W] or [H, W, 1] at each step, got shape {array.shape}")
    return array


def in_unit_range(name: str, colors: np.ndarray) -> np.ndarray:
    """Return colours as floats in [0, 1]; integers are taken for 0..255."""
    top = 255 if colors.dtype.kind in "iu" else 1
    if colors.min() < 0 or colors.max() > top:
        raise ValueError(
            f"{name} in colour must lie in [0, {top}], got {colors.min():.4g} to {colors.max():.4g}: "
            f"scale them, (x - x.min()) / (x.max() - x.min())"
        )
    return colors.astype(np.float64) / top


def _tiles(
    tiles: np.ndarray,
    captions: Sequence[str] | None,
    limit: int,
    cmap: str,
    ax: "Axes | None",
    *,
    columns: int | None = None,
    bar: str | None = None,
) -> tuple["Axes", "AxesImage"]:
    """Draw tiles [K, H, W] or [K, H, W, 3] on a grid with gaps that show nothing; `bar` labels a colour bar."""
    if limit < 1:
        raise ValueError(f"limit must be >= 1, got {limit}")
    total, tiles, captions = len(tiles), tiles[:limit], list(captions or [])[:limit]
    count, height, width = tiles.shape[:3]
    columns = columns or min(count, math.ceil(math.sqrt(1.6 * count * height / width)))
    rows = -(-count // columns)
    tile_inches = min(2.4, max(0.5, 7.5 / columns))
    if ax is not None:
        tile_inches = axes_or_new(ax).get_window_extent().width / ax.figure.dpi / columns
    size = 10 if tile_inches > 0.9 else 7
    fit = max(4, int(tile_inches * 72 / (0.6 * size)))  # letters above a tile
    captions = ["\n".join(textwrap.fill(line, fit) for line in caption.split("\n")) for caption in captions]
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    gap = max(1, round(0.08 * width))
    room = math.ceil((lines * 1.25 * size / 72 + 0.05) / tile_inches * width) if captions else gap  # above a tile

    grid = np.full((rows * (height + room), columns * (width + gap) - gap, *tiles.shape[3:]), np.nan)
    corners = [(i // columns * (height + room) + room, i % columns * (width + gap)) for i in range(count)]
    for tile, (top, left) in zip(tiles, corners):
        grid[top : top + height, left : left + width] = tile
    if tiles.ndim == 4:
        grid = np.concatenate([np.nan_to_num(grid), ~np.isnan(grid[..., :1])], axis=-1)

    inches = tile_inches * grid.shape[1] / (width + gap)
    ax = axes_or_new(
        ax, width=inches + (0.9 if bar else 0), height=min(max(inches * grid.shape[0] / grid.shape[1] + 0.25, 1.6), 12)
    )
    image = ax.imshow(grid, cmap=cmap, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    for caption, (top, left) in zip(captions, corners):
        ax.text(left + (width - 1) / 2, top - 0.5 - 0.02 * height, caption, ha="center", va="bottom", fontsize=size)
    if total > count:
        note(ax, f"the first {count} of {total:,}")
    if bar:
        ax.figure.colorbar(image, ax=ax, label=bar, aspect=30)
    return ax, image
