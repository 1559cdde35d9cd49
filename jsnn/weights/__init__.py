"""Weights trained elsewhere, put into a jsnn network of the same layers: PyTorch's and Keras'.

`load` reads a file; `from_torch` (snnTorch, Norse, SpikingJelly) and `from_keras` put its arrays where they belong.
They match the layers that have weights in their order, and turn their axes: PyTorch writes dense weights [out, in],
convolutions [out, in, h, w] and flattened images (C, H, W); here, as in Keras, they are [in, out], [h, w, in, out] and
(H, W, C). What is no weight (strides, padding, resets, the epsilon of a normalisation, 1e-3 in Keras) is the network's
own affair.
"""

from jsnn.weights.files import WeightsError, load
from jsnn.weights.put import Move, Report, from_keras, from_torch

__all__ = ["Move", "Report", "WeightsError", "from_keras", "from_torch", "load"]
