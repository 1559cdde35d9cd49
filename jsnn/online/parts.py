"""A network taken apart: its parameters, one step of its neurons, and what it computes between them."""

from typing import Any, NamedTuple

import jax
from flax import nnx

from jsnn.online.walk import Hooks, check_elementwise, walk
from jsnn.types import Array, Neuron, State


class Split(NamedTuple):
    """A network taken apart: its parameters as a list of arrays, and the rest."""

    graph: Any
    structure: Any
    params: list[Array]
    rest: Any

    @property
    def names(self) -> list[str]:
        """The paths of the parameters, such as `"layers.0.kernel"`."""
        flat = nnx.to_flat_state(jax.tree.unflatten(self.structure, self.params))
        return [".".join(map(str, path)) for path, _ in flat]

    def network(self, params: list[Array], rest: Any = None) -> Any:
        """Return the network with these parameters."""
        return nnx.merge(self.graph, jax.tree.unflatten(self.structure, params), self.rest if rest is None else rest)


def split(network: Any) -> Split:
    """Take a network apart."""
    graph, params, rest = nnx.split(network, nnx.Param, ...)  # type: ignore[misc]
    leaves, structure = jax.tree.flatten(params)
    return Split(graph, structure, leaves, rest)


class Step(NamedTuple):
    """What happened in one step."""

    state: State
    outputs: Any
    cells: dict[str, tuple[Neuron, State, Array, Array]]
    """Of each layer: the neuron, its state before, its current and its output."""
    memories: dict[str, Array]


class _Forward(Hooks):
    """Runs the neurons as they are, and writes down what they were given. No gradient leads into the past."""

    def __init__(self) -> None:
        self.cells: dict[str, tuple[Neuron, State, Array, Array]] = {}
        self.memories: dict[str, Array] = {}

    def cell(self, name: str, neuron: Neuron, state: State, current: Array) -> tuple[State, Array]:
        if name in self.cells:
            raise ValueError(f"{name} stands for two neurons: give one of them another name")
        check_elementwise(name, neuron, state, current)
        after, output = neuron.step(state, current)
        self.cells[name] = neuron, state, current, output
        return after, output

    def memory(self, name: str, known: Array) -> Array:
        self.memories[name] = known
        return known


def run_step(network: Any, state: State, x: Any) -> Step:
    """Run one step, and return what happened in it."""
    hooks = _Forward()
    state, outputs = walk(network, state, x, hooks)
    return Step(state, outputs, hooks.cells, hooks.memories)


def observed(network: Any, state: State, x: Any) -> Step:
    """Return what happens in one step, with shapes in the place of arrays; nothing is computed."""
    found: list[Step] = []

    def run(state: State, x: Any) -> Any:
        found.append(run_step(network, state, x))
        return found[0].outputs

    jax.eval_shape(run, state, x)
    step = found[0]
    cells = {name: (cell[0], *jax.tree.map(described, cell[1:])) for name, cell in step.cells.items()}
    return step._replace(
        state=jax.tree.map(described, step.state),
        outputs=jax.tree.map(described, step.outputs),
        cells=cells,
        memories=jax.tree.map(described, step.memories),
    )


class Taught(NamedTuple):
    """What a network computes between its neurons, if the outputs of all of them are given."""

    currents: dict[str, Array]
    neurons: dict[str, list[Array | None]]
    """The neurons' own arrays; None stands for a neuron that JAX does not know as a pytree."""
    remembered: dict[str, Array]
    """What layers with a memory of their inputs would know, see `Hooks.memory`."""
    outputs: Any


class _Teacher(Hooks):
    """Hands on given outputs and memories, and writes the currents down."""

    def __init__(self, spikes: dict[str, Array], memories: dict[str, Array]) -> None:
        self.spikes, self.memories = spikes, memories
        self.currents: dict[str, Array] = {}
        self.neurons: dict[str, list[Array | None]] = {}
        self.remembered: dict[str, Array] = {}

    def cell(self, name: str, neuron: Neuron, state: State, current: Array) -> tuple[State, Array]:
        arrays = [None if isinstance(leaf, Neuron) else leaf for leaf in jax.tree.leaves(neuron)]
        self.currents[name], self.neurons[name] = current, arrays
        return state, self.spikes[name]

    def memory(self, name: str, known: Array) -> Array:
        self.remembered[name] = known
        return self.memories[name]


def teach(network: Any, x: Any, spikes: dict[str, Array], memories: dict[str, Array]) -> Taught:
    """Return what a network computes in one step between its neurons, whose outputs are given."""
    hooks = _Teacher(spikes, memories)
    _, outputs = walk(network, None, x, hooks)
    return Taught(hooks.currents, hooks.neurons, hooks.remembered, outputs)


def described(x: Any) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of an array."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype)
