"""What an experiment is: plain, frozen, typed values. Every field can be set from the command line.

A config file in `configs/` returns an `Experiment`, a `Study` of several, or a `Gallery`. Nothing here imports JAX:
`experiments.build` makes the objects.
"""

from typing import Annotated, Any, Literal, TypeAlias

import pydantic
import pydantic_core
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

_STRICT = pydantic.ConfigDict(extra="forbid")
Share: TypeAlias = Annotated[float, pydantic.Field(ge=0, le=1)]


@dataclass(frozen=True, config=_STRICT)
class Data:
    """The data set, and what is done to its images before they are encoded."""

    name: str = "digits"
    """A data set that TFDS knows ("mnist", "cifar10", ...), "digits", or the path of an .npz file."""
    train_split: str = "train"
    """What to train on, in TFDS's notation: "train", "train[:90%]"."""
    test_split: str = "test"
    """What the reported test accuracy is measured on."""
    validation_split: str | None = None
    """What early stopping and the choice of the best checkpoint look at; None takes the test split for the latter."""
    mean: tuple[float, ...] = (0.0,)
    """Subtracted from the pixels (0 to 1), per channel."""
    std: tuple[float, ...] = (1.0,)
    """What the pixels are divided by, per channel."""
    flip: bool = False
    """Augmentation: mirror half of the training images."""
    shift: NonNegativeInt = 0
    """Augmentation: shift training images by up to so many pixels."""
    cutout: NonNegativeInt = 0
    """Augmentation: blank a square of so many pixels in training images."""
    shuffle: bool = True
    """Draw a new order of the training images for every epoch; False keeps the data set's own."""
    residence: Literal["auto", "device", "host"] = "auto"
    """Where the training set lies: whole on the device, or streamed from the host ("auto": by its size, 2 GiB)."""


@dataclass(frozen=True, config=_STRICT)
class Direct:
    """The image itself is the current at every step; nothing is tiled, the first layer runs once."""

    kind: Literal["direct"] = "direct"


@dataclass(frozen=True, config=_STRICT)
class PixelNeurons:
    """One LIF neuron a pixel: what the two encoders made of them share."""

    threshold: PositiveFloat = 1.0
    """Membrane potential at which a pixel's neuron spikes."""
    tau_mem: PositiveFloat = 1e-2
    """Membrane time constant, s."""
    dt: PositiveFloat = 1e-3
    """Step, s."""


@dataclass(frozen=True, config=_STRICT)
class ConstantCurrent(PixelNeurons):
    """The image drives one LIF neuron a pixel; their spikes are the input (Norse's ConstantCurrentLIFEncoder)."""

    kind: Literal["constant_current"] = "constant_current"


@dataclass(frozen=True, config=_STRICT)
class SpikeLatencyLIF(PixelNeurons):
    """As constant_current, but only each pixel's first spike (Norse's SpikeLatencyLIFEncoder)."""

    kind: Literal["spike_latency_lif"] = "spike_latency_lif"


@dataclass(frozen=True, config=_STRICT)
class Poisson:
    """Spikes at random, at a rate of the pixel's value times f_max (Norse's PoissonEncoder)."""

    kind: Literal["poisson"] = "poisson"
    f_max: PositiveFloat = 100.0
    """Rate of a pixel of value 1, Hz."""
    dt: PositiveFloat = 1e-3
    """Step, s."""


@dataclass(frozen=True, config=_STRICT)
class Rate:
    """Spikes at random, with the pixel's value as the probability at each step (snnTorch's spikegen.rate)."""

    kind: Literal["rate"] = "rate"
    gain: float = 1.0
    """Factor on the pixel before it is clipped to [0, 1]."""
    offset: float = 0.0
    """Added to the pixel after the factor."""


@dataclass(frozen=True, config=_STRICT)
class Latency:
    """One spike a pixel, the brighter the earlier (snnTorch's spikegen.latency)."""

    kind: Literal["latency"] = "latency"
    tau: PositiveFloat = 1.0
    """Time constant, in steps."""
    threshold: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.01
    """Pixels darker than this all spike at the same time, the last."""
    normalize: bool = True
    """Stretch the times over all steps; otherwise spikes after the last step are left out."""
    linear: bool = False
    """Times linear in the pixel, in place of a LIF neuron's."""
    clip: bool = False
    """Leave out the spikes of pixels below the threshold."""


