"""What a rule does with a network: which weights lead to which neuron, and what each layer keeps of its past."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.online.cells import answers_at_once, detached, is_silent, leak_of, leaky
from jsnn.online.rules import RULES, Rule
from jsnn.online.walk import check_elementwise, walk
from jsnn.program import flatten, trace
from jsnn.types import Array, Neuron, State

Kept: TypeAlias = Literal["factorised", "full", "nothing"]

_TOLERANCE = 1e-3  # of the probes, which tell 0 from not 0


class Layer(NamedTuple):
    """A layer of neurons, and what the rule keeps for it."""

    name: str
    kept: Kept
    """The inputs of its weights, filtered (factorised), a trace for each weight and place (full), or nothing."""
    floats: int
    """How many numbers that are, for the whole batch."""
    weights: tuple[int, ...]
    """The positions of the parameters that lead to its current, among all of the network."""
    sources: tuple[int, ...]
    """The positions of what the current is made of, among the arrays of `Teacher.data`."""
    with_offset: tuple[int, ...]
    """Those of the weights whose gradient is not 0 for an input of 0, such as biases."""
    outer: dict[int, int | None]
    """Those of the weights that only multiply a source, with its position, or stand alone (None), as a bias."""
    own: tuple[int, ...]
    """Which of the neuron's own arrays are trained."""
    at_once: bool
    """Whether its output answers the current in the same step."""


class Plan(NamedTuple):
    """What a rule does with a network for inputs of one shape."""

    rule: Rule
    layers: tuple[Layer, ...]
    readout: str | None
    """The last layer, if its output is the network's."""
    readout_weights: tuple[int, ...]
    """The positions of the parameters that lead to the outputs without a neuron after them."""
    filtered: bool
    """Whether the traces of hidden layers pass through the readout's membrane."""

    def __str__(self) -> str:
        rows = [f"{layer.name}: {layer.kept}, {layer.floats:,} floats" for layer in self.layers]
        return f"{self.rule.name}: " + "; ".join(rows)


class Split(NamedTuple):
    """A network taken apart: its parameters as a list of arrays, and the rest."""

    graph: Any
    structure: Any
    params: list[Array]
    rest: Any

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


class _Forward:
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

    def late(self, layer: Any, known: Array, current: Array) -> Array:
        return layer.of_window(known).astype(current.dtype)


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
    cells = {name: (cell[0], *jax.tree.map(_described, cell[1:])) for name, cell in step.cells.items()}
    return step._replace(
        state=jax.tree.map(_described, step.state),
        outputs=jax.tree.map(_described, step.outputs),
        cells=cells,
        memories=jax.tree.map(_described, step.memories),
    )


class Taught(NamedTuple):
    """What a network computes between its neurons, if the outputs of all of them are given."""

    currents: dict[str, Array]
    neurons: dict[str, list[Array]]
    """The neurons' own arrays."""
    outputs: Any


class _Teacher:
    """Hands on given outputs and memories, and writes the currents down."""

    def __init__(self, spikes: dict[str, Array], memories: dict[str, Array]) -> None:
        self.spikes, self.memories = spikes, memories
        self.currents: dict[str, Array] = {}
        self.neurons: dict[str, list[Array]] = {}

    def cell(self, name: str, neuron: Neuron, state: State, current: Array) -> tuple[State, Array]:
        self.currents[name], self.neurons[name] = current, jax.tree.leaves(neuron)
        return state, self.spikes[name]

    def memory(self, name: str, known: Array) -> Array:
        return self.memories[name]

    def late(self, layer: Any, known: Array, current: Array) -> Array:
        return layer.of_window(known).astype(current.dtype)


def teach(network: Any, x: Any, spikes: dict[str, Array], memories: dict[str, Array]) -> Taught:
    """Return what a network computes in one step between its neurons, whose outputs are given."""
    hooks = _Teacher(spikes, memories)
    _, outputs = walk(network, None, x, hooks)
    return Taught(hooks.currents, hooks.neurons, outputs)


