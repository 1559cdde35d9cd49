"""How many operations a network takes for one inference, and what they might cost.

`count` runs a network on data and counts, operation by operation of its traced program, the multiply-accumulates that
a dense machine does and those that an event-driven one does, where an input or a weight of zero costs nothing.
`joules` multiplies them with what published measurements say of a device. `compare` sets a spiking network beside its
rate twin, by the metrics of NeuroBench.

Such estimates leave out most of what a chip spends: memory, moving spikes over a network, idle power, converting
inputs. They compare networks on one device; they do not say what a device will draw.

Sources: Yik et al., "The NeuroBench framework for benchmarking neuromorphic computing algorithms and systems", Nature
Communications 2025, for the metrics; KerasSpiking's `ModelEnergy` for devices and how their energy is put together.
"""

from jsnn.energy.comparison import Comparison, Complexity, compare
from jsnn.energy.devices import DEVICES, Device, joules
from jsnn.energy.operations import Operations, Synapses, count
from jsnn.energy.widths import ARITHMETIC, Arithmetic, arithmetic

__all__ = [
    "ARITHMETIC",
    "DEVICES",
    "Arithmetic",
    "Comparison",
    "Complexity",
    "Device",
    "Operations",
    "Synapses",
    "arithmetic",
    "compare",
    "count",
    "joules",
]
