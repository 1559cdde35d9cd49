"""Writes a network made by `jsnn.convert`: its program, with the neurons in it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.conversion.network import Converted
from jsnn.conversion.source import Place, Plan
from jsnn.nir.library import NIRError
from jsnn.nir.neurons import number
from jsnn.nir.trace import Symbol, as_map, follow
from jsnn.program import Operation, Program, read


def write_converted(writer: Any, label: str, network: Converted, x: Symbol) -> Symbol:
    """The nodes of a converted network: neurons have the names of its report, other nodes those of what they are."""
    plan = network.source.plan((1, *x.shape), jnp.dtype(jnp.float32))
    values: dict[int, Any] = {plan.program.inputs[-1]: x}
    values |= dict(zip(plan.weights, jax.tree.leaves(network.weights), strict=True))
    operations: list[Operation] = []
    places = iter(zip(network.neurons, network.synapses, strict=True))
    for part in plan.parts:
        if not isinstance(part, Place):
            operations.append(part)
            continue
        _follow(writer, label, plan, operations, values)
        neuron, synapse = next(places)
        name = f"{label}.{part.name}" if label else part.name
        x = writer.write(_biased(values[part.operand], number(neuron.bias)))
        y = writer.layer(name, neuron, x)
        if synapse is not None:
            y = writer.layer(f"{name}.synapse", synapse, y)
        values[part.tail.value] = y
        operations = list(part.tail.operations)
    _follow(writer, label, plan, operations, values)
    return read(values, plan.program.outputs[0])


def _biased(symbol: Symbol, bias: np.ndarray) -> Symbol:
    return as_map(symbol).plus(bias) if np.any(bias != 0) else symbol


def _follow(writer: Any, label: str, plan: Plan, operations: list[Operation], values: dict[int, Any]) -> None:
    """Some operations of the program."""
    elsewhere = [
        operation for operation in plan.program.operations if not any(operation is mine for mine in operations)
    ]
    needed = [atom for operation in elsewhere for atom in operation.inputs]
    part = Program((), plan.program.constants, operations, (*needed, *plan.program.outputs), plan.program.types, {})
    writer.label = label
    try:
        follow(writer, part, values)
    except NIRError as error:
        raise NIRError(f"the converted network cannot be written as NIR: {error}") from error
