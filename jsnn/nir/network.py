"""Writes a network of any shape, one made by `jsnn.convert` among them: its program, with the neurons in it."""

from typing import Any

import numpy as np
from flax import nnx

from jsnn.conversion.function import CURE
from jsnn.conversion.place import Filtered
from jsnn.network import Network
from jsnn.neurons.calling import dotted
from jsnn.neurons.shapes import described
from jsnn.nir.library import NIRError
from jsnn.nir.neurons import number
from jsnn.nir.trace import Symbol, as_map, follow
from jsnn.tracing import trace_network


def write_network(writer: Any, label: str, network: Network, x: Symbol) -> Symbol:
    """Return the nodes of a network.

    Neurons have their names, layers with weights their paths, others say what they are.
    """
    traced = trace_network(network, described((1, *x.shape)), opens_all=True)
    prefix = f"{label}." if label else ""
    values = traced.values([x])
    after = traced.program.outputs[traced.structure.num_leaves :]
    paths = (path for path, _ in nnx.to_flat_state(traced.variables))
    if changed := [dotted(path) for path, old, new in zip(paths, traced.program.inputs, after) if new != old]:
        raise NIRError(
            f"{label or type(network).__name__} changes {changed[0]} while it runs, as in training: {CURE}, or "
            f"take this variable out of the module"
        )
    try:
        follow(writer, traced.program, values, label, {atom: prefix + path for atom, path in traced.owners.items()})
    except NIRError as error:
        raise NIRError(f"{label or type(network).__name__} cannot be written as NIR: {error}") from error
    outputs = traced.outputs(values)
    if not isinstance(outputs, Symbol):
        raise NIRError(f"a network with one output can be written as NIR, this one returns {type(outputs).__name__}")
    return outputs


def write_filtered(writer: Any, label: str, filtered: Filtered, x: Symbol) -> Symbol:
    """Return the nodes of what stands in the place of an activation."""
    bias = number(filtered.neuron.bias)  # type: ignore[attr-defined]
    y = writer.layer(label, filtered.neuron, as_map(x).plus(bias) if np.any(bias != 0) else x)
    if filtered.synapse is not None:
        y = writer.layer(f"{label}.synapse", filtered.synapse, y)
    return writer.function(filtered.tail.apply, y) if filtered.tail.operations else y
