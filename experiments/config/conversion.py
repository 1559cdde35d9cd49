"""How a trained rate network is made to spike."""

from typing import Annotated, Literal

import pydantic
from pydantic import AfterValidator, NonNegativeFloat, PositiveFloat, PositiveInt

from experiments.parts.base import Settings, unique


class Calibration(Settings):
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


class Conversion(Settings):
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
    """Time constant of the filter after each neuron, s, one step late; None for no filter and no delay."""
    v_init: float | Literal["random"] = 0.0
    """The membrane before the first step, in thresholds."""
    calibration: Calibration | None = None
    """Fit scales and biases to training images."""
    last_steps: PositiveInt = 10
    """The second decision is taken on the mean output of so many last steps; the first on the last step's alone."""
    batch_size: PositiveInt = 50
    """Images at a time."""


class Sweep(Settings):
    """Further settings of the conversion to try, every combination of them, with the weights trained once."""

    scale: Annotated[tuple[PositiveFloat, ...], AfterValidator(unique)] = ()
    """Factors on the firing rates."""
    synapse: Annotated[tuple[NonNegativeFloat, ...], AfterValidator(unique)] = ()
    """Time constants, s."""
    dt: Annotated[tuple[PositiveFloat, ...], AfterValidator(unique)] = ()
    """Steps, s."""
    steps: Annotated[tuple[PositiveInt, ...], AfterValidator(unique)] = ()
    """Time steps after which the network decides."""
