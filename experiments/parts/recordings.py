"""Recordings of sound and of events as the data of an experiment."""

import dataclasses
from abc import abstractmethod
from typing import Annotated, Any

import numpy as np
import pydantic
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

import jsnn
from experiments.parts.base import Share
from experiments.parts.data import Examples, Sets


class Recordings(Examples):
    """Base of the recordings: how long they are, and what training does to them."""

    length: PositiveInt = 100
    """Time steps of a recording, the experiment's num_steps: what is longer is cut off, what is shorter padded."""
    time_shift: NonNegativeInt = 0
    """Augmentation: move a training recording in time by up to so many steps."""
    time_stretch: Annotated[float, pydantic.Field(ge=1)] = 1.0
    """Augmentation: stretch or squeeze a training recording in time by up to this factor."""
    jitter: NonNegativeInt = 0
    """Augmentation: move each event of a training recording in time by up to so many steps."""
    drop: Share = 0.0
    """Augmentation: leave out this share of the events."""

    @abstractmethod
    def transform(self) -> Any:
        """Return what makes an array of a recording, `[T, ...]`."""

    def make(self) -> Sets:
        transform = self.transform()

        def load(split: str) -> Any:
            found = jsnn.data.load(self.name, split)
            if not isinstance(found, jsnn.data.Recordings):
                raise ValueError(f"data.name must be recordings, such as the path of their folder, got {self.name!r}")
            return found.to_dataset(transform, length=self.length)

        return self.of_splits(load)

    def prepare(self, key: Any, inputs: Any, *, training: bool) -> Any:
        """Return recordings `[B, T, ...]` as the network is to see them: for training, augmented."""
        import jax

        augment, inputs = jsnn.augment, inputs.astype("float32")
        if not training:
            return inputs
        keys = iter(jax.random.split(key, 8))
        if self.time_stretch != 1:
            inputs = augment.time_stretch(next(keys), inputs, self.time_stretch)
        if self.time_shift:
            inputs = augment.time_shift(next(keys), inputs, self.time_shift)
        if self.jitter:
            inputs = augment.jitter(next(keys), inputs, self.jitter)
        if self.drop:
            inputs = augment.drop(next(keys), inputs, self.drop)
        return self.augment(keys, inputs)

    def augment(self, keys: Any, inputs: Any) -> Any:
        """Return training recordings with what is done to this kind alone; `keys` are random keys one by one."""
        return inputs


class Speech(Recordings):
    """Sound as the spikes of a cochlea, see jsnn.encode.cochlea."""

    num_channels: PositiveInt = 64
    """Channels of the cochlea."""
    dt: PositiveFloat = 1e-2
    """Step, s."""
    channel_shift: NonNegativeInt = 0
    """Augmentation: move a training recording by up to so many channels, as if the voice were higher or lower."""

    def transform(self) -> Any:
        """Return what makes an array of a recording, `[T, num_channels]`."""
        return jsnn.encode.Cochlea(num_channels=self.num_channels, dt=self.dt)

    def augment(self, keys: Any, inputs: Any) -> Any:
        """Return training recordings, moved along their channels."""
        return jsnn.augment.channel_shift(next(keys), inputs, self.channel_shift) if self.channel_shift else inputs


@dataclasses.dataclass(frozen=True)
class Merged:
    """Frames in which neighbouring pixels or channels are one; those of shape (H, W) are images with one channel."""

    frames: Any
    factor: int

    def __call__(self, events: Any) -> np.ndarray:
        """Return the counts of a recording, `[T, ...]`; what does not fill the last place of an axis is there too."""
        counts = self.frames(events)
        for axis in range(1, min(counts.ndim, 3)):
            counts = np.add.reduceat(counts, np.arange(0, counts.shape[axis], self.factor), axis=axis)
        return counts[..., None] if counts.ndim == 3 else counts


class Events(Recordings):
    """Recordings of an event camera, or of channels that spike, as counts of events, see jsnn.events.bin_events."""

    shape: tuple[PositiveInt, ...] = (34, 34, 2)
    """Of a step: (H, W, P), with polarities, (H, W), without, or (C,)."""
    window: PositiveFloat | None = None
    """Time of a step, µs; None for `length` equal parts of each recording."""
    start: float | None = None
    """Time at which the first step begins, µs; None for that of the first event."""
    merge: PositiveInt = 1
    """How many neighbouring pixels or channels along each axis become one; their events are summed up."""
    flip: bool = False
    """Augmentation: mirror half of the training recordings."""
    shift: NonNegativeInt = 0
    """Augmentation: shift training recordings by up to so many pixels."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.shape) <= 3:
            raise ValueError(f"shape must be (H, W, P), (H, W) or (C,), got {self.shape}")
        if self.merge > min(self.shape[:2]):
            raise ValueError(f"merge must be at most {min(self.shape[:2])}, of shape {self.shape}, got {self.merge}")
        if len(self.shape) == 1 and (self.flip or self.shift):
            raise ValueError(f"flip and shift need recordings of pixels, got shape {self.shape}: leave them out")

    @property
    def dt(self) -> float | None:
        """The time of a step, s; None where it depends on the recording."""
        return None if self.window is None else 1e-6 * self.window

    def transform(self) -> Any:
        """Return what makes an array of a recording, `[T, H, W, P]` or `[T, C]`."""
        if self.window is None:
            frames = jsnn.data.Frames(self.shape, num_bins=self.length, start=self.start)
        else:
            stop = None if self.start is None else self.start + self.length * self.window
            frames = jsnn.data.Frames(self.shape, window=self.window, start=self.start, stop=stop)
        return Merged(frames, self.merge)

    def augment(self, keys: Any, inputs: Any) -> Any:
        """Return training recordings, mirrored and shifted."""
        if self.flip:
            inputs = jsnn.augment.random_flip(next(keys), inputs)
        return jsnn.augment.random_shift(next(keys), inputs, self.shift) if self.shift else inputs
