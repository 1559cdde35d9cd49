"""The data sets that an experiment can have: images and arrays; recordings are in `recordings.py`."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import NonNegativeInt, PositiveFloat

import jsnn
from experiments.parts.base import Part


class Sets(NamedTuple):
    """The data sets of an experiment, each a `jsnn.data.Dataset`."""

    train: Any
    test: Any
    validation: Any = None


class Examples(Part):
    """Base of the data sets."""

    kind: ClassVar[str] = "data"  # which is meant where none is named
    name: str = "digits"
    """A data set that jsnn.data.load knows ("mnist", "cifar10", "digits", ...), or the path of a file or folder."""
    reconstruct: bool = False
    """The network is to give its inputs back, as it sees them: an autoencoder, for a loss of values such as mse."""
    train_split: str = "train"
    """What to train on, in TFDS's notation: "train", "train[:90%]"."""
    test_split: str = "test"
    """The examples on which the reported test accuracy is measured."""
    validation_split: str | None = None
    """What early stopping and the choice of the best checkpoint look at; None takes the test split for the latter."""
    shuffle: bool = True
    """Draw a new order of the training examples for every epoch; False keeps the data set's own."""
    residence: Literal["auto", "device", "host"] = "auto"
    """Where the examples lie: whole on the device, or sent in parts from the disk ("auto": by their size, 2 GiB)."""

    @abstractmethod
    def make(self) -> Sets:
        """Return the training, test and (where asked for) validation set."""

    def has_classes(self, dataset: Any) -> bool:
        """Return whether a network is to answer with the classes of a data set, and not with values."""
        return bool(dataset.num_classes) and not self.reconstruct

    def of_splits(self, load: Callable[[str], Any]) -> Sets:
        """Return what `load` makes of the name of each split."""
        splits = (self.train_split, self.test_split, self.validation_split)
        return Sets(*(load(split) if split else None for split in splits))

    def prepare(self, key: Any, inputs: Any, *, training: bool) -> Any:
        """Return inputs, `[B, ...]` or `[B, T, ...]`, as the network is to see them; for training, augmented."""
        return jsnn.augment.to_float(inputs)


class Data(Examples):
    """Images or other arrays, and what is done to them before they are encoded.

    A subclass has data of its own: its method `make(self)` returns `Sets`.
    """

    mean: tuple[float, ...] = (0.0,)
    """Subtracted from the pixels (0 to 1), per channel."""
    std: tuple[PositiveFloat, ...] = (1.0,)
    """Divisor of the pixels, per channel."""
    flip: bool = False
    """Augmentation: mirror half of the training images."""
    shift: NonNegativeInt = 0
    """Augmentation: shift training images by up to so many pixels."""
    cutout: NonNegativeInt = 0
    """Augmentation: blank a square of so many pixels in training images."""

    def make(self) -> Sets:
        def load(split: str) -> Any:
            found = jsnn.data.load(self.name, split)
            if isinstance(found, jsnn.data.Recordings):
                raise ValueError(f"data.name {self.name!r} holds recordings: take data 'speech' for sound, or 'events'")
            return found

        return self.of_splits(load)

    def prepare(self, key: Any, inputs: Any, *, training: bool) -> Any:
        """Return images, or other examples, as the network is to see them: normalised and, for training, augmented."""
        import jax

        augment = jsnn.augment
        images = augment.normalize(augment.to_float(inputs), self.mean, self.std)
        if training:
            flip_key, shift_key, cutout_key = jax.random.split(key, 3)
            if self.flip:
                images = augment.random_flip(flip_key, images)
            if self.shift:
                images = augment.random_shift(shift_key, images, self.shift)
            if self.cutout:
                images = augment.cutout(cutout_key, images, self.cutout)
        return images
