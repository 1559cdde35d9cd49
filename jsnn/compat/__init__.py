"""Presets of other libraries' conventions: their parameter names and defaults in, the equivalent jsnn Neuron out."""

from jsnn.compat import keras_spiking, nengo, norse, snntorch, snntorch_functional, spikingjelly

__all__ = ["keras_spiking", "nengo", "norse", "snntorch", "snntorch_functional", "spikingjelly"]
