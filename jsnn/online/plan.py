"""What a rule does with a network: which weights lead to which neuron, and what each layer keeps of its past."""

import math
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.checks import check_is_neuron
from jsnn.online.cells import answers_at_once, detached, is_silent, leak_of, leaky, variables_of
from jsnn.online.parts import Taught, described, observed, split, teach
from jsnn.online.probes import Probes
from jsnn.online.rules import Rule, as_rule
from jsnn.online.targets import check_batch
from jsnn.program import flatten, trace
from jsnn.types import Array, Neuron

Kept: TypeAlias = Literal["factorised", "full", "nothing"]


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
    """The positions of what the current is made of, among the arrays of `Between.data`."""
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
    """The last layer, if its output is the network's, or only leaks and is all that the network's is made of."""
    readout_weights: tuple[int, ...]
    """The positions of the parameters that lead to the outputs without a neuron after them."""
    filtered: bool
    """Whether the traces of hidden layers pass through the readout's membrane."""

    def __str__(self) -> str:
        rows = [f"{layer.name}: {layer.kept}, {layer.floats:,} floats" for layer in self.layers]
        return f"{self.rule.name}: " + "; ".join(rows)


@checked
def make_plan(network: Any, x: Any, rule: str | Rule) -> Plan:
    """Return what a rule does with a network, for inputs of one step as `x`.

    Raises:
        TypeError: if an argument is of another type.
        ValueError: if the rule does not fit a layer or a neuron (it is named, with the rules that do), if there is
            nothing to train, or the network is one that changes itself.
    """
    check_is_neuron("make_plan", network)
    rule, x = as_rule(rule), jax.tree.map(described, x)
    check_batch(x)
    _refuse_training_mode(network)
    parts = split(network)
    if not parts.params:
        raise ValueError("the network has nothing to train: its weights must be nnx.Param")
    step = observed(network, None, x)
    seen = step.cells
    if not seen:
        raise ValueError("the network has no neurons: train it by jax.grad")
    spikes = {name: cell[3] for name, cell in seen.items()}
    data = x, spikes, step.memories
    structure: Any
    leaves, structure = jax.tree.flatten(data)

    def taught(params: list[Array], leaves: list[Array]) -> Taught:
        return teach(parts.network(params), *structure.unflatten(leaves))

    jaxpr, shape = trace(taught, list(map(described, parts.params)), leaves)
    program, numbered = flatten(jaxpr), iter(range(10**9))
    places = jax.tree.map(lambda _: next(numbered), shape)
    count = len(parts.params)

    def leads_to(outputs: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        atoms = [program.outputs[place] for place in jax.tree.leaves(outputs)]
        used = {atom for index in program.needed_for(atoms) for atom in program.operations[index].inputs} | set(atoms)
        found = [index for index, atom in enumerate(program.inputs) if atom in used]
        return tuple(i for i in found if i < count), tuple(i - count for i in found if i >= count)

    spike_places = {name: place for place, name in enumerate(sorted(spikes), len(jax.tree.leaves(x)))}
    same: dict[Any, Any] = {}  # values that are another one, with a name
    for operation in program.operations:
        if operation.name == "name":
            same[operation.outputs[0]] = same.get(operation.inputs[0], operation.inputs[0])
    found = [program.outputs[place] for place in jax.tree.leaves(places.outputs)]
    outputs = [same.get(atom, atom) for atom in found]
    made_of = leads_to(places.outputs)[1]
    readout = None
    for name, place in spike_places.items():
        is_output = outputs == [program.inputs[count + place]]
        if is_output or (made_of == (place,) and is_silent(*seen[name][:3])):
            readout = name
    probes = Probes(parts, structure, leaves)
    filtered = False
    if rule.readout_memory and readout is not None and len(seen) > 1:
        neuron, state, current, _ = seen[readout]
        filtered = is_silent(neuron, state, current) and leak_of(neuron, current) is not None
    layers = []
    for name, (neuron, state, current, _) in seen.items():
        if len(current.shape) < 2:
            raise ValueError(
                f"inputs must be [T, B, ...], and [B, ...] at a step, got {jax.tree.map(jnp.shape, x)} at a step, of "
                f"which layer {name} gets a current of shape {current.shape}: give an example alone a batch of 1, "
                f"inputs[:, None]"
            )
        weights, sources = leads_to(places.currents[name])
        own = tuple(
            i for i, place in enumerate(places.neurons[name]) if leads_to(place)[0] and _is_floating(shape, name, i)
        )
        given = leads_to(places.neurons[name])[1]
        if given and (own or given[-1] >= len(jax.tree.leaves(x))):
            raise ValueError(
                f"{name}: the parameters of {type(neuron).__name__} change with the inputs or other neurons, and "
                f"no gradient leads that way: make them nnx.Params of the neuron, or take jax.grad through jsnn.unroll"
            )
        probes.of(name, weights, sources)
        leak = leak_of(for_traces(rule, neuron), current) if rule.traces != "none" else None
        through_readout = filtered and name != readout
        kept: Kept = "nothing"
        if rule.traces == "leaky" and leak is None:
            kind = type(neuron).__name__
            why = f"the state of {kind} has no constant leak, or its spikes are not of a field `surrogate`"
            raise ValueError(_does_not_fit(rule, name, why))
        if leak is not None and not through_readout and (rule.traces == "leaky" or probes.is_affine):
            kept = "factorised"
        elif rule.traces != "none":
            kept = "full"
            for index in sorted(probes.mixing):
                why = f"a number of {parts.names[index]} does not lead to one channel of its neurons alone"
                raise ValueError(_does_not_fit(rule, name, why))
            if {*weights} - probes.outer.keys() and not probes.is_by_example(name, sources):
                why = (
                    "the current of an example alone, in a batch of 1, is not what it is among others: examples are "
                    "mixed, or a shape holds the size of the batch (write -1 for it)"
                )
                raise ValueError(_does_not_fit(rule, name, why))
        variables = len(variables_of(state))
        floats = 0
        if kept == "factorised":
            floats = variables * sum(math.prod(leaves[i].shape) for i in sources)
        elif kept == "full":
            places_of = math.prod(current.shape[:-1])
            floats = variables * places_of * sum(math.prod(parts.params[i].shape) for i in weights)
        if rule.traces in ("own", "detached"):
            floats += variables * math.prod(current.shape) * len(own)
        if through_readout:
            floats += floats // variables * len(variables_of(seen[readout or ""][1]))
        offset = tuple(i for i in weights if i in probes.with_offset)
        at_once = answers_at_once(neuron, state, current)
        layers.append(Layer(name, kept, floats, weights, sources, offset, probes.outer, own, at_once))
    if rule.signal != "space":
        _check_outputs(rule, shape.outputs)
    known = {*leads_to((places.currents, places.neurons, places.outputs))[0]}
    for name, place in places.remembered.items():
        for index in sorted({*leads_to(place)[0]} - known):
            raise ValueError(
                f"rule {rule.name!r} does not fit layer {name}: {parts.names[index]} leads into its delay, after which "
                f"no gradient leads back to it. Put the delay before the weights, as jsnn.DelayedLinear does, or take "
                f"jax.grad through jsnn.unroll"
            )
    return Plan(rule, tuple(layers), readout, leads_to(places.outputs)[0], filtered)


def for_traces(rule: Rule, neuron: Neuron) -> Neuron:
    """Return the neuron whose derivatives a rule takes: itself, or without what the rule neglects."""
    return {"own": lambda n: n, "none": lambda n: n, "detached": detached, "leaky": leaky}[rule.traces](neuron)


def _does_not_fit(rule: Rule, name: str, why: str) -> str:
    others = {"leaky": "rtrl, eprop or sltt"}.get(rule.traces, "ottt, sltt or decolle")
    return f"rule {rule.name!r} does not fit layer {name}: {why}. Take {others}, or jax.grad through jsnn.unroll"


def _check_outputs(rule: Rule, outputs: Any) -> None:
    if not hasattr(outputs, "shape") or outputs.ndim != 2:
        found = jax.tree.map(jnp.shape, outputs)
        raise ValueError(f"rule {rule.name!r} takes a network with one output [B, N], got {found}")


def _is_floating(shape: Taught, name: str, index: int) -> bool:
    array = shape.neurons[name][index]
    return array is not None and jnp.issubdtype(array.dtype, jnp.floating)


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