@dataclass(frozen=True, config=_STRICT)
class Delta:
    """Spikes where a pixel changes: of a still image, one at the first step for each bright pixel (spikegen.delta)."""

    kind: Literal["delta"] = "delta"
    threshold: PositiveFloat = 0.1
    """Change from step to step that makes a spike; the image comes up from 0."""


@dataclass(frozen=True, config=_STRICT)
class Burst:
    """A burst of spikes a pixel: the brighter, the more and the closer (Guo et al., 2021)."""

    kind: Literal["burst"] = "burst"
    max_spikes: PositiveInt = 5
    """Spikes of a pixel of value 1."""
    min_interval: PositiveInt = 2
    """Steps from spike to spike of a pixel of value 1."""


@dataclass(frozen=True, config=_STRICT)
class Phase:
    """The binary digits of each pixel, the most significant first, over and over (Kim et al., 2018)."""

    kind: Literal["phase"] = "phase"
    num_phases: Annotated[int, pydantic.Field(ge=1, le=24)] = 8
    """Digits, and the steps of a period; a spike has the weight of its digit."""


@dataclass(frozen=True, config=_STRICT)
class Population:
    """Gaussian receptive fields for each pixel, whose activities are spike probabilities (Bohte et al., 2002)."""

    kind: Literal["population"] = "population"
    num_neurons: Annotated[int, pydantic.Field(ge=3)] = 8
    """Neurons for each pixel; they become channels of the image."""
    beta: PositiveFloat = 1.5
    """How narrow the fields are."""


Encoder: TypeAlias = Annotated[
    Direct | ConstantCurrent | SpikeLatencyLIF | Poisson | Rate | Latency | Delta | Burst | Phase | Population,
    pydantic.Field(discriminator="kind"),
]


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
class RateConv:
    """A convolutional rate network without time, to be converted: 3x3 convolutions, ReLU, average pooling."""

    kind: Literal["rate_conv"] = "rate_conv"
    blocks: tuple[tuple[PositiveInt, ...], ...] = ((32,), (64,), (128,))
    """Channels of the convolutions in each block; a block ends with 2x2 average pooling."""
    dense: tuple[PositiveInt, ...] = (512,)
    """Neurons in each dense layer behind the blocks."""
    batch_norm: bool = False
    """Batch normalisation behind every convolution."""


@dataclass(frozen=True, config=_STRICT)
class RateDense:
    """A dense rate network without time, to be converted."""

    kind: Literal["rate_dense"] = "rate_dense"
    hidden: tuple[PositiveInt, ...] = (128,)
    """Neurons in each hidden layer, rectified linear."""


@dataclass(frozen=True, config=_STRICT)
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


Model: TypeAlias = Annotated[
    Feedforward | NorseRecurrent | NorseConv | RateConv | RateDense | SpikingDense, pydantic.Field(discriminator="kind")
]


@dataclass(frozen=True, config=_STRICT)
class Objective:
    """What is minimised: a loss on the readout over time, and penalties on firing rates."""

    decoder: Literal["max_over_time", "last", "mean", "sum"] = "max_over_time"
    """How the readout's values over time become one logit a class (cross_entropy only, and the accuracy)."""
    loss: Literal["cross_entropy", "ce_rate_loss", "ce_count_loss", "mse_count_loss"] = "cross_entropy"
    """On the decoded logits (cross_entropy), or on the outputs of every step (the others, see jsnn.losses)."""
    kernel_penalty: NonNegativeFloat = 0.0
    """Strength of the squared penalty on all kernels, biases excepted (Keras's L2 kernel regulariser)."""
    rate_penalty: NonNegativeFloat = 0.0
    """Strength of the squared penalty on hidden firing rates."""
    rate_target: NonNegativeFloat = 0.0
    """The rate that costs nothing, in spikes a step; of spiking_dense in Hz."""
    rate_over: Literal["images", "batch"] = "images"
    """What the penalty looks at: every neuron's rate for every image (KerasSpiking), or its mean over the batch."""
    dt_end: PositiveFloat | None = None
    """Let the step of all parts that have one fall from model.dt to this, geometrically over the training, s."""


@dataclass(frozen=True, config=_STRICT)
class Optimizer:
    """Any optimiser and schedule that optax has."""

    name: str = "adam"
    """Name of an optimiser in optax."""
    learning_rate: PositiveFloat = 1e-3
    """Learning rate, or the schedule's first or highest one."""
    options: dict[str, float] = pydantic.Field(default_factory=dict)
    """Further arguments of the optimiser, such as weight_decay 1e-4."""
    schedule: Literal["constant", "cosine", "warmup_cosine", "linear", "exponential"] = "constant"
    """How the learning rate goes over the whole run; the last four end at or near 0."""
    warmup: Share = 0.05
    """Share of the run over which warmup_cosine rises."""
    clip_norm: PositiveFloat | None = None
    """Largest global norm of the gradients; None for no clipping."""


