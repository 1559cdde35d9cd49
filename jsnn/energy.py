"""How many operations a network takes for one inference, and what they might cost.

`count` runs a network on data and counts, operation by operation of its traced program, the multiply-accumulates that
a dense machine does and those that an event-driven one does, where an input or a weight of zero costs nothing.
`joules` multiplies them with what published measurements say of a device.

Such estimates leave out most of what a chip spends: memory, moving spikes over a network, idle power, converting
inputs. They compare networks on one device; they do not say what a device will draw.

Sources: Yik et al., "NeuroBench: a framework for benchmarking neuromorphic computing algorithms and systems" (2023),
for effective operations and sparsity; KerasSpiking's `ModelEnergy` for devices and how their energy is put together.
"""

import difflib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.conversion.program import Operation, Program, flatten, read, shape_of, trace
from jsnn.record import record
from jsnn.types import Array, Neuron, State
from jsnn.unroll import prepare

__all__ = ["DEVICES", "Device", "Operations", "Synapses", "count", "joules"]

_SYNAPTIC = {"dot_general": "dense", "conv_general_dilated": "convolution"}


class Device(NamedTuple):
    """What a device spends."""

    name: str
    synaptic: float  # J for a synaptic operation
    neuronal: float  # J for the update of a neuron
    spiking: bool  # spends on spikes and over time steps; another computes the rate network, once


DEVICES = {
    device.name: device
    for device in (
        Device("cpu", 8.6e-9, 8.6e-9, spiking=False),  # Intel i7-4960X
        Device("gpu", 0.3e-9, 0.3e-9, spiking=False),  # Nvidia GTX Titan Black
        Device("arm", 0.9e-9, 0.9e-9, spiking=False),  # ARM Cortex-A
        Device("loihi", 27.1e-12, 81e-12, spiking=True),
        Device("spinnaker", 13.3e-9, 26e-9, spiking=True),
        Device("spinnaker2", 450e-12, 2.19e-9, spiking=True),
    )
}
"""The devices that KerasSpiking's `ModelEnergy` knows, by name."""


class Synapses(NamedTuple):
    """The weights of one layer, and what their use for one inference comes to."""

    weights: str  # kind and shape, such as "dense [784, 128]"
    connections: int  # multiply-accumulates of one dense pass
    steps: int  # how many passes; 1 for what a static input passes before the first neuron
    effective: float  # operations of all passes in which neither input nor weight is 0
    mean_input: float  # mean absolute value of the input, over all passes
    accumulates: bool  # whether the input that is not 0 is one number, as for spikes: no multiplication is needed
    nonzero_inputs: float  # share of the inputs
    nonzero_weights: float  # share of the weights

    @property
    def dense(self) -> int:
        """Multiply-accumulates of all passes."""
        return self.connections * self.steps


class Operations(NamedTuple):
    """What one inference takes, averaged over the inputs; printed, a table."""

    synapses: list[Synapses]
    neurons: int
    steps: int

    @property
    def dense(self) -> int:
        """Multiply-accumulates, zeros included."""
        return sum(row.dense for row in self.synapses)

    @property
    def effective_macs(self) -> float:
        """Multiply-accumulates in which neither factor is 0, where inputs are of many values."""
        return sum(row.effective for row in self.synapses if not row.accumulates)

    @property
    def effective_acs(self) -> float:
        """Accumulates: additions of a weight for a spike."""
        return sum(row.effective for row in self.synapses if row.accumulates)

    @property
    def activation_sparsity(self) -> float:
        """The share of zeros among what all weights are applied to, weighed by connections."""
        return 1 - sum(row.nonzero_inputs * row.dense for row in self.synapses) / max(self.dense, 1)

    def __str__(self) -> str:
        head = ("weights", "connections", "passes", "dense", "effective", "kind", "nonzero inputs", "nonzero weights")
        lines = [
            (
                row.weights, f"{row.connections:,}", str(row.steps), f"{row.dense:,}", f"{row.effective:,.0f}",
                "AC" if row.accumulates else "MAC", f"{row.nonzero_inputs:.1%}", f"{row.nonzero_weights:.1%}",
            )
            for row in self.synapses
        ]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(head, *lines)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in (head, *lines)]
        table.append(
            f"{self.effective_macs:,.0f} MACs and {self.effective_acs:,.0f} ACs of {self.dense:,} dense; "
            f"{self.neurons:,} neurons, {self.steps} steps"
        )
        return "\n".join(table)


