"""The networks that an experiment can train."""

import functools
import math
from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

import jsnn
from experiments.parts.base import Part, Share


class Network(Part):
    """Base of the networks."""

    is_rate: ClassVar[bool] = False  # without time

    @abstractmethod
    def make(self, inputs: tuple[int, ...], outputs: int, rngs: Any) -> Any:
        """Return the untrained network: a Neuron, or, where `is_rate` is true, a function without time.

        Args:
            inputs: the shape of one example at one step, `(H, W, C)` of an image.
            outputs: the number of classes.
            rngs: an `nnx.Rngs` that draws the weights.
        """

    def at_step(self, network: Any, step: Any, total_steps: int) -> Any:
        """Return the network for one optimiser step, with its scheduled values set."""
        return network

    def for_inference(self, network: Any) -> Any:
        """Return the form of the trained network that is evaluated and saved."""
        return network


class Feedforward(Network):
    """Dense layers of LIF neurons and a leaky-integrator readout."""

    hidden: tuple[PositiveInt, ...] = (128,)
    """Neurons in each hidden layer."""
    decay: Share = 0.9
    """Membrane decay of the LIF neurons."""
    readout_decay: Share = 0.9
    """Membrane decay of the readout."""
    slope: PositiveFloat = 25.0
    """Slope of the fast-sigmoid surrogate."""

    def make(self, inputs: tuple[int, ...], outputs: int, rngs: Any) -> Any:
        return jsnn.models.feedforward(
            _sizes(inputs, self.hidden, outputs),
            rngs=rngs,
            neuron=lambda: jsnn.LIF(self.decay, surrogate=jsnn.surrogate.fast_sigmoid(self.slope)),
            readout=lambda: jsnn.LI(self.readout_decay),
        )


class Recurrent(Network):
    """Dense layers of LIF or adaptive neurons whose spikes come back to all of their layer, and a readout."""

    hidden: tuple[PositiveInt, ...] = (128,)
    """Neurons in each hidden layer."""
    decay: Share = 0.95
    """Membrane decay of the hidden neurons."""
    adaptation: NonNegativeFloat = 0.0
    """How far a spike raises the threshold of its neuron (ALIF); 0 for LIF neurons."""
    decay_adaptation: Share = 0.99
    """Decay of the raised threshold."""
    readout_decay: Share = 0.95
    """Membrane decay of the readout."""
    slope: PositiveFloat = 10.0
    """Slope of the fast-sigmoid surrogate."""

    def make(self, inputs: tuple[int, ...], outputs: int, rngs: Any) -> Any:
        surrogate = jsnn.surrogate.fast_sigmoid(self.slope)

        def neuron() -> Any:
            if not self.adaptation:
                return jsnn.LIF(self.decay, surrogate=surrogate)
            return jsnn.ALIF(self.decay, self.decay_adaptation, self.adaptation, surrogate=surrogate)

        return jsnn.models.adaptive_recurrent(
            _sizes(inputs, self.hidden, outputs),
            rngs=rngs,
            neuron=neuron,
            readout=lambda: jsnn.LI(self.readout_decay),
        )


class Delayed(Network):
    """Dense layers in which each synapse learns a delay, see jsnn.models.delayed_feedforward."""

    hidden: tuple[PositiveInt, ...] = (128,)
    """Neurons in each hidden layer."""
    max_delay: tuple[NonNegativeInt, ...] = (24,)
    """The largest delay in each layer, the last one included, in steps; one number for all layers."""
    width: Annotated[float, Field(ge=0.5)] | None = None
    """The width of the delays at the beginning, in steps; it shrinks to 0.5. None for half of the largest delay."""
    decay: Share = 0.9
    """Membrane decay of the hidden neurons."""
    readout_decay: Share = 0.9
    """Membrane decay of the readout."""
    slope: PositiveFloat = 5.0
    """Slope of the arctan surrogate."""
    dropout: Share = 0.0
    """Share of the hidden spikes that training leaves out."""

    def make(self, inputs: tuple[int, ...], outputs: int, rngs: Any) -> Any:
        surrogate = jsnn.surrogate.arctan(self.slope)
        return jsnn.models.delayed_feedforward(
            _sizes(inputs, self.hidden, outputs),
            max_delay=self.max_delay[0] if len(self.max_delay) == 1 else self.max_delay,
            rngs=rngs,
            dropout=self.dropout,
            neuron=lambda: jsnn.LIF(self.decay, surrogate=surrogate),
            readout=lambda: jsnn.LI(self.readout_decay),
        )

    def at_step(self, network: Any, step: Any, total_steps: int) -> Any:
        """Return the network with delays as wide as they are at an optimiser step."""
        if not any(self.max_delay):
            return network
        width = jsnn.delays.shrinking_width(max(self.max_delay), total_steps, start=self.width)
        return jsnn.delays.at_width(network, width(step))

    def for_inference(self, network: Any) -> Any:
        """Return the trained network with delays of whole steps."""
        return jsnn.delays.rounded(network)