@dataclass(frozen=True, config=_STRICT)
class Train:
    """How long, in what portions, and when to stop."""

    epochs: PositiveInt = 10
    """Passes over the training set."""
    batch_size: PositiveInt = 128
    """Images in an optimiser step; what does not fill a last batch is left out of the epoch."""
    eval_batch_size: PositiveInt = 500
    """Images at a time in evaluations."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of products, currents and spikes in training; weights, membranes, readout and evaluations are float32."""
    weights: str | None = None
    """The folder of a finished run with the same network, whose weights are taken instead of training."""
    patience: PositiveInt | None = None
    """Stop after so many epochs without a better validation accuracy; needs data.validation_split."""


@dataclass(frozen=True, config=_STRICT)
class Mesh:
    """The devices that share the work; the numbers depend on them by rounding alone."""

    data: PositiveInt | None = None
    """Parts of each batch, a device for each; None for as many as there are devices for, if they divide the batch."""
    model: PositiveInt = 1
    """Parts of each layer of at least 512 neurons, a device for each."""


@dataclass(frozen=True, config=_STRICT)
class Calibration:
    """What is fitted to training images before a converted network runs (jsnn.conversion.calibrate)."""

    images: PositiveInt = 500
    """How many training images."""
    percentile: Annotated[float, pydantic.Field(gt=0, le=100)] = 99.9
    """Which of an activation's values is to spike spikes_per_step times a step."""
    spikes_per_step: PositiveFloat = 1.0
    """See percentile."""
    per_channel: bool = False
    """One scale for each channel, not one for each activation."""
    bias_correction: bool = False
    """Correct each activation's input by what its mean output falls short of."""


@dataclass(frozen=True, config=_STRICT)
class Conversion:
    """How the trained rate network is made to spike (jsnn.convert), and how it then decides."""

    num_steps: PositiveInt = 30
    """Time steps for one image."""
    dt: PositiveFloat = 1e-3
    """Step, s."""
    neuron: Literal["spiking_activation", "burst_if", "if"] = "spiking_activation"
    """In place of a ReLU: spikes at the ReLU's rate, or integrate-and-fire with several spikes a step or one."""
    scale: PositiveFloat | None = None
    """Factor on the firing rates."""
    synapse: NonNegativeFloat | None = None
    """Time constant of the filter behind each neuron, s, one step late; None for no filter and no delay."""
    v_init: float | Literal["random"] = 0.0
    """The membrane before the first step, in thresholds."""
    calibration: Calibration | None = None
    """Fit scales and biases to training images."""
    last_steps: PositiveInt = 10
    """The second decision is taken on the mean output of so many last steps; the first on the last step's alone."""
    batch_size: PositiveInt = 50
    """Images at a time."""


@dataclass(frozen=True, config=_STRICT)
class Sweep:
    """Further settings of the conversion to try, every combination of them, with the weights trained once."""

    scale: tuple[PositiveFloat, ...] = ()
    """Factors on the firing rates."""
    synapse: tuple[NonNegativeFloat, ...] = ()
    """Time constants, s."""
    dt: tuple[PositiveFloat, ...] = ()
    """Steps, s."""
    steps: tuple[PositiveInt, ...] = ()
    """Time steps after which the network decides."""


