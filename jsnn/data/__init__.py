"""Image-classification sets as plain arrays, and the order in which training and evaluation visit them.

`load` gives a `Dataset` of numpy arrays: scikit-learn's digits; MNIST, Fashion-MNIST and CIFAR-10, which are fetched
where they are missing; any image-classification set that is prepared for TensorFlow Datasets (TFDS; TensorFlow itself
is not needed); or a user's own `.npz` file.
`epoch_permutation` and `pad_to_batches` give indices for data that lie on the device; `batches` streams data
that do not fit there, in the same order.
"""

from jsnn.data.dataset import Dataset, subset
from jsnn.data.order import batches, epoch_permutation, pad_to_batches
from jsnn.data.sources import load

__all__ = ["Dataset", "batches", "epoch_permutation", "load", "pad_to_batches", "subset"]
