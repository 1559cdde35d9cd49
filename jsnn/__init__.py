"""jsnn: a differentiable simulator of spiking neural networks in JAX.

A neuron is an immutable pytree with two pure methods, `init` and `step`; a network is a neuron too; `unroll` is the
one loop over time. Time is axis 0 everywhere: `[T, B, ...]`, channels last.
"""

from jsnn import (
    augment,
    compat,
    conversion,
    data,
    decode,
    encode,
    energy,
    events,
    filters,
    losses,
    memory,
    metrics,
    models,
    nir,
    plot,
    precision,
    regularizers,
    sharding,
    surrogate,
    testing,
    train,
    weights,
)
from jsnn.conversion import convert
from jsnn.convolution import Conv
from jsnn.layers import Recurrent, Sequential, avg_pool, flatten, max_pool
from jsnn.linear import Linear
from jsnn.memory import memory_estimate
from jsnn.network import Network
from jsnn.neurons import (
    ALIF,
    EIF,
    IF,
    LI,
    LIF,
    QIF,
    SRM0,
    AdaptiveLIF,
    AdEx,
    AdQIF,
    BurstIF,
    ConductanceLIF,
    CuBaLI,
    CuBaLIF,
    Izhikevich,
    ParametricLIF,
    PoissonSpiking,
    Rate,
    RefractoryLIF,
    ResonateAndFire,
    SigmaDelta,
    SlidingPSN,
    SpikingActivation,
    StochasticSpiking,
)
from jsnn.neurons.pytree import with_dt
from jsnn.neurons.wrappers import Delay, Dropout, Refractory, Stochastic
from jsnn.normalization import ThresholdBatchNorm
from jsnn.record import LayerRecord, record
from jsnn.types import Neuron
from jsnn.unroll import unroll

__version__ = "0.1.0"

__all__ = [
    "ALIF",
    "EIF",
    "IF",
    "LI",
    "LIF",
    "QIF",
    "SRM0",
    "AdEx",
    "AdQIF",
    "AdaptiveLIF",
    "BurstIF",
    "ConductanceLIF",
    "Conv",
    "CuBaLI",
    "CuBaLIF",
    "Delay",
    "Dropout",
    "Izhikevich",
    "LayerRecord",
    "Linear",
    "Network",
    "Neuron",
    "ParametricLIF",
    "PoissonSpiking",
    "Rate",
    "Recurrent",
    "Refractory",
    "RefractoryLIF",
    "ResonateAndFire",
    "Sequential",
    "SigmaDelta",
    "SlidingPSN",
    "SpikingActivation",
    "Stochastic",
    "StochasticSpiking",
    "ThresholdBatchNorm",
    "augment",
    "avg_pool",
    "compat",
    "conversion",
    "convert",
    "data",
    "decode",
    "encode",
    "energy",
    "events",
    "filters",
    "flatten",
    "losses",
    "max_pool",
    "memory",
    "memory_estimate",
    "metrics",
    "models",
    "nir",
    "plot",
    "precision",
    "record",
    "regularizers",
    "sharding",
    "surrogate",
    "testing",
    "train",
    "unroll",
    "weights",
    "with_dt",
]