class Competitive(Network):
    """Neurons that learn by STDP and lateral inhibition, without the labels, and a trained readout of their spikes."""

    hidden: PositiveInt = 256
    """Competing neurons."""
    decay: Share = 0.9
    """Membrane decay of the competing neurons."""
    inhibition: NonNegativeFloat = 40.0
    """How much a spike lowers the current of every other neuron, one step later."""
    threshold: PositiveFloat = 20.0
    """Threshold of all neurons at the beginning."""
    decay_pre: Share = 0.9
    """Decay of the presynaptic traces."""
    potentiation: NonNegativeFloat = 2.0
    """How far a weight goes up for a trace of 1 at a spike, divided by the batch; 0 for random features."""
    total: PositiveFloat | None = None
    """Sum of the weights of each neuron; None for a tenth of the number of inputs."""
    target: PositiveFloat = 0.08
    """Spikes of a neuron for an example that homeostasis aims at."""
    threshold_rate: NonNegativeFloat = 0.3
    """How far a threshold rises for a batch with twice as many spikes."""
    plastic_for: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The share of the training after which the competing neurons learn no more; they slow down linearly."""

    def make(self, inputs: tuple[int, ...], outputs: int, rngs: Any) -> Any:
        return jsnn.models.competitive(
            _sizes(inputs, (self.hidden,), outputs), rngs=rngs, **_fields(self, "hidden", "plastic_for")
        )

    def at_step(self, network: Any, step: Any, total_steps: int) -> Any:
        """Return the network with neurons that learn as fast as they are to at an optimiser step."""
        left = 1 - step / (self.plastic_for * total_steps)
        return jsnn.models.at_plasticity(network, left.clip(0))


class NorseRecurrent(Network):
    """The recurrent network of Norse's MNIST tutorial."""

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

    def make(self, inputs: tuple[int, ...], outputs: int, rngs: Any) -> Any:
        size, hidden, *_ = _sizes(inputs, (self.hidden,), outputs)
        return jsnn.models.norse_recurrent(size, hidden, outputs, rngs=rngs, **_fields(self, "hidden"))


class NorseConv(Network):
    """The convolutional network of Norse's MNIST tutorial."""

    alpha: PositiveFloat = 80.0
    """Slope of the surrogate."""
    method: str = "super"
    """Surrogate, by Norse's name."""
    v_th: PositiveFloat = 1.0
    """Threshold."""
    dt: PositiveFloat = 1e-3
    """Step, s."""

    def make(self, inputs: tuple[int, ...], outputs: int, rngs: Any) -> Any:
        size, _, channels = inputs
        return jsnn.models.norse_conv(rngs=rngs, image_size=size, channels=channels, outputs=outputs, **_fields(self))


class RateConv(Network):
    """A convolutional rate network without time, to be converted: 3x3 convolutions, ReLU, average pooling."""

    is_rate: ClassVar[bool] = True
    blocks: tuple[tuple[PositiveInt, ...], ...] = ((32,), (64,), (128,))
    """Channels of the convolutions in each block; a block ends with 2x2 average pooling."""
    dense: tuple[PositiveInt, ...] = (512,)
    """Neurons in each dense layer after the blocks."""
    batch_norm: bool = False
    """Batch normalisation after every convolution."""

    def make(self, inputs: tuple[int, ...], outputs: int, rngs: Any) -> Any:
        return jsnn.models.rate_conv(rngs=rngs, image_shape=inputs, outputs=outputs, **_fields(self))


