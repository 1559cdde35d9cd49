"""What a conversion did, as a table."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jsnn.filters import Filter
from jsnn.types import Neuron, Parameter, Shape


class Row(NamedTuple):
    """One activation that was replaced."""

    name: str
    """Position and kind, such as "0_relu"."""
    kind: str
    shape: Shape
    neuron: Neuron
    scale: Parameter
    synapse: Neuron | None
    where: str
    """The layer whose output it is applied to."""


class Report(NamedTuple):
    """Every activation of a converted network; printed, a table."""

    rows: Sequence[Row]
    kept: Sequence[str]
    """Non-linear functions that were left as they are, in the program's order."""
    dt: Parameter
    """The length of a step, in s."""
    exchanged: Sequence[str] = ()
    """Functions that gave way to another function, such as "max_pool by avg_pool"."""
    exact: Sequence[str] = ()
    """Those of the kept functions that work on the means of spikes."""

    def __str__(self) -> str:
        head = ("name", "after", "shape", "replaced by", "scale", "synapse")
        lines = [
            (
                row.name,
                row.where,
                str(list(row.shape)),
                type(row.neuron).__name__,
                _scale(row.scale),
                _synapse(row.synapse),
            )
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(head, *lines)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in (head, *lines)]
        if self.exchanged:
            table.append(f"exchanged: {_counted(self.exchanged)}")
        as_is = list((Counter(self.kept) - Counter(self.exact)).elements())
        if self.exact:
            table.append(f"kept, exact in the mean over time: {_counted(self.exact)}")
        return "\n".join([*table, f"kept as they are: {_counted(as_is) or 'nothing'}", f"dt: {_scale(self.dt)} s"])


def _counted(names: Sequence[str]) -> str:
    counts = Counter(names)
    return ", ".join(name if count == 1 else f"{name} ({count} times)" for name, count in counts.items())


def _scale(scale: Parameter) -> str:
    values = np.asarray(scale)
    return f"{float(values):.4g}" if values.ndim == 0 else f"{values.min():.4g} to {values.max():.4g}"


def _synapse(synapse: Neuron | None) -> str:
    if synapse is None:
        return "none"
    is_number = isinstance(synapse, Filter) and np.ndim(synapse.tau) == 0
    return f"{type(synapse).__name__}({float(synapse.tau):g} s)" if is_number else type(synapse).__name__  # type: ignore[attr-defined]
