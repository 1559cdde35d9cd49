"""Spikes over time: rasters, and how many spikes there are at each step."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jsnn.arguments import checked
from jsnn.plot.arrays import all_samples, by_name, check_spikes, labels, of_neurons, spike_numbers
from jsnn.plot.canvas import (
    ACCENT,
    INK,
    PALETTE,
    axes_or_new,
    colors,
    enlarged,
    legend_beside,
    note,
    open_frame,
    say_empty,
    short,
    time_axis,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROWS, _COLUMNS = 240, 1000  # that a picture shows apart, at least; more rows are too low for marks
_MARKS = 30_000  # spikes that are drawn one by one; more are drawn as an image


class Shade(NamedTuple):
    """How a class of spikes is drawn."""

    color: Any
    name: str
    """In the legend."""


@checked
def raster(
    spikes: ArrayLike | Mapping[str, ArrayLike],
    *,
    sample: int | None = None,
    classes: ArrayLike | Mapping[str, ArrayLike] | None = None,
    dt: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    r"""Draw a raster: a mark for every spike, time to the right, one row per neuron.

    A layer of more neurons than the Axes have rows of pixels (at the figure's dpi; 240 count as there) is drawn as an
    image, neighbouring neurons in one row, which is the darker the more of them fire. Negative spikes (delta
    modulation) have a colour of their own.

    Args:
        spikes: [T, N], [T] of one neuron, or layers by name, drawn one above the other in equal heights, the first on
            top. Any value but zero is a spike.
        sample: which sample of a batch, where the spikes are [T, B, ...]; all its neurons share the axis.
        classes: the class of each neuron, integers [N], which gives it its colour; by name for layers that have any.
            A legend names them, or where they are many a colour bar.
        dt: the length of a step, in s; without it time is in steps.
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: if the shape is another, or the arrays are empty or not finite; if they do not look like spikes,
            neither whole numbers nor mostly zeros and multiples of one height (a membrane, a rate); if `classes` do
            not fit.
        TypeError: if the spikes are not numbers, or the classes no integers.

    Examples:
        >>> import numpy as np
        >>> from jsnn import plot
        >>> spikes = np.random.default_rng(0).random((100, 10)) < 0.1
        >>> ax = plot.raster({"hidden": spikes, "output": spikes[:, :3]}, dt=1e-3)
        >>> ax.get_xlabel(), [label.get_text() for label in ax.get_yticklabels()]
        ('Time (ms)', ['hidden\n[10]', 'output\n[3]'])
    """
    layers = by_name("spikes", spikes)
    trains = {name: of_neurons(title, values, sample) for name, (title, values) in layers.items()}
    for name, (title, _) in layers.items():
        check_spikes(title, trains[name])
    by_class = classes is not None
    classes_of = {} if classes is None else {name: given for name, (_, given) in by_name("classes", classes).items()}
    if unknown := set(classes_of) - set(trains):
        raise ValueError(f"classes must be given by the names of layers, {list(trains)}, got {sorted(unknown)}")
    categories = {name: _categories(train, classes_of.get(name), by_class=by_class) for name, train in trains.items()}
    shades = _shades(categories.values(), by_class=by_class)

    ax = axes_or_new(ax, height=max(3.6, 1.3 * len(trains)))
    ax.spines[["top", "right"]].set_visible(False)
    length = time_axis(ax, max(map(len, trains.values())), dt)
    pixels = ax.get_window_extent()
    fewest = _ROWS if len(trains) == 1 else max(_ROWS // len(trains), 100)
    most = max(_COLUMNS, int(pixels.width)), max(fewest, int(pixels.height) // len(trains))
    if len(trains) == 1:
        [(name, train)] = trains.items()
        band = (-0.5, train.shape[1] - 0.5)
        remark = _draw_layer(ax, train != 0, categories[name], shades, band, length, fewest, most)
        ax.set_ylim(-0.5, train.shape[1] - 0.5)
        ax.set_ylabel(f"Neuron of {short(name)}" if name else "Neuron")
        whole_numbers(ax.yaxis)
    else:
        remark = None
        for position, (name, train) in enumerate(trains.items()):
            band = (-position - 0.47, -position + 0.47)
            if _draw_layer(ax, train != 0, categories[name], shades, band, length, fewest, most):
                remark = "large layers: darker where more neurons fire"
            ax.axhline(-position - 0.5, color="#c5c9cf", linewidth=0.8)
        ax.set_ylim(-len(trains) + 0.5, 0.5)
        ax.set_yticks(
            -np.arange(len(trains)), [f"{short(name)}\n[{train.shape[1]:,}]" for name, train in trains.items()]
        )
        ax.tick_params(axis="y", length=0)
    if 1 < len(shades) <= len(PALETTE) + 1:
        for shade in shades.values():
            ax.plot([], [], "s", color=shade.color, label=shade.name)
        legend_beside(ax, "Class" if by_class else None)
    elif len(shades) > 1:
        _class_bar(ax, max(shades))
    if remark:
        note(ax, remark)
    if not any(train.any() for train in trains.values()):
        say_empty(ax, "no spikes")
    return ax


@checked
def spike_counts(
    spikes: ArrayLike | Mapping[str, ArrayLike],
    *,
    height: ArrayLike = 1.0,
    dt: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how many spikes a layer fires at each step, all its neurons together; of several layers, per neuron.

    Of a batch: the mean over the samples, and a band from the 10th to the 90th percentile.

    Args:
        spikes: [T, N], [T, B, ...] or [T], or layers by name.
        height: what one spike puts out, a number or one per neuron: 1 / dt for a `SpikingActivation`, which may fire
            several at a step.
        dt: the length of a step, in s; without it time is in steps.
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: if the shape is another, the arrays are empty or not finite, or no multiples of `height`.

    Examples:
        >>> import numpy as np
        >>> from jsnn import plot
        >>> ax = plot.spike_counts(np.array([[0, 1], [1, 1], [0, 0]]))
        >>> ax.lines[0].get_ydata().tolist()
        [1.0, 2.0, 0.0]
    """
    counts, batched = {}, False
    for name, (title, values) in by_name("spikes", spikes).items():
        numbers = spike_numbers(title, all_samples(title, values), height)
        counts[name] = numbers.mean(axis=2) if isinstance(spikes, Mapping) else numbers.sum(axis=2)  # [T, B]
        batched |= numbers.shape[1] > 1
    ax = axes_or_new(ax)
    open_frame(ax)
    length = time_axis(ax, max(map(len, counts.values())), dt)
    shades = colors(len(counts)) if len(counts) > 1 else [INK]
    for (name, count), color in zip(counts.items(), shades):
        time = length * np.arange(len(count))
        if count.shape[1] > 1:
            low, high = np.percentile(count, [10, 90], axis=1)
            ax.fill_between(time, low, high, color=color, alpha=0.2, linewidth=0)
        marker = "o" if len(count) == 1 else None  # one step makes no line
        ax.plot(time, count.mean(axis=1), color=color, linewidth=1.5, marker=marker, label=name)
    ax.set_ylim(bottom=0)
    if not any(count.any() for count in counts.values()):
        ax.set_ylim(top=1)
        say_empty(ax, "no spikes")
    if isinstance(spikes, Mapping):
        ax.set_ylabel("Spikes per neuron and step")
    else:
        ax.set_ylabel("Spikes per step")
        whole_numbers(ax.yaxis)
    if batched:
        note(ax, "mean, and 10th to 90th percentile of the samples")
    if len(counts) > 1:
        legend_beside(ax)
    return ax


def _draw_layer(
    ax: "Axes",
    fired: np.ndarray,
    categories: np.ndarray,
    shades: dict[int, Shade],
    band: tuple[float, float],
    length: float,
    fewest: int,
    most: tuple[int, int],
) -> str | None:
    """Draw the spikes of a layer, `fired` [T, N], in a band between two heights of the y axis.

    Where there are more than the fewest rows, or too much for marks, it is an image of at most so many columns and
    rows. What a dot of it means is returned if it is more than a neuron at a step.
    """
    num_steps, num_neurons = fired.shape
    bottom, top = band
    row = (top - bottom) / num_neurons
    if num_steps > most[0] or num_neurons > fewest or fired.sum() > _MARKS:
        image, remark = _density(fired, categories, shades, most)
        extent = (-0.5 * length, (num_steps - 0.5) * length, bottom, top)
        ax.imshow(enlarged(image, most[1], most[0]), extent=extent, origin="lower", aspect="auto")
        return remark if image.shape[:2] != (num_neurons, num_steps) else None
    for category, (color, _) in shades.items():
        step, neuron = np.nonzero(fired & (categories == category))
        low = bottom + (neuron + 0.06) * row
        ax.vlines(step * length, low, low + 0.88 * row, color=color, linewidth=1.3, rasterized=len(step) > 2000)
    return None


def _class_bar(ax: "Axes", largest: int) -> None:
    """Draw the colours of classes that are too many for a legend as a bar."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    shades = ScalarMappable(Normalize(-0.5, largest + 0.5), ListedColormap(colors(largest + 1)))
    whole_numbers(ax.figure.colorbar(shades, ax=ax, label="Class", aspect=30).ax.yaxis)


def _density(
    fired: np.ndarray, categories: np.ndarray, shades: dict[int, Shade], most: tuple[int, int]
) -> tuple[np.ndarray, str]:
    """Return an image [rows, columns, RGBA], its hue that of who fires, its opacity how many of them do.

    Return its description in words, too.
    """
    from matplotlib.colors import to_rgb

    shares = np.stack([_mean_of_blocks(fired & (categories == category), most) for category in shades])
    total = shares.sum(axis=0)
    strong = np.percentile(total[total > 0], 99) if total.any() else 1.0
    palette = np.array([to_rgb(shade.color) for shade in shades.values()])
    hue = np.einsum("ktn,kc->ntc", shares / np.maximum(total, 1e-12), palette)
    opacity = np.sqrt(np.minimum(total / strong, 1)).T[..., None]  # one spike among many can still be seen
    neurons, steps = -(-fired.shape[1] // shares.shape[2]), -(-len(fired) // shares.shape[1])
    remark = f"neurons x steps a dot: {neurons} x {steps}; darkest: {100 * strong:.0f}% spikes"
    return np.concatenate([np.clip(hue, 0, 1), opacity], axis=-1), remark


def _mean_of_blocks(values: np.ndarray, most: tuple[int, int]) -> np.ndarray:
    """Return [T, N] averaged over neighbours to at most so many steps and neurons."""
    for axis, count in enumerate(most):
        size = values.shape[axis]
        if size > count:
            edges = np.arange(count + 1) * size // count
            sums = np.add.reduceat(values, edges[:-1], axis=axis, dtype=np.float32)
            values = sums / np.expand_dims(np.diff(edges), axis=1 - axis)
    return values.astype(np.float32)


def _categories(train: np.ndarray, classes: ArrayLike | None, *, by_class: bool) -> np.ndarray:
    """Return what decides on a spike's colour: its neuron's class [N], -1 without one; or else its sign [T, N]."""
    if classes is not None:
        return labels("classes", classes, train.shape[1:])
    if by_class:
        return np.full(train.shape[1:], -1)
    return train.astype(np.int8) if train.dtype == bool else np.sign(train)


def _shades(categories: Iterable[np.ndarray], *, by_class: bool) -> dict[int, Shade]:
    """Return the colour and the name of each category that occurs, 0 left out where it is the sign of no spike."""
    if not by_class:
        negative = any((signs < 0).any() for signs in categories)
        return {1: Shade(INK, "on")} | ({-1: Shade(ACCENT, "off")} if negative else {})
    present = sorted(set().union(*(np.unique(category).tolist() for category in categories)))
    palette = colors(present[-1] + 1)
    return {k: Shade(palette[k], str(k)) if k >= 0 else Shade(INK, "none") for k in present}
