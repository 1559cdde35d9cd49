"""Exchange with other libraries and with neuromorphic hardware: the neuromorphic intermediate representation, NIR.

A NIR graph says a network in equations and seconds; `to_nir` writes one, `from_nir` makes a network of one. Both need
the package nir: `pip install 'jsnn[nir]'`.

Source: Pedersen et al., "Neuromorphic intermediate representation: a unified instruction set for interoperable
brain-inspired computing", Nature Communications (2024).
"""

from jsnn.nir.export import to_nir
from jsnn.nir.graph import Graph, GraphState
from jsnn.nir.layers import Scale, Threshold
from jsnn.nir.library import NIRError
from jsnn.nir.load import from_nir

__all__ = ["Graph", "GraphState", "NIRError", "Scale", "Threshold", "from_nir", "to_nir"]
