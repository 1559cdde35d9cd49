"""Pictures of spikes in every code."""

from typing import Annotated

import pydantic
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from experiments.parts.base import Name, Seed, Settings, Share


class Gallery(Settings):
    """Pictures of spikes: an image, and a signal, in every code; nothing is trained."""

    name: Name = "gallery"
    """Names the run's folder."""
    seed: Seed = 0
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