def count(network: Neuron | Callable[[Array], Array], inputs: Array, *, num_steps: int | None = None) -> Operations:
    """Counts what a network does for an inference, as a mean over a batch.

    Args:
        network: any Neuron; or a function without memory, such as a rate network, which is run once.
        inputs: `[T, B, ...]`; or `[B, ...]` with `num_steps`, or for a function.
        num_steps: the number of steps T of a static input.

    Raises:
        TypeError: if `network` is neither a Neuron nor a function.
        ValueError: if the inputs are not what `jsnn.unroll` takes, or there are none.

    >>> import jax.numpy as jnp, jsnn
    >>> from flax import nnx
    >>> layer = nnx.Linear(4, 3, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
    >>> spikes = jnp.zeros((10, 1, 4)).at[2, 0, 1].set(1.0)  # one spike in 10 steps
    >>> operations = jsnn.energy.count(jsnn.Sequential(layer, jsnn.LIF(0.9)), spikes)
    >>> operations.dense, operations.effective_acs, operations.neurons
    (120, 3.0, 3)
    """
    if inputs.size == 0:
        raise ValueError(f"there are no inputs to count with: their shape is {inputs.shape}")
    if not isinstance(network, Neuron):
        if not callable(network):
            raise TypeError(f"count takes a Neuron or a function, got {type(network).__name__}")
        rate_network = network
        inputs = jnp.asarray(inputs)
        rows = _count_steps(lambda _, x: ((), rate_network(x)), (), inputs, 1)
        return Operations(rows, 0, 1)
    inputs, state = prepare(network, inputs, None, num_steps)
    steps = len(inputs) if num_steps is None else num_steps
    layers = jax.eval_shape(lambda x: record(network, x, num_steps=num_steps), inputs)
    neurons = sum(
        math.prod(layer.outputs.shape[2:])
        for name, layer in layers.items()
        if jax.tree.leaves(layer.states) and not name.endswith("/synapse")
    )
    return Operations(_count_steps(network.step, state, inputs, num_steps), neurons, steps)


def joules(operations: Operations, device: str | Device) -> float:
    """What the operations of one inference cost, in J.

    A spiking device pays for effective operations, and for the update of each neuron at each step. Another pays for one
    dense pass: it would run the rate network.

    Raises:
        ValueError: if there is no such device.
    """
    if isinstance(device, str):
        if device not in DEVICES:
            near = difflib.get_close_matches(device, DEVICES, 1, 0.0)
            raise ValueError(f"there is no device {device!r}, did you mean {near[0]!r}? There are {', '.join(DEVICES)}")
        device = DEVICES[device]
    if device.spiking:
        synaptic, updates = operations.effective_macs + operations.effective_acs, operations.neurons * operations.steps
    else:
        synaptic, updates = float(sum(row.connections for row in operations.synapses)), operations.neurons
    return synaptic * device.synaptic + updates * device.neuronal


class _Tally(NamedTuple):
    """What one step of a synaptic operation comes to."""

    effective: Array  # operations, summed over all but the first axis of its output
    absolute: Array  # mean absolute input
    inputs: Array  # share of inputs that are not 0
    weights: Array  # share of weights
    smallest: Array  # absolute input that is not 0
    largest: Array


