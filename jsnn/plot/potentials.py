"""Traces: what a neuron's membrane or current does over time."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jsnn.arguments import checked
from jsnn.plot.arrays import check_spikes, finite, of_neurons, one_sample
from jsnn.plot.canvas import (
    ACCENT,
    INK,
    SEQUENTIAL,
    axes_or_new,
    legend_beside,
    note,
    open_frame,
    rounded,
    time_axis,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LANES = 12  # more neurons than this are drawn as a heat map


@checked
def traces(
    values: ArrayLike,
    *,
    spikes: ArrayLike | None = None,
    threshold: ArrayLike | None = None,
    sample: int | None = None,
    dt: float | None = None,
    label: str = "Membrane potential",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw membranes, currents or any other quantity of neurons over time.

    One neuron has the y axis for itself; up to 12 have a lane each, all to one scale, which a bar at the right shows.
    More are a heat map, on whose colour bar a constant threshold is marked; their spikes are left to `raster`.

    Args:
        values: [T, N], or [T] of one neuron. The membranes that `jsnn.record` gives are those after the reset of their
            step: where a neuron spiked, its membrane is below the threshold already.
        spikes: what the neurons fired, of the same shape; a mark stands above the trace where it is not zero.
        threshold: a number, one per neuron [N], or one that varies, of the shape of values.
        sample: which sample of a batch, where the values are [T, B, ...]; all its neurons share an axis.
        dt: the length of a step, in s; without it time is in steps.
        label: what the values are, with their unit, such as "Synaptic current (nA)".
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: if the shapes are others or do not fit, the arrays are empty or not finite, or `spikes` are none.

    Examples:
        >>> import numpy as np, jsnn
        >>> from jsnn import plot
        >>> layer = jsnn.record(jsnn.LIF(0.9), np.full((30, 2), 0.3, np.float32))["LIF"]
        >>> ax = plot.traces(layer.states.v, spikes=layer.outputs, threshold=1.0, dt=1e-3)
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('Time (ms)', 'Membrane potential of neuron')
    """
    alone = finite("values", values).ndim == 1
    values = of_neurons("values", values, sample)
    fired = None
    if spikes is not None:
        trains = of_neurons("spikes", spikes, sample)
        if trains.shape != values.shape:
            raise ValueError(f"spikes must have the shape of values, {values.shape}, got {trains.shape}")
        check_spikes("spikes", trains)
        fired = trains != 0
    if threshold is not None:
        threshold = _threshold(threshold, values.shape[:1] if alone else values.shape, sample).reshape(values.shape)
    if values.shape[1] > _LANES:
        return _heat_map(values, threshold, dt, label, ax)

    num_steps, num_neurons = values.shape
    ax = axes_or_new(ax, height=max(2.8, 1.6 + 0.42 * num_neurons))
    open_frame(ax)
    time = time_axis(ax, num_steps, dt) * np.arange(num_steps)
    shown = values if threshold is None else np.concatenate([values, threshold])
    low, high = float(shown.min()), float(shown.max())
    span = high - low or abs(high) or 1.0
    lane = 0.0 if num_neurons == 1 else span * (1.35 if fired is not None else 1.15)
    bases = lane * np.arange(num_neurons)
    marker = "o" if num_steps == 1 else None  # one step makes no line
    for neuron, base in enumerate(bases):
        first = neuron == 0
        ax.plot(time, base + values[:, neuron], color=INK, linewidth=1.2, marker=marker)
        if threshold is not None:
            name = "threshold" if first else ""
            ax.plot(time, base + threshold[:, neuron], "--", color=ACCENT, linewidth=1.0, marker=marker, label=name)
        if fired is not None:
            at = time[fired[:, neuron]]
            ends = (base + high + 0.06 * span, base + high + 0.18 * span)
            ax.vlines(at, *ends, color=ACCENT, linewidth=1.5, label="spike" if first else "")
    if num_neurons == 1:
        ax.set_ylabel(label)
    else:
        ax.set_yticks(bases + (np.clip(0, low, high)), [str(neuron) for neuron in range(num_neurons)])
        ax.set_ylabel(f"{label} of neuron")
        ax.set_ylim(low - 0.1 * span, bases[-1] + low + max(lane, span))
        _scale_bar(ax, span)
    if threshold is not None or fired is not None:
        legend_beside(ax)
    return ax


def _heat_map(
    values: np.ndarray, threshold: np.ndarray | None, dt: float | None, label: str, ax: "Axes | None"
) -> "Axes":
    num_steps, num_neurons = values.shape
    ax = axes_or_new(ax)
    length = time_axis(ax, num_steps, dt)
    extent = (-0.5 * length, (num_steps - 0.5) * length, -0.5, num_neurons - 0.5)
    low, high = np.percentile(values, [0.5, 99.5])  # a few neurons far out would take the contrast from all others
    constant = None if threshold is None or np.ptp(threshold) else float(threshold[0, 0])
    if constant is not None:
        low, high = min(low, constant), max(high, constant)
    image = ax.imshow(values.T, extent=extent, origin="lower", aspect="auto", cmap=SEQUENTIAL, vmin=low, vmax=high)
    ax.set_ylabel("Neuron")
    whole_numbers(ax.yaxis)
    beyond = (values.min() < low, values.max() > high)
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    bar = ax.figure.colorbar(image, ax=ax, label=label, extend=extend)
    if constant is not None:
        bar.ax.axhline(constant, color=ACCENT, linewidth=3)
        note(ax, f"red in the colour bar: threshold {rounded(constant)}")
    return ax


def _threshold(threshold: ArrayLike, shape: tuple[int, int], sample: int | None) -> np.ndarray:
    array = finite("threshold", threshold)
    if array.ndim > 1:
        array = one_sample("threshold", array, sample)
    try:
        return np.broadcast_to(array, shape)
    except ValueError as error:
        raise ValueError(f"threshold must be a number, [N] or [T, N] for values {shape}, got {array.shape}") from error


def _scale_bar(ax: "Axes", span: float) -> None:
    """Draw a bar of a round height at the right, for lanes that have no y axis of their own."""
    power = 10.0 ** math.floor(math.log10(span))
    size = max(step * power for step in (1, 2, 5) if step * power <= span * 1.0001)
    bottom, top = ax.get_ylim()
    fraction = size / (top - bottom)
    ax.plot([1.012, 1.012], [0, fraction], transform=ax.transAxes, color=INK, linewidth=2.5, clip_on=False)
    ax.text(1.025, fraction / 2, f"{size:g}", transform=ax.transAxes, va="center", fontsize="small", color=INK)
