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
    metrics,
    models,
    plot,
    regularizers,
    surrogate,
    train,
)
from jsnn.conversion import convert
from jsnn.convolution import Conv
from jsnn.layers import Recurrent, Sequential, avg_pool, flatten, max_pool
from jsnn.neurons import (
    ALIF,
    IF,
    LI,
    LIF,
    BurstIF,
    CuBaLI,
    CuBaLIF,
    PoissonSpiking,
    Rate,
    RefractoryLIF,
    SpikingActivation,
    StochasticSpiking,
)
from jsnn.neurons.base import with_dt
from jsnn.record import LayerRecord, record
from jsnn.types import Neuron
from jsnn.unroll import unroll

__version__ = "0.1.0"

__all__ = [
    "ALIF",
    "IF",
    "LI",
    "LIF",
    "BurstIF",
    "Conv",
    "CuBaLI",
    "CuBaLIF",
    "LayerRecord",
    "Neuron",
    "PoissonSpiking",
    "Rate",
    "Recurrent",
    "RefractoryLIF",
    "Sequential",
    "SpikingActivation",
    "StochasticSpiking",
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
    "metrics",
    "models",
    "plot",
    "record",
    "regularizers",
    "surrogate",
    "train",
    "unroll",
    "with_dt",
]
