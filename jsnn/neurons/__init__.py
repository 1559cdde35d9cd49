"""Neurons: each a frozen pytree with a pure `init` and a pure `step`."""

from jsnn.neurons.adaptive import AdaptationState, AdEx, AdQIF
from jsnn.neurons.adaptive_lif import AdaptiveRefractoryLIF, AdaptiveRefractoryLIFState
from jsnn.neurons.alif import ALIF, ALIFState
from jsnn.neurons.base import SpikingNeuron
from jsnn.neurons.burst import BurstIF
from jsnn.neurons.calling import call
from jsnn.neurons.conductance import ConductanceLIF, ConductanceLIFState
from jsnn.neurons.cuba import CuBaLI, CuBaLIF, CuBaState
from jsnn.neurons.izhikevich import Izhikevich, IzhikevichState
from jsnn.neurons.li import LI
from jsnn.neurons.lif import IF, LIF, LIFState
from jsnn.neurons.nonlinear import EIF, QIF
from jsnn.neurons.parallel import SlidingPSN, SlidingPSNState
from jsnn.neurons.parametric import ParametricLIF
from jsnn.neurons.refractory import RefractoryLIF, RefractoryLIFState, lif_rate
from jsnn.neurons.resonate import ResonateAndFire, ResonateAndFireState
from jsnn.neurons.sigma_delta import SigmaDelta, SigmaDeltaState
from jsnn.neurons.spike_response import SRM0, SRM0State
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
    "EIF",
    "IF",
    "LI",
    "LIF",
    "QIF",
    "SRM0",
    "ALIFState",
    "AdEx",
    "AdQIF",
    "AdaptationState",
    "AdaptiveRefractoryLIF",
    "AdaptiveRefractoryLIFState",
    "BurstIF",
    "ConductanceLIF",
    "ConductanceLIFState",
    "CuBaLI",
    "CuBaLIF",
    "CuBaState",
    "Izhikevich",
    "IzhikevichState",
    "LIFState",
    "ParametricLIF",
    "PoissonSpiking",
    "RandomSpikesState",
    "Rate",
    "RefractoryLIF",
    "RefractoryLIFState",
    "ResonateAndFire",
    "ResonateAndFireState",
    "SRM0State",
    "SigmaDelta",
    "SigmaDeltaState",
    "SlidingPSN",
    "SlidingPSNState",
    "SpikingActivation",
    "SpikingActivationState",
    "SpikingNeuron",
    "StochasticSpiking",
    "call",
    "lif_rate",
]
