"""Weights of networks: written and read, and those trained in PyTorch and Keras put into a network of the same layers.

`load` reads a file; `from_torch` (snnTorch, Norse, SpikingJelly) and `from_keras` put its arrays where they belong.
They match the layers that have weights in their order, and turn their axes: PyTorch writes dense weights [out, in],
convolutions [out, in, h, w] and flattened images (C, H, W); here, as in Keras, they are [in, out], [h, w, in, out] and
(H, W, C). What is not a weight (strides, padding, resets, the epsilon of a normalisation, 1e-3 in Keras) is the
network's own affair. `save` writes the arrays of a network of jsnn, and `from_jsnn` puts them into another.
"""

from jsnn.weights.files import WeightsError, load
from jsnn.weights.own import from_jsnn, read_metadata, save
from jsnn.weights.put import Move, Report, from_keras, from_torch

__all__ = ["Move", "Report", "WeightsError", "from_jsnn", "from_keras", "from_torch", "load", "read_metadata", "save"]