def _count_steps(
    step: Callable[[State, Array], tuple[State, Any]], state: State, inputs: Array, num_steps: int | None
) -> list[Synapses]:
    first = inputs[0] if num_steps is None else inputs
    leaves = jax.tree.leaves(state)
    program = flatten(trace(step, state, first)[0])
    dependent = program.depending_on(program.inputs)
    changing = program.depending_on(program.inputs if num_steps is None else program.inputs[: len(leaves)])
    synapses = {
        operation.outputs: operation
        for operation in program.operations
        if operation.name in _SYNAPTIC and not dependent.isdisjoint(operation.inputs)
    }

    def run_step(leaves: list[Array], x: Array) -> tuple[list[Array], list[_Tally]]:
        values = {**program.constants, **dict(zip(program.inputs, [*leaves, x], strict=True))}
        tallies = []
        for operation in program.operations:
            arguments = [read(values, atom) for atom in operation.inputs]
            if operation.outputs in synapses:
                tallies.append(_tally(operation, arguments, _input_of(operation, dependent)))
            values.update(zip(operation.outputs, operation(*arguments), strict=True))
        return [read(values, atom) for atom in program.outputs[: len(leaves)]], tallies

    @jax.jit
    def run_all(leaves: list[Array], inputs: Array) -> list[_Tally]:
        if num_steps is None:
            return jax.lax.scan(run_step, leaves, inputs)[1]
        return jax.lax.scan(lambda leaves, _: run_step(leaves, inputs), leaves, length=num_steps)[1]

    rows = []
    for operation, tally in zip(synapses.values(), run_all(leaves, inputs), strict=True):
        is_static = changing.isdisjoint(operation.outputs)  # a static input's, up to the first neuron: one pass
        tally = jax.tree.map(lambda x, steps=1 if is_static else None: np.asarray(x)[:steps], tally)
        rows.append(_row(program, operation, dependent, tally, len(first)))
    return rows


def _input_of(operation: Operation, dependent: set[int]) -> int:
    """Which of the two operands is the input; the other are the weights."""
    return 0 if operation.inputs[0] in dependent else 1


def _tally(operation: Operation, arguments: list[Array], position: int) -> _Tally:
    sizes = [jnp.abs(jnp.asarray(value)).astype(jnp.float32) for value in arguments]
    x, weights = sizes[position], sizes[1 - position]
    params = operation.params | {"preferred_element_type": jnp.dtype(jnp.float32)}
    pairs = operation.equation.primitive.bind(*((size != 0).astype(jnp.float32) for size in sizes), **params)
    return _Tally(
        effective=pairs.astype(jnp.int32).reshape(len(pairs), -1).sum(1),  # exact, as float32 is not
        absolute=jnp.mean(x),
        inputs=jnp.mean(x != 0),
        weights=jnp.mean(weights != 0),
        smallest=jnp.min(jnp.where(x != 0, x, jnp.inf)),
        largest=jnp.max(x),
    )


def _row(program: Program, operation: Operation, dependent: set[int], tally: _Tally, batch: int) -> Synapses:
    position = _input_of(operation, dependent)
    weights = operation.inputs[1 - position]
    of = "two inputs" if weights in dependent else list(shape_of(program, weights))
    return Synapses(
        weights=f"{_SYNAPTIC[operation.name]} {of}",
        connections=_connections(program, operation) // batch,
        steps=len(tally.effective),
        effective=float(tally.effective.sum(dtype=np.int64) / batch),
        mean_input=float(tally.absolute.mean(dtype=np.float64)),
        accumulates=bool(tally.smallest.min() >= tally.largest.max()),
        nonzero_inputs=float(tally.inputs.mean(dtype=np.float64)),
        nonzero_weights=float(tally.weights.mean(dtype=np.float64)),
    )


def _connections(program: Program, operation: Operation) -> int:
    """Multiply-accumulates of one pass for the whole batch, those with the padding of a convolution included."""
    results = math.prod(program.types[operation.outputs[0]].shape)
    dimensions = operation.params["dimension_numbers"]
    if operation.name == "dot_general":
        (contracted, _), _ = dimensions
        return results * math.prod(shape_of(program, operation.inputs[0])[axis] for axis in contracted)
    kernel = shape_of(program, operation.inputs[1])
    return results * math.prod(kernel) // kernel[dimensions.rhs_spec[0]]
