"""Neurons: each a frozen pytree with a pure `init` and a pure `step`."""

from jsnn.neurons.alif import ALIF, ALIFState
from jsnn.neurons.base import SpikingNeuron
from jsnn.neurons.burst import BurstIF
from jsnn.neurons.cuba import CuBaLI, CuBaLIF, CuBaState
from jsnn.neurons.li import LI
from jsnn.neurons.lif import IF, LIF, LIFState
from jsnn.neurons.refractory import RefractoryLIF, RefractoryLIFState, lif_rate
from jsnn.neurons.spiking_activation import (
    PoissonSpiking,
    RandomSpikesState,
    Rate,
    SpikingActivation,
    SpikingActivationState,
    StochasticSpiking,
)

__all__ = [
    "ALIF",
    "IF",
    "LI",
    "LIF",
    "ALIFState",
    "BurstIF",
    "CuBaLI",
    "CuBaLIF",
    "CuBaState",
    "LIFState",
    "PoissonSpiking",
    "RandomSpikesState",
    "Rate",
    "RefractoryLIF",
    "RefractoryLIFState",
    "SpikingActivation",
    "SpikingActivationState",
    "SpikingNeuron",
    "StochasticSpiking",
    "lif_rate",
]
