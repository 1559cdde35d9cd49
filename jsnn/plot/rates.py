"""How much and how regularly neurons fire: histograms of spikes, rates and intervals."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jsnn.arguments import checked
from jsnn.plot.arrays import all_samples, by_name, check_spikes, spike_numbers
from jsnn.plot.canvas import (
    INK,
    axes_or_new,
    colors,
    legend_beside,
    note,
    open_frame,
    percent,
    rounded,
    say_empty,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@checked
def spike_histogram(
    spikes: ArrayLike | Mapping[str, ArrayLike], *, height: ArrayLike = 1.0, ax: "Axes | None" = None
) -> "Axes":
    """Draw how many spikes a neuron fires in one step: the share of all neurons and steps with 0, 1, 2, ... spikes.

    The share is on a logarithmic axis, because most neurons are silent in most steps.

    Args:
        spikes: [T, N], [T, B, ...] or [T] of one neuron, or layers (or settings, such as several dt) by name.
        height: what one spike puts out, a number or one per neuron: 1 / dt for a `SpikingActivation`.
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: if the shape is another, the arrays are empty or not finite, or no multiples of `height`.

    Examples:
        >>> import numpy as np
        >>> from jsnn import plot
        >>> ax = plot.spike_histogram(np.array([[0, 10], [20, 0]]), height=10)
        >>> ax.patches[0].get_data().values.tolist()
        [0.5, 0.25, 0.25]
    """
    shares = {}
    for name, (title, values) in by_name("spikes", spikes).items():
        counts = spike_numbers(title, all_samples(title, values), height).astype(np.int64).ravel()
        if counts.max() > 100_000:
            raise ValueError(f"{title} must hold up to 100,000 spikes a step for a histogram, got {counts.max():,}")
        shares[name] = np.bincount(counts) / counts.size
    most = max(map(len, shares.values()))
    edges = np.arange(most + 1) - 0.5
    ax = axes_or_new(ax)
    from matplotlib.ticker import LogLocator, NullFormatter

    _stairs(ax, {name: (np.pad(share, (0, most - len(share))), edges) for name, share in shares.items()})
    ax.set_yscale("log")
    least = min(share[share > 0].min() for share in shares.values())
    ax.set_ylim(0.5 * least, 1.3)
    if least > 0.02:  # powers of ten alone would be one or two numbers
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_minor_formatter(NullFormatter())  # whose numbers would be no percentages
    percent(ax.yaxis)
    ax.set_xlabel("Spikes of a neuron in a step")
    ax.set_ylabel("Neurons and steps (%)")
    whole_numbers(ax.xaxis)
    return ax


@checked
def firing_rate_histogram(
    spikes: ArrayLike | Mapping[str, ArrayLike],
    *,
    height: ArrayLike = 1.0,
    dt: float | None = None,
    bins: int = 40,
    ax: "Axes | None" = None,
) -> "Axes":
    r"""Draw the distribution of the neurons' firing rates: rate = mean over time and samples of spikes / height / dt.

    The legend gives each layer's mean rate and how many of its neurons never fire. Each layer has bins of its own, so
    that one of low rates is not squeezed into a single bar beside one of high rates.

    Args:
        spikes: [T, N], [T, B, ...] or [T] of one neuron, or layers by name.
        height: what one spike puts out, a number or one per neuron: 1 / dt for a `SpikingActivation`.
        dt: the length of a step, in s, which gives rates in Hz; without it they are in spikes per step.
        bins: into how many bins the range of a layer's rates is cut.
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: if the shape is another, the arrays are empty or not finite, or no multiples of `height`; if `dt`
            or `bins` is not positive.

    Examples:
        >>> import numpy as np
        >>> from jsnn import plot
        >>> ax = plot.firing_rate_histogram(np.array([[0, 1], [0, 1], [0, 0], [0, 0]]), dt=1e-3)
        >>> ax.get_legend().get_texts()[0].get_text()
        'mean 250 Hz\n50% never fire'
    """
    if dt is not None and not 0 < dt < 1e30:
        raise ValueError(f"dt must be > 0 s, got {dt}")
    if bins < 1:
        raise ValueError(f"bins must be >= 1, got {bins}")
    unit = "spikes per step" if dt is None else "Hz"
    rates, shares = {}, {}
    for name, (title, values) in by_name("spikes", spikes).items():
        counts = spike_numbers(title, all_samples(title, values), height)
        rate = counts.mean(axis=(0, 1)) / (dt or 1)
        finest = 1 / (counts.shape[0] * counts.shape[1] * (dt or 1))  # what one spike adds to a rate
        # Bins of unequal numbers of rates would look like a comb.
        width = finest * max(1, math.ceil(rate.max() / finest / bins))
        edges = np.arange(-0.5 * finest, rate.max() + width, width)
        title = _with_lines(name, f"mean {rounded(rate.mean())} {unit}", f"{100 * np.mean(rate == 0):.3g}% never fire")
        rates[title], shares[title] = rate, (np.histogram(rate, edges)[0] / rate.size, edges)
    ax = axes_or_new(ax)
    shades = _stairs(ax, shares)
    for rate, color in zip(rates.values(), shades):
        ax.axvline(rate.mean(), color=color, linestyle="--", linewidth=1.2)
    percent(ax.yaxis)
    ax.locator_params(axis="x", nbins=6)  # small rates are long numbers
    ax.set_xlabel(f"Firing rate ({unit})")
    ax.set_ylabel("Neurons (%)")
    legend_beside(ax)
    return ax


@checked
def isi_histogram(
    spikes: ArrayLike | Mapping[str, ArrayLike], *, dt: float | None = None, bins: int = 40, ax: "Axes | None" = None
) -> "Axes":
    r"""Draw inter-spike intervals (ISI): how much time passes between two successive spikes of a neuron.

    The legend gives the mean and the coefficient of variation, CV = standard deviation / mean of a neuron's intervals,
    averaged over the neurons that have at least two: 0 for a clock, 1 for a Poisson process. Several spikes in one step
    are one event here. The longest 0.5% are left out where they would fill the axis.

    Source: Softky and Koch, "The highly irregular firing of cortical cells", Journal of Neuroscience 1993.

    Args:
        spikes: [T, N], [T, B, ...] or [T] of one neuron, or layers by name; each sample of a neuron is a train of its
            own.
        dt: the length of a step, in s; without it intervals are in steps.
        bins: into how many bins the intervals of a layer are sorted, at most; each is a whole number of steps wide.
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: if the shape is another, the arrays are empty or not finite, or they cannot be spikes; if `dt` or
            `bins` is not positive.

    Examples:
        >>> import numpy as np
        >>> from jsnn import plot
        >>> ax = plot.isi_histogram(np.tile([[1], [0], [0], [0]], (10, 1)), dt=1e-3)
        >>> ax.get_legend().get_texts()[0].get_text()
        'mean 4 ms\nCV 0\n9 intervals'
    """
    if dt is not None and not 0 < dt < 1e30:
        raise ValueError(f"dt must be > 0 s, got {dt}")
    if bins < 1:
        raise ValueError(f"bins must be >= 1, got {bins}")
    length, unit = (1.0, "steps") if dt is None else (1e3 * dt, "ms")
    found = {}
    for name, (title, values) in by_name("spikes", spikes).items():
        trains = all_samples(title, values)
        check_spikes(title, trains)
        steps, variation = intervals(trains.reshape(len(trains), -1))
        mean = f"mean {rounded(length * steps.mean())} {unit}" if steps.size else "no neuron fires twice"
        cv = f"CV {np.mean(variation):.2g}" if variation.size else "no CV"
        found[_with_lines(name, mean, cv, f"{steps.size:,} intervals")] = steps
    shares, beyond = {}, 0.0
    for name, steps in found.items():
        longest = math.ceil(np.percentile(steps, 99.5)) if steps.size else 1
        width = -(-longest // bins)
        edges = np.arange(0.5, longest + width + 0.5, width)
        shares[name] = np.histogram(steps, edges)[0] / max(steps.size, 1), edges * length
        beyond = max(beyond, float(np.mean(steps > edges[-1])) if steps.size else 0.0)
    ax = axes_or_new(ax)
    _stairs(ax, shares)
    percent(ax.yaxis)
    ax.set_xlabel(f"Inter-spike interval ({unit})")
    ax.set_ylabel("Intervals (%)")
    legend_beside(ax)
    if beyond:
        note(ax, f"not shown: the longest {100 * beyond:.2g}%")
    if not any(steps.size for steps in found.values()):
        say_empty(ax, "no neuron fires twice")
    return ax


def intervals(trains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all inter-spike intervals of trains [T, K], in steps, and the CV of each train that has at least two."""
    train, step = np.nonzero(trains.T)
    follows = train[1:] == train[:-1]
    between, owner = np.diff(step)[follows], train[1:][follows]
    count = np.bincount(owner, minlength=trains.shape[1])
    several = count >= 2
    mean = np.bincount(owner, between, trains.shape[1])[several] / count[several]
    square = np.bincount(owner, between**2.0, trains.shape[1])[several] / count[several]
    return between, np.sqrt(np.maximum(square - mean**2, 0)) / mean


def _stairs(ax: "Axes", shares: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[str]:
    """Draw one histogram filled, or several as outlines, each with its edges; return their colours."""
    open_frame(ax)
    shades = colors(len(shares)) if len(shares) > 1 else [INK]
    for (name, (share, edges)), color in zip(shares.items(), shades):
        if len(shares) == 1:
            ax.stairs(share, edges, fill=True, color=color, alpha=0.85, label=name)
        else:
            ax.stairs(share, edges, color=color, linewidth=1.8, label=name)
    if len(shares) > 1:
        legend_beside(ax)
    ax.set_xlim(min(edges[0] for _, edges in shares.values()), max(edges[-1] for _, edges in shares.values()))
    ax.set_ylim(0, None if any(share.any() for share, _ in shares.values()) else 1)
    return shades


def _with_lines(name: str, *lines: str) -> str:
    return "\n".join([name, *lines] if name else lines)
