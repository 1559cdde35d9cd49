"""jsnn: a differentiable simulator of spiking neural networks in JAX.

A neuron is an immutable pytree with two pure methods, `init` and `step`; a network is a neuron too; `unroll` is the
one loop over time. Time is axis 0 everywhere: `[T, B, ...]`, channels last.
"""

from jsnn import (
    augment,
    compat,
    data,
    decode,
    encode,
    events,
    losses,
    metrics,
    models,
    regularizers,
    surrogate,
    train,
)
from jsnn.convolution import Conv
from jsnn.layers import LayerRecord, Recurrent, Sequential, avg_pool, flatten, max_pool, record
from jsnn.neurons import ALIF, IF, LI, LIF, CuBaLI, CuBaLIF
from jsnn.types import Neuron
from jsnn.unroll import unroll

__version__ = "0.1.0"

__all__ = [
    "ALIF",
    "IF",
    "LI",
    "LIF",
    "Conv",
    "CuBaLI",
    "CuBaLIF",
    "LayerRecord",
    "Neuron",
    "Recurrent",
    "Sequential",
    "augment",
    "avg_pool",
    "compat",
    "data",
    "decode",
    "encode",
    "events",
    "flatten",
    "losses",
    "max_pool",
    "metrics",
    "models",
    "record",
    "regularizers",
    "surrogate",
    "train",
    "unroll",
]
