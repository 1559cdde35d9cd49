"""Data sets as plain arrays or as recordings, and the order in which training and evaluation visit them.

`load` gives a `Dataset` of numpy arrays: scikit-learn's digits; the yin-yang task; MNIST, Fashion-MNIST and CIFAR-10,
which are fetched where they are missing; any image-classification set that is prepared for TensorFlow Datasets (TFDS;
TensorFlow itself is not needed); or a user's own `.npz` file. Of a folder of sounds or events it gives `Recordings`,
which are read when they are looked at: `to_dataset` makes arrays of them, `batches` streams them from the disk.
`epoch_permutation` and `pad_to_batches` give indices for data that lie on the device; `batches` streams data
that do not fit there, in the same order.
"""

from jsnn.data.dataset import Dataset, Padded, subset
from jsnn.data.event_files import read_events
from jsnn.data.order import batches, epoch_permutation, pad_to_batches
from jsnn.data.points import yin_yang
from jsnn.data.recordings import Recordings
from jsnn.data.sound import Sound, read_sound
from jsnn.data.sources import load
from jsnn.events import Frames

__all__ = [
    "Dataset",
    "Frames",
    "Padded",
    "Recordings",
    "Sound",
    "batches",
    "epoch_permutation",
    "load",
    "pad_to_batches",
    "read_events",
    "read_sound",
    "subset",
    "yin_yang",
]
