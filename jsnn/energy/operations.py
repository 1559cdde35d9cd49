"""How many operations a network takes for one inference, counted in its traced program."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.arguments import checked
from jsnn.conversion.activations import KNOWN, find
from jsnn.conversion.exact import Growth, RunningMean
from jsnn.conversion.function import CURE, TRAINING
from jsnn.conversion.place import Filtered
from jsnn.delays import Delay, Delayed
from jsnn.filters import Alpha, Lowpass
from jsnn.neurons.wrappers import Dropout
from jsnn.plasticity import Plastic
from jsnn.program import SYNAPTIC, Constant, Operation, Program, flatten, read, shape_of, trace, within
from jsnn.types import Around, Array, Inputs, Layered, Neuron, State
from jsnn.unrolling import ChangesItself, count_steps, of_step, prepare, run

# they have a state, but hand on what others put out
_NO_NEURONS = (Lowpass, Alpha, Delay, Delayed, Dropout, RunningMean, Growth)


class Synapses(NamedTuple):
    """The weights of one layer, and what their use for one inference comes to."""

    weights: str
    """Kind and shape, such as "dense [784, 128]"."""
    connections: int
    """Multiply-accumulates of one dense pass, those with the padding of a convolution included."""
    steps: int
    """How many passes; 1 for what a static input passes before the first neuron."""
    effective: float
    """Operations of all passes in which neither input nor weight is 0."""
    mean_input: float
    """Mean absolute value of the input, over all passes."""
    accumulates: bool
    """Whether inputs are spikes: what is not 0 is 1 or -1, or of one size and comes from neurons."""
    nonzero_inputs: float
    """Share of the inputs."""
    nonzero_weights: float
    """Share of the weights."""
    weights_number: int = 0
    """How many weights there are; 0 where two inputs are multiplied, or weights change, as those of `Plastic`."""
    padding: int = 0
    """Of the connections, those onto the padding of a convolution."""
    wired: int = 0
    """Of the connections, those of a weight that is not 0, onto no padding."""
    dtype: str = "float32"
    """Of the weights."""

    @property
    def dense(self) -> int:
        """Multiply-accumulates of all passes, zeros included, those with the padding of a convolution not."""
        return (self.connections - self.padding) * self.steps


class Operations(NamedTuple):
    """What one inference takes, averaged over the inputs; printed, a table."""

    synapses: list[Synapses]
    neurons: int
    """Those that are updated at each step; of a rate network, its activations."""
    steps: int

    @property
    def dense(self) -> int:
        """Multiply-accumulates, zeros included, those with the padding of a convolution not."""
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
    def connection_sparsity(self) -> float:
        """The share of zeros among all weights."""
        total = sum(row.weights_number for row in self.synapses)
        return 1 - sum(row.nonzero_weights * row.weights_number for row in self.synapses) / total if total else 0.0

    @property
    def activation_sparsity(self) -> float:
        """The share of zeros among what all weights are applied to, weighed by connections.

        NeuroBench's is a share of the outputs of neurons: that of `compare`.
        """
        return 1 - sum(row.nonzero_inputs * row.dense for row in self.synapses) / self.dense if self.dense else 0.0

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


@checked
def count(network: Neuron | Callable[[Array], Array], inputs: Inputs, *, num_steps: int | None = None) -> Operations:
    """Count what a network does for an inference, as a mean over a batch.

    Args:
        network: any Neuron; or a function without memory, such as a rate network, which is run once.
        inputs: `[T, B, ...]`; or `[B, ...]` with `num_steps`, or for a function. Of a network also several as a pytree.
        num_steps: the number of steps T of a static input.

    Raises:
        TypeError: if `network` is neither a Neuron nor a function.
        ValueError: if the inputs are not what `jsnn.unroll` takes, there are none, or they have no batch axis; if the
            network is in training mode, has weights inside a loop, or was loaded from a file of `jsnn.export`.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> layer = nnx.Linear(4, 3, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
        >>> spikes = jnp.zeros((10, 1, 4)).at[2, 0, 1].set(1.0)  # one spike in 10 steps
        >>> operations = jsnn.energy.count(jsnn.Sequential(layer, jsnn.LIF(0.9)), spikes)
        >>> operations.dense, operations.effective_acs, operations.neurons
        (120, 3.0, 3)
    """
    for x in jax.tree.leaves(inputs):
        if x.size == 0:
            raise ValueError(f"there are no inputs to count with: their shape is {x.shape}")
        if x.ndim < (3 if isinstance(network, Neuron) and num_steps is None else 2):
            raise ValueError(
                f"inputs must have a batch axis, [T, B, ...], or [B, ...] of a static input, got shape {x.shape}: "
                f"insert one, inputs[:, None] or inputs[None]"
            )
        if isinstance(x, jax.core.Tracer):
            raise TypeError("inputs must be known for operations to be counted, got a traced array: count outside jit")
    if not isinstance(network, Neuron):
        if not callable(network) or isinstance(network, type | nnx.Variable):
            raise TypeError(f"count takes a Neuron or a function, got {type(network).__name__}")
        program = _program(network, inputs)
        found = find(program, tuple(KNOWN.values()), program.inputs)
        neurons = sum(math.prod(shape_of(program, match.result)[1:]) for match in found)
        rate_network = network
        return Operations(_count_steps(lambda _, x: ((), rate_network(x)), (), inputs, 1), neurons, 1)
    inputs, state = prepare(network, inputs, None, num_steps)
    rows = _count_steps(network.step, state, inputs, num_steps)
    sizes: list[int] = []

    def add(layer: Neuron, outputs: Any) -> None:
        sizes.append(max(math.prod(y.shape[2:]) for y in jax.tree.leaves(outputs)))

    def run_network(state: State, inputs: Inputs) -> None:
        watch_neurons(network, state, inputs, num_steps, add)

    try:
        jax.eval_shape(run_network, state, inputs)
    except (*TRAINING, ChangesItself) as error:
        raise ValueError(f"the network is in training mode ({error.__cause__ or error}): {CURE}") from error
    return Operations(rows, sum(sizes), count_steps(inputs, num_steps))


def watch_neurons(
    network: Neuron, state: State, inputs: Inputs, num_steps: int | None, look: Callable[[Neuron, Any], None]
) -> None:
    """Run a network, and call a function with each neuron and its outputs, `[T, B, ...]`; filters are not neurons."""

    def run_part(
        owner: Any, name: str, layer: Neuron | None, state: State, x: Any, num_steps: int | None
    ) -> tuple[State, Any]:
        if layer is None:
            return state, x
        if isinstance(layer, Layered):
            return run(layer, state, x, num_steps, functools.partial(run_part, layer))
        inside = layer.inside(state, x, num_steps) if isinstance(layer, Around) else None
        state, outputs = run(layer, state, x, num_steps)
        if inside:
            run_part(layer, "neuron", *inside, None)
            return state, outputs
        is_synapse = (isinstance(owner, Filtered) and name == "synapse") or (
            isinstance(layer, Plastic) and layer.neuron is None
        )
        if not (isinstance(layer, _NO_NEURONS) or is_synapse):
            look(layer, outputs)
        return state, outputs

    run_part(None, "", network, state, inputs, num_steps)


class _Tally(NamedTuple):
    """What one step of a synaptic operation comes to."""

    effective: Array  # operations, summed over all but the first axes of its output
    absolute: Array  # mean absolute input
    inputs: Array  # how many inputs are not 0
    weights: Array  # how many weights
    smallest: Array  # absolute input that is not 0
    largest: Array


class _Wires(NamedTuple):
    """Connections of a synaptic operation, summed over all but the first axes of its output."""

    inside: Array  # onto no padding
    wired: Array  # of these, the ones whose weight is not 0


def _count_steps(
    step: Callable[[State, Any], tuple[State, Any]], state: State, inputs: Inputs, num_steps: int | None
) -> list[Synapses]:
    first = of_step(inputs, num_steps)
    leaves = jax.tree.leaves(state)
    program = _program(step, state, first)
    dependent = program.depending_on(program.inputs)
    from_neurons = program.depending_on(program.inputs[: len(leaves)])
    changing = dependent if num_steps is None else from_neurons
    synapses = {
        operation.outputs: operation
        for operation in program.operations
        if operation.name in SYNAPTIC and not dependent.isdisjoint(operation.inputs)
    }

    def run_step(
        constants: dict[int, Any], leaves: list[Array], x: Inputs, look: Callable[..., Any]
    ) -> tuple[list[Array], list[Any]]:
        values = {**constants, **dict(zip(program.inputs, [*leaves, *jax.tree.leaves(x)], strict=True))}
        tallies = []
        for operation in program.operations:
            if operation.outputs in synapses:
                arguments = [read(values, atom) for atom in operation.inputs]
                tallies.append(look(operation, arguments, _input_of(operation, dependent)))
            operation.run(values)
        return [read(values, atom) for atom in program.outputs[: len(leaves)]], tallies

    @jax.jit
    def run_all(constants: dict[int, Any], leaves: list[Array], inputs: Inputs) -> tuple[list[_Wires], list[_Tally]]:
        run = functools.partial(run_step, constants)  # which are arguments, as XLA would fold them into the program
        x, xs = (jax.tree.map(lambda x: x[0], inputs), inputs) if num_steps is None else (inputs, None)
        tallies = jax.lax.scan(lambda leaves, at: run(leaves, x if at is None else at, _tally), leaves, xs, num_steps)
        return run(leaves, x, _wires)[1], tallies[1]

    rows = []
    for operation, wires, tally in zip(synapses.values(), *run_all(program.constants, leaves, inputs), strict=True):
        is_static = changing.isdisjoint(operation.outputs)  # a static input's, up to the first neuron: one pass
        tally = jax.tree.map(lambda x, steps=1 if is_static else None: np.asarray(x)[:steps], tally)
        rows.append(_row(program, operation, dependent, from_neurons, wires, tally, jax.tree.leaves(first)[0].shape[0]))
    return rows


def _program(function: Callable[..., Any], *arguments: Any) -> Program:
    try:
        program = flatten(trace(function, *arguments)[0])
    except (*TRAINING, ChangesItself) as error:
        raise ValueError(f"the network is in training mode ({error.__cause__ or error}): {CURE}") from error
    dependent = program.depending_on(program.inputs)
    for operation in program.operations:
        names = {inner.primitive.name for inner in within(operation.equation)}
        if "call_exported" in names:
            raise ValueError("the weights of a network that was loaded from a file cannot be seen: count the saved one")
        has_weights = not names.isdisjoint(SYNAPTIC)
        if operation.name not in SYNAPTIC and has_weights and not dependent.isdisjoint(operation.outputs):
            raise ValueError(f"weights inside lax.{operation.name} cannot be counted: write the loop or branch out")
    return program


def _input_of(operation: Operation, dependent: set[int]) -> int:
    """Return which of the two operands is the input; the other are the weights."""
    return 0 if operation.inputs[0] in dependent else 1


def _tally(operation: Operation, arguments: list[Array], position: int) -> _Tally:
    sizes = [jnp.abs(jnp.asarray(value)).astype(jnp.float32) for value in arguments[:2]]
    x, weights = sizes[position], sizes[1 - position]
    return _Tally(
        effective=_pairs(operation, [*(size != 0 for size in sizes), *arguments[2:]]),
        absolute=jnp.mean(x),
        inputs=jnp.count_nonzero(x),
        weights=jnp.count_nonzero(weights),
        smallest=jnp.min(jnp.where(x != 0, x, jnp.inf)),
        largest=jnp.max(x),
    )


def _wires(operation: Operation, arguments: list[Array], position: int) -> _Wires:
    everything = [*(jnp.ones(jnp.shape(value), bool) for value in arguments[:2]), *arguments[2:]]
    wired = list(everything)
    wired[1 - position] = jnp.asarray(arguments[1 - position]) != 0
    return _Wires(_pairs(operation, everything), _pairs(operation, wired))


def _pairs(operation: Operation, arguments: list[Array]) -> Array:
    """Return how many pairs of input and weight meet, the first two, both marked, by the first axes of the output."""
    masks, synapses = (mask.astype(jnp.float32) for mask in arguments[:2]), arguments[2:]
    is_sparse = operation.name == "sparse_product"
    params = operation.params | ({} if is_sparse else {"preferred_element_type": jnp.dtype(jnp.float32)})
    pairs = jnp.atleast_1d(operation.equation.primitive.bind(*masks, *synapses, **params))
    first = pairs.shape[: 2 if pairs.ndim > 2 else 1]  # of a whole image they may be more than 2^31
    return pairs.astype(jnp.int32).reshape(*first, -1).sum(-1)  # exact, as float32 is not


def _row(
    program: Program,
    operation: Operation,
    dependent: set[int],
    from_neurons: set[int],
    wires: _Wires,
    tally: _Tally,
    batch: int,
) -> Synapses:
    connections = _connections(program, operation)
    inside, wired = (int(np.asarray(pairs).sum(dtype=np.int64)) for pairs in wires)
    position = _input_of(operation, dependent)
    x, weights = operation.inputs[position], operation.inputs[1 - position]
    largest = tally.largest.max()
    of = "two inputs" if weights in dependent else list(shape_of(program, weights))
    return Synapses(
        weights=f"{SYNAPTIC[operation.name]} {of}",
        connections=connections // batch,
        steps=len(tally.effective),
        effective=float(tally.effective.sum(dtype=np.int64) / batch),
        mean_input=float(tally.absolute.mean(dtype=np.float64)),
        accumulates=bool(tally.smallest.min() >= largest and (x in from_neurons or largest in (0, 1))),
        nonzero_inputs=float(tally.inputs.mean() / max(math.prod(shape_of(program, x)), 1)),
        nonzero_weights=float(tally.weights.mean() / max(math.prod(shape_of(program, weights)), 1)),
        weights_number=0 if weights in dependent else math.prod(shape_of(program, weights)),
        padding=(connections - inside) // batch,
        wired=(inside if weights in dependent else wired) // batch,
        dtype=str(jnp.result_type(weights.value if isinstance(weights, Constant) else program.types[weights])),
    )


def _connections(program: Program, operation: Operation) -> int:
    """Return multiply-accumulates of one pass for the whole batch, those with the padding of a convolution included."""
    if operation.name == "sparse_product":
        return math.prod(shape_of(program, atom)[0] for atom in operation.inputs[:2])
    results = math.prod(program.types[operation.outputs[0]].shape)
    dimensions = operation.params["dimension_numbers"]
    if operation.name == "dot_general":
        (contracted, _), _ = dimensions
        return results * math.prod(shape_of(program, operation.inputs[0])[axis] for axis in contracted)
    kernel = shape_of(program, operation.inputs[1])
    return results * math.prod(kernel) // kernel[dimensions.rhs_spec[0]]
