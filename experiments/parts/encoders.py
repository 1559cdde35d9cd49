"""How an image becomes spikes or currents: one class for each encoder."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np
import pydantic
from pydantic import PositiveFloat, PositiveInt

import jsnn
from experiments.parts.base import Part

Encode: TypeAlias = Callable[[Any, Any], Any]


class Encoder(Part):
    """Base of the encoders."""

    is_static: ClassVar[bool] = False  # the network receives the same at every step
    needs_unit_range: ClassVar[bool] = False  # pixels in [0, 1]

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one example at one step after the encoder, from that before it."""
        return shape

    @abstractmethod
    def make(self, num_steps: int) -> Encode:
        """Return the encoder, a function of a random key and images `[B, ...]`.

        It gives what the network receives: `[T, B, ...]`, or, where `is_static` is true, `[B, ...]` for every step.
        """

    def make_in_time(self) -> Encode:
        """Return the encoder of examples that have a time axis, a function of a random key and signals `[T, B, ...]`.

        Raises:
            ValueError: if the encoder is for still examples alone.
        """
        raise ValueError(
            f"encoder {self.kind!r} is for examples without a time axis: take 'direct' or 'delta' for those in time"
        )


class Direct(Encoder):
    """The image itself is the current at every step; nothing is tiled, the first layer runs once.

    Of an example in time, each step's values are that step's currents.
    """

    is_static: ClassVar[bool] = True

    def make(self, num_steps: int) -> Encode:
        return lambda key, images: images

    def make_in_time(self) -> Encode:
        return lambda key, signals: signals


class PixelNeurons(Encoder):
    """One LIF neuron a pixel: what the two encoders made of them share."""

    threshold: PositiveFloat = 1.0
    """Membrane potential at which a pixel's neuron spikes."""
    tau_mem: PositiveFloat = 1e-2
    """Membrane time constant, s."""
    dt: PositiveFloat = 1e-3
    """Step, s."""


class ConstantCurrent(PixelNeurons):
    """The image drives one LIF neuron a pixel; their spikes are the input (Norse's ConstantCurrentLIFEncoder)."""

    def make(self, num_steps: int) -> Encode:
        return lambda key, images: jsnn.encode.constant_current(images, num_steps=num_steps, **vars(self))


class SpikeLatencyLIF(PixelNeurons):
    """As constant_current, but only each pixel's first spike (Norse's SpikeLatencyLIFEncoder)."""

    def make(self, num_steps: int) -> Encode:
        return lambda key, images: jsnn.encode.spike_latency_lif(images, num_steps=num_steps, **vars(self))


class Poisson(Encoder):
    """Spikes at random, at a rate of the pixel's value times f_max (Norse's PoissonEncoder)."""

    f_max: PositiveFloat = 100.0
    """Rate of a pixel of value 1, Hz."""
    dt: PositiveFloat = 1e-3
    """Step, s."""

    def make(self, num_steps: int) -> Encode:
        return lambda key, images: jsnn.encode.poisson(key, images, num_steps=num_steps, **vars(self))


class Rate(Encoder):
    """Spikes at random, with the pixel's value as the probability at each step (snnTorch's spikegen.rate)."""

    gain: float = 1.0
    """Factor on the pixel before it is clipped to [0, 1]."""
    offset: float = 0.0
    """Added to the pixel after the factor."""

    def make(self, num_steps: int) -> Encode:
        return lambda key, images: jsnn.encode.rate(key, images, num_steps=num_steps, **vars(self))


class Latency(Encoder):
    """One spike a pixel, the brighter the earlier (snnTorch's spikegen.latency)."""

    needs_unit_range: ClassVar[bool] = True
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

    def make(self, num_steps: int) -> Encode:
        return lambda key, images: jsnn.encode.latency(images, num_steps=num_steps, bypass=True, **vars(self))


class Delta(Encoder):
    """Spikes where a pixel changes: of a still image, one at the first step for each bright pixel (spikegen.delta)."""

    threshold: PositiveFloat = 0.1
    """Change from step to step that makes a spike; the image comes up from 0."""

    def make(self, num_steps: int) -> Encode:
        in_time = self.make_in_time()
        return lambda key, images: in_time(key, jsnn.encode.repeat(images, num_steps=num_steps))

    def make_in_time(self) -> Encode:
        return lambda key, signals: jsnn.encode.delta(signals, threshold=self.threshold, off_spike=True)


class Burst(Encoder):
    """A burst of spikes a pixel: the brighter, the more and the closer (Guo et al., 2021)."""

    needs_unit_range: ClassVar[bool] = True
    max_spikes: PositiveInt = 5
    """Spikes of a pixel of value 1."""
    min_interval: PositiveInt = 2
    """Steps from spike to spike of a pixel of value 1."""

    def make(self, num_steps: int) -> Encode:
        return lambda key, images: jsnn.encode.burst(images, num_steps=num_steps, **vars(self))


class Phase(Encoder):
    """The binary digits of each pixel, the most significant first, over and over (Kim et al., 2018)."""

    needs_unit_range: ClassVar[bool] = True
    num_phases: Annotated[int, pydantic.Field(ge=1, le=24)] = 8
    """Digits, and the steps of a period; a spike has the weight of its digit."""

    def make(self, num_steps: int) -> Encode:
        def encode(key: Any, images: Any) -> Any:
            weights = jsnn.encode.phase_weights(num_steps=num_steps, num_phases=self.num_phases).astype(images.dtype)
            spikes = jsnn.encode.phase(images, num_steps=num_steps, num_phases=self.num_phases)
            return weights.reshape(-1, *[1] * images.ndim) * spikes

        return encode


class PixelByPixel(Encoder):
    """One pixel after another as a current, a step for each: sequential MNIST (Le, Jaitly and Hinton, 2015)."""

    order: Annotated[int, pydantic.Field(ge=0)] | None = None
    """Seed of a random order of the pixels, the same for all images: permuted sequential MNIST; None: row by row."""

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one pixel, its channels."""
        return shape[-1:]

    def make(self, num_steps: int) -> Encode:
        def encode(key: Any, images: Any) -> Any:
            pixels = images.reshape(len(images), -1, images.shape[-1]).swapaxes(0, 1)
            if len(pixels) != num_steps:
                raise ValueError(f"num_steps must be {len(pixels)}, the number of pixels of an image, got {num_steps}")
            return pixels if self.order is None else pixels[np.random.default_rng(self.order).permutation(num_steps)]

        return encode


class Population(Encoder):
    """Gaussian receptive fields for each pixel, whose activities are spike probabilities (Bohte et al., 2002)."""

    num_neurons: Annotated[int, pydantic.Field(ge=3)] = 8
    """Neurons for each pixel; they become channels of the image."""
    beta: PositiveFloat = 1.5
    """How narrow the fields are."""

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape with as many channels as there are neurons for the channels of a pixel."""
        return (*shape[:-1], shape[-1] * self.num_neurons)

    def make(self, num_steps: int) -> Encode:
        def encode(key: Any, images: Any) -> Any:
            activity = jsnn.encode.receptive_fields(images, self.num_neurons, beta=self.beta)  # [B, H, W, C, N]
            return jsnn.encode.rate(key, activity.reshape(*images.shape[:-1], -1), num_steps=num_steps)

        return encode