class RateDense(Network):
    """A dense rate network without time, to be converted."""

    is_rate: ClassVar[bool] = True
    hidden: tuple[PositiveInt, ...] = (128,)
    """Neurons in each hidden layer, rectified linear."""

    def make(self, inputs: tuple[int, ...], outputs: int, rngs: Any) -> Any:
        return jsnn.models.rate_dense(_sizes(inputs, self.hidden, outputs), rngs=rngs)


class SpikingDense(Network):
    """The rate network of rate_dense with SpikingActivation in place of its ReLUs (KerasSpiking's tutorial)."""

    hidden: tuple[PositiveInt, ...] = (128,)
    """Neurons in each hidden layer."""
    dt: PositiveFloat = 0.1
    """Step, s."""
    v_init: float | Literal["random"] = "random"
    """The membrane before the first step, in thresholds; drawn anew for every batch, or a number."""
    tau: PositiveFloat | None = None
    """Time constant of a trained lowpass filter after every neuron, s; None for no filter."""

    def make(self, inputs: tuple[int, ...], outputs: int, rngs: Any) -> Any:
        v_init = rngs.default.key[...] if self.v_init == "random" else self.v_init
        sizes = _sizes(inputs, self.hidden, outputs)
        return jsnn.models.spiking_dense(sizes, rngs=rngs, dt=self.dt, v_init=v_init, tau=self.tau)


class SpikingResNet(Network):
    """A spiking residual network, see jsnn.models.spiking_resnet."""

    kind: ClassVar[str] = "spiking_resnet"
    depth: tuple[PositiveInt, ...] = (1, 1, 1)
    """Blocks in each stage; a stage has twice the channels of the one before it, and images of half the size."""
    form: Literal["sew", "ms"] = "sew"
    """What skip connections add: spikes (sew) or currents (ms)."""
    stem: Literal["large", "small", "pooled"] = "pooled"
    """The first convolution: 7x7 with stride 2 and pooling, 3x3, or 3x3 with pooling before its neuron."""
    channels: PositiveInt = 32
    """Channels of the first stage."""
    decay: Share = 0.5
    """Membrane decay of the LIF neurons; 1 for IF neurons."""
    v_rest: float = 0.0
    """Where their membranes start, in thresholds, and to which they decay."""
    reset: Literal["zero", "subtract"] = "zero"
    """The membrane after a spike: zero, or lowered by the threshold."""
    detach_reset: bool = True
    """Whether the gradient ignores the reset."""
    slope: PositiveFloat = 2.0
    """Slope of the arctan surrogate."""

    def make(self, inputs: tuple[int, ...], outputs: int, rngs: Any) -> Any:
        of_neuron = ("decay", "v_rest", "reset", "detach_reset")
        surrogate = jsnn.surrogate.arctan(self.slope)
        neuron = functools.partial(jsnn.LIF, surrogate=surrogate, **{name: getattr(self, name) for name in of_neuron})
        options = _fields(self, *of_neuron, "slope")
        return jsnn.models.spiking_resnet(rngs=rngs, inputs=inputs[-1], outputs=outputs, neuron=neuron, **options)


class Spikformer(Network):
    """A vision transformer of spikes, see jsnn.models.spikformer."""

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

    def make(self, inputs: tuple[int, ...], outputs: int, rngs: Any) -> Any:
        return jsnn.models.spikformer(rngs=rngs, inputs=inputs[-1], outputs=outputs, **_fields(self))


def _sizes(inputs: tuple[int, ...], hidden: tuple[int, ...], outputs: int) -> tuple[int, ...]:
    """Return the numbers of neurons in all layers, the input's first."""
    return (math.prod(inputs), *hidden, outputs)


def _fields(part: Part, *without: str) -> dict[str, Any]:
    """Return the fields of a part as arguments, but for some."""
    return {name: value for name, value in vars(part).items() if name not in without}