def make_plan(network: Any, x: Any, rule: Rule) -> Plan:
    """Return what a rule does with a network, for inputs of one step as `x`.

    Raises:
        ValueError: if the rule does not fit a layer or a neuron (it is named, with the rules that do), if there is
            nothing to train, or the network is one that changes itself.
    """
    _refuse_training_mode(network)
    parts = split(network)
    if not parts.params:
        raise ValueError("the network has nothing to train: its weights must be nnx.Param")
    step = observed(network, None, x)
    seen = step.cells
    if not seen:
        raise ValueError("the network has no neurons: train it by jax.grad")
    batch = jax.tree.leaves(x)[0].shape[0]
    spikes = {name: cell[3] for name, cell in seen.items()}
    data = jax.tree.map(_described, x), spikes, step.memories
    leaves, structure = jax.tree.flatten(data)

    def taught(params: list[Array], leaves: list[Array]) -> Taught:
        return teach(parts.network(params), *structure.unflatten(leaves))

    jaxpr, shape = trace(taught, list(map(_described, parts.params)), leaves)
    program, numbered = flatten(jaxpr), iter(range(10**9))
    places = jax.tree.map(lambda _: next(numbered), shape)
    count = len(parts.params)

    def leads_to(outputs: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        atoms = [program.outputs[place] for place in jax.tree.leaves(outputs)]
        used = {atom for index in program.needed_for(atoms) for atom in program.operations[index].inputs} | set(atoms)
        found = [index for index, atom in enumerate(program.inputs) if atom in used]
        return tuple(i for i in found if i < count), tuple(i - count for i in found if i >= count)

    spike_atoms = dict(zip(spikes, program.inputs[count + len(jax.tree.leaves(x)) :]))
    outputs = [program.outputs[place] for place in jax.tree.leaves(places.outputs)]
    readout = next((name for name, atom in spike_atoms.items() if outputs == [atom]), None)
    probes = _Probes(parts, structure, leaves)
    filtered = False
    if rule.readout_memory and readout is not None and len(seen) > 1:
        neuron, state, current, _ = seen[readout]
        filtered = is_silent(neuron, state, current) and leak_of(neuron, current) is not None
    layers = []
    for name, (neuron, state, current, _) in seen.items():
        weights, sources = leads_to(places.currents[name])
        own = tuple(
            i for i, place in enumerate(places.neurons[name]) if leads_to(place)[0] and _is_floating(shape, name, i)
        )
        probes.of(name, weights, sources)
        leak = leak_of(for_traces(rule, neuron), current) if rule.traces != "none" else None
        through_readout = filtered and name != readout
        kept: Kept = "nothing"
        if rule.traces == "leaky" and leak is None:
            raise ValueError(_does_not_fit(rule, name, f"the state of {type(neuron).__name__} has no constant leak"))
        if leak is not None and not through_readout and (rule.traces == "leaky" or probes.is_affine):
            kept = "factorised"
        elif rule.traces != "none":
            kept = "full"
            for bad in probes.mixing.values():
                raise ValueError(
                    _does_not_fit(rule, name, f"weights of shape {bad} do not lead to one channel of its neurons each")
                )
        variables = len([v for v in jax.tree.leaves(state) if jnp.issubdtype(v.dtype, jnp.inexact)])
        floats = 0
        if kept == "factorised":
            floats = variables * sum(math.prod(leaves[i].shape) for i in sources)
        elif kept == "full":
            places_of = math.prod(current.shape[:-1])
            floats = variables * places_of * sum(math.prod(parts.params[i].shape) for i in weights)
        if rule.traces in ("own", "detached"):
            floats += variables * math.prod(current.shape) * len(own)
        if through_readout:
            floats += floats // variables * len(jax.tree.leaves(seen[readout or ""][1]))
        offset = tuple(i for i in weights if i in probes.with_offset)
        at_once = answers_at_once(neuron, state, current)
        layers.append(Layer(name, kept, floats, weights, sources, offset, probes.outer, own, at_once))
    if rule.signal != "space":
        _check_outputs(rule, shape.outputs, batch)
    return Plan(rule, tuple(layers), readout, leads_to(places.outputs)[0], filtered)


def for_traces(rule: Rule, neuron: Neuron) -> Neuron:
    """Return the neuron whose derivatives a rule takes: itself, or without what the rule neglects."""
    return {"own": lambda n: n, "none": lambda n: n, "detached": detached, "leaky": leaky}[rule.traces](neuron)


def _does_not_fit(rule: Rule, name: str, why: str) -> str:
    others = {"leaky": "rtrl, eprop or sltt"}.get(rule.traces, "ottt, sltt or decolle")
    return f"rule {rule.name!r} does not fit layer {name}: {why}. Take {others}, or jax.grad through jsnn.unroll"


def _check_outputs(rule: Rule, outputs: Any, batch: int) -> None:
    if not hasattr(outputs, "shape") or outputs.ndim != 2:
        found = jax.tree.map(jnp.shape, outputs)
        raise ValueError(f"rule {rule.name!r} takes a network with one output [B, N], got {found}")


def _is_floating(shape: Taught, name: str, index: int) -> bool:
    return jnp.issubdtype(shape.neurons[name][index].dtype, jnp.floating)


def _described(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _refuse_training_mode(network: Any) -> None:
    """Raise ValueError if a network has layers that change themselves, or draw, in training mode."""
    for path, part in nnx.iter_graph(network):
        normalises = isinstance(part, nnx.BatchNorm) and not part.use_running_average
        drops = isinstance(part, nnx.Dropout) and not part.deterministic and part.rate > 0
        if normalises or drops:
            name = ".".join(map(str, path))
            raise ValueError(
                f"{name or 'network'}: {type(part).__name__} in training mode does not learn online, as it takes whole "
                f"batches of all steps: call network.eval() first, so that it is as in inference"
            )


class _Probes:
    """Finds out by random numbers how the current of a layer depends on weights and inputs; all in one program."""

    is_affine: bool
    """Whether the current is affine in what it is made of."""
    with_offset: set[int]
    """The weights whose gradient is not 0 for an input of 0."""
    mixing: dict[int, tuple[int, ...]]
    """The shapes of the weights that reach several channels of the neurons."""
    outer: dict[int, int | None]
    """The weights whose gradient is an outer product of a source and the current's, see `Layer`."""

    def __init__(self, parts: Split, structure: Any, leaves: list[Any]) -> None:
        self.parts, self.structure, self.leaves = parts, structure, leaves

    def of(self, name: str, weights: tuple[int, ...], sources: tuple[int, ...]) -> None:
        """Probe the layer of this name."""
        with jax.ensure_compile_time_eval():  # also where the weights are traced
            rest = jax.tree.map(_plain, self.parts.rest)
            params = _drawn(0, self.parts.params)
            zero = [jnp.zeros(x.shape, x.dtype) for x in self.leaves]
            one, other = _drawn(1, self.leaves), _drawn(2, self.leaves)
            both = [a + b for a, b in zip(one, other)]

            def current(params: list[Array], leaves: list[Array]) -> Array:
                network = self.parts.network(params, rest)
                return teach(network, *self.structure.unflatten(leaves)).currents[name].astype(jnp.float32)

            shape = jax.eval_shape(current, params, zero).shape
            draws = jnp.asarray(np.random.default_rng(3).normal(size=shape), jnp.float32)
            half = jnp.arange(shape[-1]) % 2 == 0

            @jax.jit
            def found(params: list[Array], *cases: list[Array]) -> Any:
                def gradient(cotangent: Array, leaves: list[Array]) -> list[Array]:
                    return jax.vjp(lambda params: current(params, leaves), params)[1](cotangent)[0]

                return (
                    [current(params, leaves) for leaves in cases],
                    gradient(draws, cases[0]),
                    gradient(jnp.where(half, draws, 0), cases[1]),
                    gradient(draws, cases[1]),
                )

            (nothing, first, second, sum_of_both), offsets, halves, whole = found(params, zero, one, other, both)
            error = jnp.abs(sum_of_both - first - second + nothing).max(initial=0)
            self.is_affine = bool(error <= _TOLERANCE * (jnp.abs(sum_of_both).max(initial=0) + 1e-30))
            self.with_offset = {i for i, g in enumerate(offsets) if bool(jnp.any(g != 0))}
            self.mixing = {
                i: g.shape
                for i, g in enumerate(halves)
                if i in weights and (g.shape[-1:] != shape[-1:] or bool(jnp.any(jnp.where(half, 0, g) != 0)))
            }
            self.outer = {}
            for i in weights:
                alone = jnp.sum(draws, tuple(range(len(shape) - 1)))
                products = {None: alone} | {
                    j: jnp.tensordot(one[j], draws, (tuple(range(len(shape) - 1)),) * 2)
                    for j in sources
                    if one[j].shape[:-1] == shape[:-1]
                }
                for source, product in products.items():
                    if product.shape == whole[i].shape and bool(jnp.allclose(product, whole[i], rtol=1e-4, atol=1e-4)):
                        self.outer[i] = source


def _drawn(seed: int, like: list[Any]) -> list[Array]:
    draws = np.random.default_rng(seed)
    return [jnp.asarray(draws.normal(size=x.shape), x.dtype) for x in like]


def _plain(x: Any) -> Any:
    """Return numbers in the place of an array that may not be known."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.split(jax.random.key(0), x.shape) if x.shape else jax.random.key(0)
    return jnp.ones(x.shape, x.dtype)
