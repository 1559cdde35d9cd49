"""Curves: training, accuracy against steps, surrogate derivatives, and what accuracy costs."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from jsnn.arguments import checked
from jsnn.plot.arrays import by_name, finite, numbers
from jsnn.plot.canvas import FAINT, INK, axes_or_new, colors, legend_beside, open_frame, percent, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jsnn.surrogate import Surrogate

_MARKERS = "osD^vP*X"
_LABELS = {
    "spikes": "Spikes per inference",
    "steps": "Time steps",
    "accuracy": "Accuracy (%)",
    "synops": "Synaptic operations per inference",
    "energy": "Energy per inference (J)",
    "rate": "Mean firing rate (Hz)",
}


@checked
def training_curves(
    curves: ArrayLike | Mapping[str, ArrayLike],
    *,
    epochs: ArrayLike | None = None,
    label: str = "Loss",
    per: str = "Epoch",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw a metric over the course of training, a line for each name.

    Of more than 200 values, a running mean over 2% of them is drawn on top of the values, in grey. Values that are not
    finite leave a gap.

    Args:
        curves: the metric's values [E], by name such as "training" and "test".
        epochs: the epoch (or step) of each value [E]; None counts from 1.
        label: what the metric is, with its unit.
        per: what is counted along the x axis.
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: if a curve is empty or not [E], or `epochs` has another length.

    Examples:
        >>> from jsnn import plot
        >>> ax = plot.training_curves({"training": [2.3, 1.1, 0.7], "test": [1.9, 1.2, 1.0]}, label="Loss (nats)")
        >>> ax.lines[0].get_xdata().tolist(), ax.get_ylabel()
        ([1, 2, 3], 'Loss (nats)')
    """
    named = {name: _curve(title, values) for name, (title, values) in by_name("curves", curves).items()}
    at = {name: _positions("epochs", epochs, len(values)) for name, values in named.items()}
    ax = axes_or_new(ax)
    open_frame(ax)
    for (name, values), color in zip(named.items(), colors(len(named)) if len(named) > 1 else [INK]):
        x, marker = at[name], "o" if len(values) <= 30 else None
        if len(values) > 200:
            ax.plot(x, values, color=color, linewidth=0.6, alpha=0.3, zorder=1)
            values = _running_mean(values, len(values) // 50)
        ax.plot(x, values, color=color, linewidth=1.8, marker=marker, markersize=4, label=name)
    ax.set_xlabel(per)
    ax.set_ylabel(label)
    whole_numbers(ax.xaxis)
    if len(named) > 1:
        legend_beside(ax)
    return ax


@checked
def accuracy_against_steps(
    curves: ArrayLike | Mapping[str, ArrayLike],
    *,
    steps: ArrayLike | None = None,
    reference: Mapping[str, float] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the accuracy of a network that is stopped after so many steps.

    Args:
        curves: accuracies in [0, 1], [T] or one for each of `steps`, by name where there are several.
        steps: after how many steps each accuracy was taken [T]; None counts from 1.
        reference: accuracies that do not depend on steps, drawn as dashed lines, such as {"rate network": 0.71}.
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: if a curve is empty, not [T], not finite or outside [0, 1], or `steps` has another length.

    Examples:
        >>> from jsnn import plot
        >>> ax = plot.accuracy_against_steps({"scale 1": [0.1, 0.5], "scale 20": [0.4, 0.7]}, reference={"rate": 0.71})
        >>> [line.get_label() for line in ax.lines]
        ['rate', 'scale 1', 'scale 20']
    """
    named = {name: _fractions(title, _curve(title, v)) for name, (title, v) in by_name("curves", curves).items()}
    at = {name: _positions("steps", steps, len(values)) for name, values in named.items()}
    levels = _levels(reference)
    ax = axes_or_new(ax)
    open_frame(ax)
    for (name, level), style in zip(levels.items(), ["--", ":", "-."] * len(levels)):
        ax.axhline(level, color=FAINT, linestyle=style, linewidth=1.4, label=name)
    for (name, values), color in zip(named.items(), colors(len(named)) if len(named) > 1 else [INK]):
        marker = "o" if len(values) <= 40 else None
        ax.plot(at[name], values, color=color, linewidth=1.6, marker=marker, markersize=3.5, label=name)
    ax.set_xlabel("Time steps")
    ax.set_ylabel("Accuracy (%)")
    percent(ax.yaxis)
    whole_numbers(ax.xaxis)
    if levels or len(named) > 1:
        legend_beside(ax)
    return ax


@checked
def surrogate_derivatives(
    surrogates: "Surrogate | Iterable[Surrogate]", *, limit: float = 1.5, ax: "Axes | None" = None
) -> "Axes":
    """Draw the derivatives that surrogates put in the place of the Heaviside step's.

    Args:
        surrogates: one or several, as `jsnn.surrogate` makes them.
        limit: how far from the threshold they are drawn, to both sides.
        ax: where to draw; None makes a figure.

    Raises:
        TypeError: if one is not a surrogate, such as a factory that was not called.
        ValueError: if there is none, or `limit` is not positive.

    Examples:
        >>> from jsnn import plot, surrogate
        >>> ax = plot.surrogate_derivatives([surrogate.arctan(), surrogate.superspike(10)])
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['arctan(slope=2.0)', 'superspike(slope=10.0)']
    """
    import jax.numpy as jnp  # the other pictures do without

    from jsnn.surrogate import Surrogate

    several = list(surrogates) if isinstance(surrogates, Iterable) else [surrogates]
    for one in several:
        if not isinstance(one, Surrogate):
            raise TypeError(f"surrogates must be made by a factory of jsnn.surrogate, such as arctan(), got {one!r}")
    if not several:
        raise ValueError("surrogates must not be empty, got none")
    if not 0 < limit < 1e30:
        raise ValueError(f"limit must be > 0, got {limit}")
    x = np.linspace(-limit, limit, 1201)
    ax = axes_or_new(ax)
    open_frame(ax)
    for one, color in zip(several, colors(len(several))):
        ax.plot(x, np.asarray(one.derivative(jnp.asarray(x))), color=color, linewidth=1.8, label=repr(one))
    ax.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
    ax.set_xlim(-limit, limit)
    ax.set_xlabel("Membrane potential - threshold")
    ax.set_ylabel("Surrogate derivative")
    legend_beside(ax)
    return ax


@checked
def trade_off(
    rows: Sequence[Mapping[str, Any]],
    *,
    x: str = "spikes",
    y: str = "accuracy",
    group: str | Sequence[str] | None = None,
    reference: Mapping[str, float] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw what accuracy costs: the rows of a sweep as points, the cost's axis logarithmic where it spans decades.

    Rings mark the points that no other beats, with more accuracy for at most the same cost (the Pareto front).

    Args:
        rows: one mapping per run, with numbers for `x` and `y`; accuracies in [0, 1].
        x: the key of the cost, such as "spikes" or "steps".
        y: the key of what is gained.
        group: the key, or keys, whose values tell the curves apart; points of one curve are joined along x.
        reference: values of `y` that have no cost here, drawn as dashed lines, such as {"rate network": 0.71}.
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: if there are no rows, a row lacks a key, or a number is not finite or, an accuracy, outside [0, 1].

    Examples:
        >>> from jsnn import plot
        >>> rows = [{"scale": s, "steps": t, "accuracy": 1 - 1 / (s * t)} for s in (1, 20) for t in (2, 4, 8)]
        >>> ax = plot.trade_off(rows, x="steps", group="scale")
        >>> [line.get_label() for line in ax.lines][:2], ax.get_xlabel()
        (['scale 1', 'scale 20'], 'Time steps')
    """
    if len(rows) == 0:
        raise ValueError("rows must not be empty, got none: sweep at least one setting")
    keys = [group] if isinstance(group, str) else list(group or [])
    for index, row in enumerate(rows):
        if missing := [key for key in (x, y, *keys) if key not in row]:
            raise ValueError(f"row {index} must have {missing}, got {list(row)}")
    cost = finite(x, [row[x] for row in rows]).astype(np.float64)
    gain = finite(y, [row[y] for row in rows]).astype(np.float64)
    levels = _levels(reference) if y == "accuracy" else dict(reference or {})
    if y == "accuracy":
        _fractions(y, gain)
    members: dict[Hashable, list[int]] = {}
    for index, row in enumerate(rows):
        members.setdefault(", ".join(f"{key} {row[key]}" for key in keys), []).append(index)

    ax = axes_or_new(ax)
    open_frame(ax)
    for position, (name, color) in enumerate(zip(members, colors(len(members)) if len(members) > 1 else [INK])):
        chosen = sorted(members[name], key=lambda index: cost[index])
        joined = {"linewidth": 1.4, "marker": _MARKERS[position % len(_MARKERS)], "markersize": 5}
        ax.plot(cost[chosen], gain[chosen], color=color, label=name, **joined)  # type: ignore[arg-type]
    best = _pareto_front(cost, gain)
    ax.plot(cost[best], gain[best], "o", markersize=11, color=INK, fillstyle="none", label="not beaten")
    for name, level in levels.items():
        ax.axhline(level, color=FAINT, linestyle="--", linewidth=1.4, label=name)
    _cost_axis(ax, cost)
    if y == "accuracy":
        percent(ax.yaxis)
    ax.set_xlabel(_LABELS.get(x, x))
    ax.set_ylabel(_LABELS.get(y, y))
    legend_beside(ax)
    return ax


def _cost_axis(ax: "Axes", cost: np.ndarray) -> None:
    """Make the axis logarithmic where the costs span decades; large and small numbers with k, M, m, ..."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    if cost.min() > 0 and cost.max() >= 10 * cost.min():
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))


def _pareto_front(cost: np.ndarray, gain: np.ndarray) -> list[int]:
    """Return the points that no other beats."""
    front: list[int] = []
    for index in np.lexsort((-gain, cost)).tolist():
        if not front or gain[index] > gain[front[-1]]:
            front.append(index)
    return front


def _curve(name: str, values: ArrayLike) -> np.ndarray:
    array = numbers(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one number per step, [T], got shape {array.shape}")
    return array.astype(np.float64)


def _positions(name: str, values: ArrayLike | None, count: int) -> np.ndarray:
    if values is None:
        return np.arange(1, count + 1)
    array = finite(name, values)
    if array.shape != (count,):
        raise ValueError(f"{name} must be as many as the values, {count}, got shape {array.shape}")
    return array


def _fractions(name: str, values: np.ndarray) -> np.ndarray:
    if not np.all((values >= 0) & (values <= 1)):
        wrong = np.ravel(values[~((values >= 0) & (values <= 1))])[0]
        raise ValueError(f"{name} must be a fraction in [0, 1], got {wrong:.4g}: divide percentages by 100")
    return values


def _levels(reference: Mapping[str, float] | None) -> dict[str, float]:
    """Return accuracies by name, checked."""
    return {name: float(_fractions(name, numbers(name, level))) for name, level in (reference or {}).items()}


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean over `window` values around each, fewer at the ends."""
    ones = np.ones(window)
    return np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")
