"""Layers in which each neuron is connected to a few others, and their products."""

from jsnn.sparse.layer import Sparse

__all__ = ["Sparse"]
