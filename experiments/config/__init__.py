"""What an experiment is: plain, frozen, typed values. Every field can be set from the command line.

A config file in `configs/` returns an `Experiment`, a `Study` of several, or a `Gallery`. Nothing here imports JAX:
`experiments.build` makes the objects.
"""

from experiments.config.conversion import Calibration, Conversion, Sweep
from experiments.config.encoders import (
    Burst,
    ConstantCurrent,
    Delta,
    Direct,
    Encoder,
    Latency,
    Phase,
    PixelNeurons,
    Poisson,
    Population,
    Rate,
    SpikeLatencyLIF,
)
from experiments.config.experiment import Experiment, Reference, Study
from experiments.config.gallery import Gallery
from experiments.config.networks import (
    Feedforward,
    Model,
    NorseConv,
    NorseRecurrent,
    RateConv,
    RateDense,
    Spikformer,
    SpikingDense,
    SpikingResNet,
)
from experiments.config.serialize import Config, from_json, to_json, to_values
from experiments.config.training import Data, Mesh, Objective, Optimizer, Train

__all__ = [
    "Burst",
    "Calibration",
    "Config",
    "ConstantCurrent",
    "Conversion",
    "Data",
    "Delta",
    "Direct",
    "Encoder",
    "Experiment",
    "Feedforward",
    "Gallery",
    "Latency",
    "Mesh",
    "Model",
    "NorseConv",
    "NorseRecurrent",
    "Objective",
    "Optimizer",
    "Phase",
    "PixelNeurons",
    "Poisson",
    "Population",
    "Rate",
    "RateConv",
    "RateDense",
    "Reference",
    "SpikeLatencyLIF",
    "Spikformer",
    "SpikingDense",
    "SpikingResNet",
    "Study",
    "Sweep",
    "Train",
    "from_json",
    "to_json",
    "to_values",
]
