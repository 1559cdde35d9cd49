"""A network that is not a chain: layers joined by edges, which may branch, meet and lead back."""

import functools
import graphlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.layers import Layer
from jsnn.network import Network, check_tuple, shown
from jsnn.neurons.calling import call
from jsnn.neurons.shapes import check_order, check_state
from jsnn.tracing import States
from jsnn.types import Array, Neuron, RunPart, Shape, State
from jsnn.unrolling import over_time

INPUT, OUTPUT = "input", "output"


class GraphState(NamedTuple):
    """The state of `Graph`."""

    layers: tuple[State, ...]
    """One for each layer, () for those without memory."""
    late: tuple[Array, ...]
    """What the layers at which a cycle closes put out in the last step, [B, ...]."""


class Graph(Network):
    """Layers joined by edges. Itself a Neuron.

    A layer takes the sum of what leads to it. All layers run in one time step, in an order in which each comes after
    those that lead to it; only an edge that closes a cycle, and so would lead back, hands on what its layer put out in
    the step before. Before the first step that is what it puts out for no input and no spikes, as in `Recurrent`.

    Each cycle must hold a neuron (or another layer with a state, such as a delay). Of two edges that could close a
    cycle, it is the one which comes later on the way from the input, edges taken in the order in which they are given.

    Args:
        layers: neurons, Flax modules or functions, by name.
        edges: `(from, to)`, by the layers' names and `"input"` and `"output"`.

    Raises:
        ValueError: if a layer is named as an end is, an edge names no layer, a layer has no way from the input or to
            the output, or a cycle has no state; and from `init`, if shapes do not fit.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> layers = {"fast": jsnn.LI(0.5), "slow": jsnn.LI(0.75)}
        >>> edges = [("input", "fast"), ("input", "slow"), ("fast", "output"), ("slow", "output")]
        >>> jsnn.unroll(jsnn.nir.Graph(layers, edges), jnp.ones((3, 1, 1)))[1].ravel().tolist()
        [2.0, 3.25, 4.0625]
    """

    def __init__(self, layers: Mapping[str, Layer], edges: Iterable[tuple[str, str]]) -> None:
        edges = list(dict.fromkeys((str(source), str(target)) for source, target in edges))
        if reserved := {INPUT, OUTPUT} & set(layers):
            raise ValueError(f"no layer can be named {reserved.pop()!r}, which is an end of the graph")
        stateful = {name for name, layer in layers.items() if isinstance(layer, Neuron)}
        check_edges(layers, edges)
        check_cycles(edges, stateful)
        order, late = arrange(edges)
        self.names = tuple(name for name in order if name in layers)
        self.layers = nnx.List([layers[name] for name in self.names])
        self.edges = tuple(edges)
        self.late = tuple(late)

    def sources(self, name: str) -> tuple[str, ...]:
        """Return the layers that lead to one within a step."""
        return tuple(source for source, target in self.edges if target == name and (source, target) not in self.late)

    @property
    def remembered(self) -> tuple[str, ...]:
        """The layers whose outputs are handed on a step later."""
        return tuple(dict.fromkeys(source for source, _ in self.late))

    @property
    def is_layered(self) -> bool:  # type: ignore[override]
        """Whether no step needs what the step before has put out."""
        return not self.late

    def one_step(self, x: Any) -> Any:
        """Run all layers in their order; with cycles, from what came back over them to what comes back next."""

        def respond(name: str, layer: Layer, x: Array) -> Array:
            return call(layer, x, name) if isinstance(layer, Neuron) else shown(name, layer(x))

        if not self.late:
            return self._run(respond, x, {})[OUTPUT]
        x, late = x
        values = self._run(respond, x, dict(zip(self.remembered, late, strict=True)))
        return values[OUTPUT], tuple(values[name].astype(x.dtype) for name, x in zip(self.remembered, late))

    def pack(self, states: States) -> GraphState:
        """Return one state for each layer; `()` for those without memory."""
        return GraphState(tuple(states.get(name, ()) for name in self.names), ())

    def unpack(self, state: GraphState) -> States:
        """Return the states of the neurons by name."""
        layers = state.layers if isinstance(state, GraphState) else state
        check_tuple(layers, len(self.layers), "layer")
        return {name: own for name, layer, own in zip(self.names, self.layers, layers) if isinstance(layer, Neuron)}

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> GraphState:
        """Return a state for each layer, and what the layers that close a cycle put out before the first step."""
        if not self.late:
            return super().init(shape, dtype)

        def silent(name: str, layer: Layer, x: Array) -> Array:
            if not isinstance(layer, Neuron):
                return (nnx.clone(layer) if isinstance(layer, nnx.Module) else layer)(x)
            outputs = jax.eval_shape(lambda x: layer.step(layer.init(x.shape, x.dtype), x)[1], x)
            return jnp.zeros(outputs.shape, outputs.dtype)

        values = self._run(silent, jnp.zeros(shape, dtype), {})
        late = tuple(values[name] for name in self.remembered)
        return super().init((shape, jax.tree.map(jnp.shape, late)), dtype)._replace(late=late)

    def step(self, state: GraphState, current: Array) -> tuple[GraphState, Array]:
        """Run one time step through all layers, `current` [B, ...]."""
        if not self.late:
            return super().step(state, current)
        check_order(self, state, current)
        try:
            after, (outputs, late) = super().step(state, (current, state.late))
        except ValueError as error:
            check_state(self, state, current, error)  # which says so if the state is of another batch
            raise
        return after._replace(late=late), outputs

    def run_layers(
        self, state: GraphState, inputs: Array, num_steps: int | None, run_part: RunPart
    ) -> tuple[GraphState, Array]:
        """Run all time steps. A graph with cycles runs step by step, and then each layer with what it was given."""
        if not self.late:
            return super().run_layers(state, inputs, num_steps, run_part)

        def step(state: GraphState, x: Array) -> tuple[GraphState, tuple[Array, ...]]:
            return self.step(state, x)[0], state.late

        inputs = over_time(inputs, num_steps)
        after, late = jax.lax.scan(step, state, inputs)
        _, (outputs, _) = super().run_layers(state, (inputs, late), None, run_part)
        return after, outputs

    def _run(
        self, respond: Callable[[str, Layer, Array], Array], current: Array, late: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Return what all layers put out in a step.

        Without `late`, nothing comes back over the edges that close a cycle.
        """
        values = {INPUT: current}

        def arriving(name: str) -> Array:
            back = [late[source] for source, target in self.late if target == name and late]
            return _total(name, [*(values[source] for source in self.sources(name)), *back])

        for name, layer in zip(self.names, self.layers):
            values[name] = _named(name, functools.partial(respond, name, layer), arriving(name))
        return values | {OUTPUT: arriving(OUTPUT)}


def _total(name: str, terms: Sequence[Array]) -> Array:
    shapes = sorted({term.shape for term in terms})
    if len(shapes) > 1:
        raise ValueError(f"what leads to {name!r} must be of one shape, got {' and '.join(map(str, shapes))}")
    return functools.reduce(lambda total, term: total + term.astype(total.dtype), terms)


def _named(name: str, function: Callable[[Array], Array], x: Array) -> Array:
    """Return function(x), with an error that names the layer."""
    try:
        return function(x)
    except (TypeError, ValueError) as error:
        raise ValueError(f"layer {name!r} cannot take an input of shape {x.shape}: {error}") from error


def check_edges(names: Iterable[str], edges: Sequence[tuple[str, str]]) -> None:
    """Raise ValueError if an edge leads nowhere, or no edge leads to or from a layer."""
    known = {*names, INPUT, OUTPUT}
    for source, target in edges:
        for name in (source, target):
            if name not in known:
                raise ValueError(
                    f"the edge {source!r} -> {target!r} names {name!r}, which is not one of {sorted(known)}"
                )
        if target == INPUT or source == OUTPUT:
            raise ValueError(f"the edge {source!r} -> {target!r} leads to the input or from the output, which are ends")
    reached = _reachable(INPUT, edges)
    reaching = _reachable(OUTPUT, [(target, source) for source, target in edges])
    if OUTPUT not in reached:
        raise ValueError("no way leads from the input to the output")
    if lost := sorted(known - reached):
        raise ValueError(f"no way leads from the input to {', '.join(lost)}")
    if lost := sorted(known - reaching):
        raise ValueError(f"no way leads to the output from {', '.join(lost)}: take out what is not used")


def check_cycles(edges: Sequence[tuple[str, str]], stateful: Iterable[str]) -> None:
    """Raise ValueError if nothing in a cycle has a state: its value would be needed before it is known."""
    held = set(stateful)
    before: dict[str, list[str]] = {}
    for source, target in edges:
        if source not in held and target not in held:
            before.setdefault(target, []).append(source)
    try:
        graphlib.TopologicalSorter(before).prepare()
    except graphlib.CycleError as error:
        raise ValueError(
            f"the cycle {' -> '.join(error.args[1])} has no delay and no neuron: put one into it"
        ) from error


def arrange(edges: Sequence[tuple[str, str]]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return all names in an order to run them in, and the edges that close a cycle, which lead back in it.

    Examples:
        >>> arrange([("input", "a"), ("b", "a"), ("a", "b"), ("a", "output")])
        (['input', 'a', 'output', 'b'], [('b', 'a')])
    """
    targets: dict[str, list[str]] = {}
    for source, target in edges:
        targets.setdefault(source, []).append(target)
    finished: list[str] = []
    late: list[tuple[str, str]] = []
    path = {INPUT: iter(targets.get(INPUT, ()))}  # a walk into the depth, and where it has to go on
    while path:
        name = next(reversed(path))
        target = next(path[name], "")
        if not target:
            finished.append(name)
            del path[name]
        elif target in path:
            late.append((name, target))
        elif target not in finished:
            path[target] = iter(targets.get(target, ()))
    return finished[::-1], late


def _reachable(start: str, edges: Sequence[tuple[str, str]]) -> set[str]:
    found, new = {start}, {start}
    while new:
        new = {target for source, target in edges if source in new} - found
        found |= new
    return found
