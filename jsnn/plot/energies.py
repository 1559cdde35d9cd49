"""What an inference might cost on one device and another."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from jsnn.arguments import checked
from jsnn.plot.arrays import numbers
from jsnn.plot.canvas import FAINT, INK, axes_or_new, colors, open_frame, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^v"


@checked
def energy(joules: Mapping[str, Mapping[str, float | None]], *, ax: "Axes | None" = None) -> "Axes":
    """Draw the energy of one inference, a row for each device and a point for each network, on a logarithmic axis.

    Args:
        joules: for each network, J by device, as `jsnn.energy.Comparison` has them; None where a device cannot run it.
        ax: where to draw; None makes a figure.

    Raises:
        TypeError: if the energies of a network are not given by device, or are not numbers.
        ValueError: if there are no networks or no devices, or an energy is not finite and positive.

    Examples:
        >>> from jsnn import plot
        >>> ax = plot.energy({"spiking": {"cpu": 2e-4, "loihi": 1e-7}, "rate twin": {"cpu": 1e-5, "loihi": None}})
        >>> [text.get_text() for text in ax.get_yticklabels()]
        ['cpu', 'loihi']
    """
    for name, costs in joules.items():
        if not isinstance(costs, Mapping):
            raise TypeError(f"joules must hold J by device for each network, got {costs!r} for {name}")
    devices = list(dict.fromkeys(device for costs in joules.values() for device in costs))
    if not devices:
        raise ValueError(f"joules must name networks and devices, got {dict(joules)}")
    for name, costs in joules.items():
        for device, cost in costs.items():
            what = f"the energy of {name} on {device}"
            if cost is not None and not 0 < numbers(what, cost) < np.inf:
                raise ValueError(f"{what} must be finite and > 0 J, got {cost}")
    columns = max(1, 60 // (6 + max(len(short(name)) for name in joules)))  # of the legend
    ax = axes_or_new(ax, height=1.2 + 0.42 * len(devices) + 0.2 * -(-len(joules) // columns))
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    open_frame(ax)
    ax.grid(visible=False, axis="y")
    shown = [cost for costs in joules.values() for cost in costs.values() if cost is not None]
    for row, device in enumerate(devices):
        there = [cost for costs in joules.values() if (cost := costs.get(device)) is not None]
        if len(there) > 1:
            ax.plot([min(there), max(there)], [row, row], color=FAINT, linewidth=1.2, zorder=1)
    unit = EngFormatter("J", places=1)
    for index, ((name, costs), color) in enumerate(zip(joules.items(), colors(len(joules)))):
        known = [(row, cost) for row, device in enumerate(devices) if (cost := costs.get(device)) is not None]
        rows, values = zip(*known) if known else ((), ())
        ax.plot(values, rows, _MARKERS[index % len(_MARKERS)], color=color, markersize=8, label=short(name))
        for row, cost in known:
            place = (0, 7 if index % 2 == 0 else -16)  # above and below: two points may be close
            ax.annotate(
                unit(cost), (cost, row), place, textcoords="offset points", ha="center", fontsize="x-small", color=INK
            )
    ax.set_xscale("log")
    if shown:
        ax.set_xlim(min(shown) / 4, max(shown) * 4)
    ax.xaxis.set_major_locator(LogLocator(numticks=9))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(EngFormatter("J"))
    ax.set_yticks(range(len(devices)), [short(device) for device in devices])
    ax.set_ylim(len(devices) - 0.4, -0.7)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("Energy of one inference, estimated")
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small", ncols=columns)
    return ax
