"""How an image becomes spikes or currents: one class for each encoder."""

from typing import Annotated, Literal, TypeAlias

import pydantic
from pydantic import PositiveFloat, PositiveInt

from experiments.config.base import settings


@settings
class Direct:
    """The image itself is the current at every step; nothing is tiled, the first layer runs once."""

    kind: Literal["direct"] = "direct"


@settings
class PixelNeurons:
    """One LIF neuron a pixel: what the two encoders made of them share."""

    threshold: PositiveFloat = 1.0
    """Membrane potential at which a pixel's neuron spikes."""
    tau_mem: PositiveFloat = 1e-2
    """Membrane time constant, s."""
    dt: PositiveFloat = 1e-3
    """Step, s."""


@settings
class ConstantCurrent(PixelNeurons):
    """The image drives one LIF neuron a pixel; their spikes are the input (Norse's ConstantCurrentLIFEncoder)."""

    kind: Literal["constant_current"] = "constant_current"


@settings
class SpikeLatencyLIF(PixelNeurons):
    """As constant_current, but only each pixel's first spike (Norse's SpikeLatencyLIFEncoder)."""

    kind: Literal["spike_latency_lif"] = "spike_latency_lif"


@settings
class Poisson:
    """Spikes at random, at a rate of the pixel's value times f_max (Norse's PoissonEncoder)."""

    kind: Literal["poisson"] = "poisson"
    f_max: PositiveFloat = 100.0
    """Rate of a pixel of value 1, Hz."""
    dt: PositiveFloat = 1e-3
    """Step, s."""


@settings
class Rate:
    """Spikes at random, with the pixel's value as the probability at each step (snnTorch's spikegen.rate)."""

    kind: Literal["rate"] = "rate"
    gain: float = 1.0
    """Factor on the pixel before it is clipped to [0, 1]."""
    offset: float = 0.0
    """Added to the pixel after the factor."""


@settings
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


@settings
class Delta:
    """Spikes where a pixel changes: of a still image, one at the first step for each bright pixel (spikegen.delta)."""

    kind: Literal["delta"] = "delta"
    threshold: PositiveFloat = 0.1
    """Change from step to step that makes a spike; the image comes up from 0."""


@settings
class Burst:
    """A burst of spikes a pixel: the brighter, the more and the closer (Guo et al., 2021)."""

    kind: Literal["burst"] = "burst"
    max_spikes: PositiveInt = 5
    """Spikes of a pixel of value 1."""
    min_interval: PositiveInt = 2
    """Steps from spike to spike of a pixel of value 1."""


@settings
class Phase:
    """The binary digits of each pixel, the most significant first, over and over (Kim et al., 2018)."""

    kind: Literal["phase"] = "phase"
    num_phases: Annotated[int, pydantic.Field(ge=1, le=24)] = 8
    """Digits, and the steps of a period; a spike has the weight of its digit."""


@settings
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
