"""Image-classification sets as plain arrays, and the order in which training and evaluation visit them.

`load` gives a `Dataset` of numpy arrays from scikit-learn's digits, from any image-classification set that
TensorFlow Datasets (TFDS) knows (TensorFlow itself is not needed), or from the user's own `.npz` file.
`epoch_permutation` and `pad_to_batches` give indices for data that lie on the device; `batches` streams data
that do not fit there, in the same order.
"""

from jsnn.data.dataset import Dataset, subset
from jsnn.data.order import batches, epoch_permutation, pad_to_batches
from jsnn.data.sources import load

__all__ = ["Dataset", "batches", "epoch_permutation", "load", "pad_to_batches", "subset"]
