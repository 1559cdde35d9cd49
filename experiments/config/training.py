"""How long a network is trained, and on which devices."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from experiments.parts.base import Settings
from jsnn.arguments import check_accumulate


class Train(Settings):
    """How long, in what portions, and when to stop."""

    epochs: PositiveInt = 10
    """Passes over the training set."""
    batch_size: PositiveInt = 128
    """Images in an optimiser step; what does not fill a last batch is left out of the epoch."""
    accumulate: PositiveInt = 1
    """In how many equal parts a batch is seen, one after another, to save memory; their gradients are averaged."""
    eval_batch_size: PositiveInt = 500
    """Images at a time in evaluations."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of products, currents and spikes in training; weights, membranes, readout and evaluations are float32."""
    method: Literal["auto", "scan", "fused"] = "auto"
    """How neurons run over time: auto scans, or takes the fused GPU kernel (H100 and newer) where it passes a test."""
    gradient: Literal["surrogate", "eventprop"] = "surrogate"
    """The derivative of spikes: a surrogate, or the exact one of spike times (eventprop), for CuBaLIF neurons alone."""
    weights: str | None = None
    """The folder of a finished run with the same network, whose weights are taken instead of training."""
    patience: PositiveInt | None = None
    """Stop after so many epochs without a better validation accuracy; needs data.validation_split."""
    short_epochs: NonNegativeInt = 0
    """How many of the epochs, the first ones, are trained and evaluated with short_steps time steps, to save time."""
    short_steps: PositiveInt = 1
    """See short_epochs."""
    short_rates: bool = False
    """Whether neurons send in a short epoch, at each step, their mean rate over num_steps steps, see jsnn.MeanRate."""

    def __post_init__(self) -> None:
        check_accumulate(self.batch_size, self.accumulate)
        if self.short_rates and not self.short_epochs:
            raise ValueError("short_rates is for the first epochs, short_epochs of them: give their number, not 0")


class Mesh(Settings):
    """The devices that share the work; the numbers depend on them by rounding alone."""

    data: PositiveInt | None = None
    """Parts of each batch, a device for each; None for as many as there are devices for, if they divide the batch."""
    model: PositiveInt = 1
    """Parts of each layer of at least 512 neurons, a device for each."""
