"""What an experiment is: plain, frozen, typed values. Every field can be set from the command line.

A config file in `configs/` returns an `Experiment`, a `Study` of several, or a `Gallery`. Nothing here imports JAX,
before the method `make` of a part is called.
"""

from experiments.config.conversion import Calibration, Conversion, Sweep
from experiments.config.experiment import Experiment, Reference, Study
from experiments.config.gallery import Gallery
from experiments.config.serialize import Config, from_json, from_values, to_json, to_values
from experiments.config.training import Mesh, Train
from experiments.parts.base import OneOf, Part, Settings, has_own_parts
from experiments.parts.data import Data, Examples, Sets
from experiments.parts.encoders import (
    Burst,
    ConstantCurrent,
    Delta,
    Direct,
    Encoder,
    Latency,
    Phase,
    PixelByPixel,
    PixelNeurons,
    Poisson,
    Population,
    Rate,
    SpikeLatencyLIF,
)
from experiments.parts.learning import Bptt, Decolle, Eprop, Learning, Online, Ottt, Rtrl, Sltt
from experiments.parts.loggers import Logger, Mlflow, NoLogger, Tensorboard, Wandb
from experiments.parts.networks import (
    Competitive,
    Delayed,
    Feedforward,
    Network,
    NorseConv,
    NorseRecurrent,
    RateConv,
    RateDense,
    Recurrent,
    Spikformer,
    SpikingDense,
    SpikingResNet,
)
from experiments.parts.objectives import (
    CeCountLoss,
    CeRateLoss,
    CrossEntropy,
    CrossEntropyInTime,
    Decoder,
    Last,
    Loss,
    MaxOverTime,
    Mean,
    Mse,
    MseCountLoss,
    MseInTime,
    Objective,
    Sum,
)
from experiments.parts.optimizer import Optimizer
from experiments.parts.recordings import Events, Recordings, Speech
