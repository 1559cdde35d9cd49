"""Presets of other libraries' conventions: their parameter names and defaults in, the equivalent jsnn Neuron out."""

from jsnn.compat import norse, snntorch

__all__ = ["norse", "snntorch"]
