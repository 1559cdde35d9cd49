"""The data sets that an experiment can have."""

from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import NonNegativeInt, PositiveFloat

import jsnn
from experiments.parts.base import OneOf, Part


class Sets(NamedTuple):
    """The data sets of an experiment, each a `jsnn.data.Dataset`."""

    train: Any
    test: Any
    validation: Any = None


class Data(Part):
    """The data set, and what is done to its examples before they are encoded.

    A subclass has data of its own: its method `make(self)` returns `Sets`.
    """

    name: str = "digits"
    """A data set that jsnn.data.load knows ("mnist", "cifar10", "digits", ...), or the path of an .npz file."""
    reconstruct: bool = False
    """The network is to give its inputs back, as it sees them: an autoencoder, for a loss of values such as mse."""
    train_split: str = "train"
    """What to train on, in TFDS's notation: "train", "train[:90%]"."""
    test_split: str = "test"
    """The examples on which the reported test accuracy is measured."""
    validation_split: str | None = None
    """What early stopping and the choice of the best checkpoint look at; None takes the test split for the latter."""
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
    shuffle: bool = True
    """Draw a new order of the training images for every epoch; False keeps the data set's own."""
    residence: Literal["auto", "device", "host"] = "auto"
    """Where the training set lies: whole on the device, or streamed from the host ("auto": by its size, 2 GiB)."""

    def make(self) -> Sets:
        """Return the training, test and (where asked for) validation set."""
        splits = (self.train_split, self.test_split, self.validation_split)
        return Sets(*(jsnn.data.load(self.name, split) if split else None for split in splits))


AnyData: TypeAlias = Annotated[Data, OneOf(Data)]
