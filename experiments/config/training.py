"""What a network is trained on, for what, and how."""

from typing import Literal

import pydantic
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from experiments.config.base import Share, settings


@settings
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
    std: tuple[PositiveFloat, ...] = (1.0,)
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


@settings
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
    """What is penalised: the rate of every neuron for every image, or its mean over the batch."""
    dt_end: PositiveFloat | None = None
    """Let the step of all parts that have one fall from model.dt to this, geometrically over the training, s."""


@settings
class Optimizer:
    """Any optimiser and schedule that optax has."""

    name: str = "adam"
    """Name of an optimiser in optax, or "muon", which is in optax.contrib."""
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


@settings
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
    method: Literal["auto", "scan", "fused"] = "auto"
    """How neurons run over time; auto scans. fused is one GPU kernel, for H100 and newer; on a CPU it is very slow."""
    weights: str | None = None
    """The folder of a finished run with the same network, whose weights are taken instead of training."""
    patience: PositiveInt | None = None
    """Stop after so many epochs without a better validation accuracy; needs data.validation_split."""


@settings
class Mesh:
    """The devices that share the work; the numbers depend on them by rounding alone."""

    data: PositiveInt | None = None
    """Parts of each batch, a device for each; None for as many as there are devices for, if they divide the batch."""
    model: PositiveInt = 1
    """Parts of each layer of at least 512 neurons, a device for each."""
