"""The networks that an experiment can train."""

from typing import Annotated, Literal, TypeAlias

import pydantic
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from experiments.config.base import Share, settings


@settings
class Feedforward:
    """Dense layers of LIF neurons and a leaky-integrator readout."""

    kind: Literal["feedforward"] = "feedforward"
    hidden: tuple[PositiveInt, ...] = (128,)
    """Neurons in each hidden layer."""
    decay: Share = 0.9
    """Membrane decay of the LIF neurons."""
    readout_decay: Share = 0.9
    """Membrane decay of the readout."""
    slope: PositiveFloat = 25.0
    """Slope of the fast-sigmoid surrogate."""


@settings
class NorseRecurrent:
    """The recurrent network of Norse's MNIST tutorial."""

    kind: Literal["norse_recurrent"] = "norse_recurrent"
    hidden: PositiveInt = 100
    """Recurrent LIF neurons."""
    alpha: PositiveFloat = 100.0
    """Slope of the surrogate."""
    method: str = "super"
    """Surrogate, by Norse's name."""
    v_th: PositiveFloat = 0.5
    """Threshold."""
    tau_mem_inv: PositiveFloat = 100.0
    """Inverse membrane time constant, 1/s."""
    tau_syn_inv: PositiveFloat = 200.0
    """Inverse synaptic time constant, 1/s."""
    dt: PositiveFloat = 1e-3
    """Step, s."""
    input_scale: PositiveFloat = 1.0
    """Factor on Norse's initial input weights."""
    recurrent_scale: NonNegativeFloat = 1.0
    """Factor on Norse's initial recurrent weights."""


@settings
class NorseConv:
    """The convolutional network of Norse's MNIST tutorial."""

    kind: Literal["norse_conv"] = "norse_conv"
    alpha: PositiveFloat = 80.0
    """Slope of the surrogate."""
    method: str = "super"
    """Surrogate, by Norse's name."""
    v_th: PositiveFloat = 1.0
    """Threshold."""
    dt: PositiveFloat = 1e-3
    """Step, s."""


@settings
class RateConv:
    """A convolutional rate network without time, to be converted: 3x3 convolutions, ReLU, average pooling."""

    kind: Literal["rate_conv"] = "rate_conv"
    blocks: tuple[tuple[PositiveInt, ...], ...] = ((32,), (64,), (128,))
    """Channels of the convolutions in each block; a block ends with 2x2 average pooling."""
    dense: tuple[PositiveInt, ...] = (512,)
    """Neurons in each dense layer behind the blocks."""
    batch_norm: bool = False
    """Batch normalisation behind every convolution."""


@settings
class RateDense:
    """A dense rate network without time, to be converted."""

    kind: Literal["rate_dense"] = "rate_dense"
    hidden: tuple[PositiveInt, ...] = (128,)
    """Neurons in each hidden layer, rectified linear."""


@settings
class SpikingDense:
    """The rate network of rate_dense with SpikingActivation in place of its ReLUs (KerasSpiking's tutorial)."""

    kind: Literal["spiking_dense"] = "spiking_dense"
    hidden: tuple[PositiveInt, ...] = (128,)
    """Neurons in each hidden layer."""
    dt: PositiveFloat = 0.1
    """Step, s."""
    v_init: float | Literal["random"] = "random"
    """The membrane before the first step, in thresholds; drawn anew for every batch, or a number."""
    tau: PositiveFloat | None = None
    """Time constant of a trained lowpass filter behind every neuron, s; None for no filter."""


@settings
class SpikingResNet:
    """A spiking residual network, see jsnn.models.spiking_resnet."""

    kind: Literal["spiking_resnet"] = "spiking_resnet"
    depth: tuple[PositiveInt, ...] = (1, 1, 1)
    """Blocks in each stage; a stage has twice the channels of the one before it, and images of half the size."""
    form: Literal["sew", "ms"] = "sew"
    """What skip connections add: spikes (sew) or currents (ms)."""
    stem: Literal["large", "small", "pooled"] = "pooled"
    """The first convolution: 7x7 with stride 2 and pooling, 3x3, or 3x3 with pooling before its neuron."""
    channels: PositiveInt = 32
    """Channels of the first stage."""
    decay: Share = 0.5
    """Membrane decay of the LIF neurons."""
    slope: PositiveFloat = 2.0
    """Slope of the arctan surrogate."""


@settings
class Spikformer:
    """A vision transformer of spikes, see jsnn.models.spikformer."""

    kind: Literal["spikformer"] = "spikformer"
    width: PositiveInt = 96
    """Features of a patch."""
    depth: PositiveInt = 1
    """Blocks of attention and perceptron."""
    heads: PositiveInt = 4
    """Heads of the attention; they divide width."""
    hidden: PositiveInt | None = None
    """Neurons in the perceptron's first layer; None for four times width."""
    pool: tuple[bool, ...] = (True, False, True)
    """For each convolution of the stem, whether pooling halves the image after it."""


Model: TypeAlias = Annotated[
    Feedforward | NorseRecurrent | NorseConv | RateConv | RateDense | SpikingDense | SpikingResNet | Spikformer,
    pydantic.Field(discriminator="kind"),
]
