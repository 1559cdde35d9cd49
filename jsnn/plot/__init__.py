"""Pictures of spiking networks, drawn with matplotlib.

Each function takes NumPy or JAX arrays, time first, and draws into the Axes it is given, or into those of a new figure.
It returns the Axes, whose figure is saved with `ax.figure.savefig("raster.png")`; nothing is shown, and nothing global
is changed. Where arrays have a batch, [T, B, ...], `sample` chooses what is drawn of it. Several layers are given by
name, as in `raster({name: layer.outputs for name, layer in jsnn.record(network, inputs).items()}, sample=0)`.
"""

from jsnn.plot.animation import animate, to_html5
from jsnn.plot.classes import class_probabilities, confusion_matrix, output_traces
from jsnn.plot.curves import accuracy_against_steps, surrogate_derivatives, trade_off, training_curves
from jsnn.plot.energies import energy
from jsnn.plot.pictures import feature_maps, images, input_reconstruction, weights
from jsnn.plot.potentials import traces
from jsnn.plot.rates import firing_rate_histogram, isi_histogram, spike_histogram
from jsnn.plot.sounds import sound
from jsnn.plot.spikes import raster, spike_counts

__all__ = [
    "accuracy_against_steps",
    "animate",
    "class_probabilities",
    "confusion_matrix",
    "energy",
    "feature_maps",
    "firing_rate_histogram",
    "images",
    "input_reconstruction",
    "isi_histogram",
    "output_traces",
    "raster",
    "sound",
    "spike_counts",
    "spike_histogram",
    "surrogate_derivatives",
    "to_html5",
    "traces",
    "trade_off",
    "training_curves",
    "weights",
]
