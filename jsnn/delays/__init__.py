"""Delays: one for each neuron, `Delay`, or for each synapse, `DelayedLinear` and `DelayedConv`; fixed or learned.

    network = jsnn.Sequential(jsnn.DelayedLinear(700, 256, max_delay=24, rngs=rngs), jsnn.LIF(0.9), ...)
    width = jsnn.delays.shrinking_width(24, total_steps=5000)
    step = jsnn.train.make_step(..., at_step=lambda network, step: jsnn.delays.at_width(network, width(step)))
    network = jsnn.delays.rounded(network)  # for inference: delays of whole steps

Each keeps its last inputs in one array, the oldest first.

Source: Hammouamri, Khalfaoui-Hassani and Masquelier, "Learning delays in spiking neural networks using dilated
convolutions with learnable spacings" (ICLR 2024), and its package `dcls`.
"""

from jsnn.delays.per_neuron import Delay
from jsnn.delays.per_synapse import Delayed, DelayedConv, DelayedLinear
from jsnn.delays.state import DelayState
from jsnn.delays.training import at_width, check_recording, rounded, shrinking_width

__all__ = [
    "Delay",
    "DelayState",
    "Delayed",
    "DelayedConv",
    "DelayedLinear",
    "at_width",
    "check_recording",
    "rounded",
    "shrinking_width",
]