@dataclass(frozen=True, config=_STRICT)
class Experiment:
    """One training run, from data set to numbers."""

    name: str = "experiment"
    """Names the run's folder."""
    seed: int = 0
    """Of the weights, the order of the data, and every random encoder."""
    seeds: PositiveInt = 1
    """How many networks are trained at once, with the seeds from `seed` on; what is reported is their mean."""
    learning_rates: tuple[PositiveFloat, ...] = ()
    """Train the networks with each of these, all at once, and report that of the best; () for optimizer's alone."""
    num_steps: PositiveInt = 32
    """Time steps T of the simulation."""
    data: Data = Data()
    encoder: Encoder = Direct()
    model: Model = Feedforward()
    objective: Objective = Objective()
    optimizer: Optimizer = Optimizer()
    train: Train = Train()
    mesh: Mesh = Mesh()
    conversion: Conversion | None = None
    """What becomes of a rate network when it is trained; None leaves it as it is."""
    sweep: Sweep = Sweep()
    reference: dict[str, float] = pydantic.Field(default_factory=dict)
    """What the published tutorial reaches, by the name of the metric in the summary, to stand beside the result."""

    def __post_init__(self) -> None:
        if isinstance(self.encoder, Latency | Burst | Phase) and (any(self.data.mean) or set(self.data.std) != {1.0}):
            raise ValueError(
                f"encoder {self.encoder.kind!r} needs pixels in [0, 1], got data.mean {self.data.mean} and "
                f"data.std {self.data.std}: leave them at 0 and 1"
            )
        is_rate_network = isinstance(self.model, RateConv | RateDense)
        if self.conversion is not None and not is_rate_network:
            raise ValueError(f"conversion needs a rate network, rate_conv or rate_dense, got model {self.model.kind!r}")
        if self.conversion is None and self.sweep != Sweep():
            raise ValueError(f"sweep needs a conversion to vary, got conversion None and {self.sweep}")
        if self.seeds > 1 or self.learning_rates:
            if self.sweep != Sweep():
                raise ValueError(f"sweep needs seeds 1 and no learning_rates, got {self.seeds}, {self.learning_rates}")
            if self.mesh != Mesh():
                raise ValueError(f"several seeds or learning rates share the devices: leave mesh out, got {self.mesh}")


@dataclass(frozen=True, config=_STRICT)
class Study:
    """Several experiments, one after the other, with one table at the end."""

    name: str
    """Names the run's folder."""
    stages: tuple[Experiment, ...]
    """What is run, each in a folder of its own name."""

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"the stages of a study need names of their own, got {names}")


@dataclass(frozen=True, config=_STRICT)
class Gallery:
    """Pictures of spikes: an image, and a signal, in every code; nothing is trained."""

    name: str = "gallery"
    """Names the run's folder."""
    seed: int = 0
    """Of every random encoder."""
    data: str = "digits"
    """A data set that TFDS knows ("mnist", "cifar10", ...), "digits", or the path of an .npz file."""
    split: str = "train"
    """Which part of it, in TFDS's notation."""
    subset: PositiveInt = 10
    """Keep every k-th image."""
    batch_size: PositiveInt = 128
    """How many of those are encoded at once, the first ones."""
    image: NonNegativeInt = 0
    """Which image of the batch is drawn."""
    pixel: NonNegativeInt | None = None
    """Whose spikes are drawn alone, counted row by row; None takes one of a middle grey."""
    num_steps: Annotated[int, pydantic.Field(ge=2)] = 100
    """Time steps T."""
    gain: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.25
    """Factor on the pixels in the second of two rate codes; the first has 1."""
    tau: PositiveFloat = 5.0
    """Time constant of the latency codes, in steps."""
    threshold: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.01
    """Pixels darker than this all spike last in a latency code."""
    signal: tuple[float, ...] = (0.0, 0.5, -0.5, 1.0, 8.0, 7.0, -13.0, 9.0, 3.0, 3.5, 0.0, 0.5)
    """What delta modulation encodes, a value a step."""
    change: PositiveFloat = 4.0
    """The least change of the signal that spikes."""
    probability: Share = 0.5
    """The highest probability of a spike in the trains that encode nothing."""
    frames_per_second: Annotated[float, pydantic.Field(gt=0, le=50)] = 20.0
    """How fast the animations run."""

    def __post_init__(self) -> None:
        if self.image >= self.batch_size:
            raise ValueError(f"image must be below batch_size = {self.batch_size}, got {self.image}")
        if len(self.signal) < 2:
            raise ValueError(f"signal must have at least 2 values, got {self.signal}")


Config: TypeAlias = Experiment | Study | Gallery

_ADAPTERS: dict[type, pydantic.TypeAdapter[Any]] = {
    kind: pydantic.TypeAdapter(kind) for kind in (Experiment, Study, Gallery)
}


def to_json(settings: Config) -> str:
    """What a config says as JSON, which `from_json` reads."""
    return _ADAPTERS[type(settings)].dump_json(settings, indent=2).decode() + "\n"


def from_json(text: str) -> Config:
    """The experiment, study or gallery that `to_json` wrote.

    Raises:
        ValueError: if the text is not JSON, misses a field or has one that no experiment has; it names the place.
    """
    values = pydantic_core.from_json(text)
    fields = values if isinstance(values, dict) else {}
    kind = Study if "stages" in fields else Gallery if "signal" in fields else Experiment
    return _ADAPTERS[kind].validate_python(values)
