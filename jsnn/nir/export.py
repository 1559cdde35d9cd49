"""Writes a network of ours as a NIR graph."""

import functools
import itertools
import warnings
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.conversion.function import CURE, TRAINING
from jsnn.conversion.network import Converted
from jsnn.conversion.place import Filtered
from jsnn.delays import Delay, Delayed
from jsnn.filters import Lowpass
from jsnn.layers import Layer, Recurrent, Sequential
from jsnn.network import Network
from jsnn.neurons.base import Discretization
from jsnn.neurons.pytree import within_ranges
from jsnn.nir.graph import INPUT, OUTPUT, Graph
from jsnn.nir.layers import Threshold
from jsnn.nir.library import NIRError, channels_first, check_dt, check_shape, library
from jsnn.nir.maps import Map, Value, arrange, name_of, nodes_of, typed
from jsnn.nir.network import write_filtered, write_network
from jsnn.nir.neurons import METADATA, Description, describe, number, output_factor
from jsnn.nir.trace import Symbol, follow
from jsnn.program import flatten, read
from jsnn.quant.exchange import dequantized, scales_of
from jsnn.quant.training import Quantized
from jsnn.quant.twins import Integers
from jsnn.types import Array, Neuron, Shape


def to_nir(network: Layer, shape: Shape, dt: float, *, discretization: Discretization = "euler") -> Any:
    """Return a network as a graph of the neuromorphic intermediate representation; `nir.write(path, graph)` saves it.

    Layers without memory are written by what they compute, whatever they are called: matrix products, convolutions,
    sums and means over windows, flattening, scales; a bias or a batch normalisation after them joins their weights.
    Images are turned to channels first, and the weights after a flattened one with them.

    NIR's neurons reset to a value. What else ours do (reset by subtraction, late, or not at all; several spikes in a
    step) is kept in the metadata of the node, under `"jsnn"`, which only `from_nir` reads: a warning names the nodes.
    Surrogate gradients are not written, nor is which parameters are trained.

    Of a network that `jsnn.quant.aware` has made, the rounded weights and parameters are written. The scales of the
    weights are in the metadata of their nodes, and what it was made with in that of the input: of a chain `from_nir`
    returns a rounded network, with the same integers; of another graph one that is not rounded.

    Args:
        network: a `Network`, `Sequential`, `Recurrent` or `Graph`, one made by `jsnn.convert`, or a neuron or function
            alone.
        shape: that of its input at one time step, without a batch axis: `(N,)`, `(L, C)` or `(H, W, C)`.
        dt: the length of a step, in s, with which time constants are computed from decays.
        discretization: how the graph's equations are going to be solved: tau = dt / (1 - decay) for `"euler"`, which
            Norse, snnTorch and SpikingJelly take, tau = -dt / ln(decay) for `"exact"`.

    Returns:
        a `nir.NIRGraph`, flat, with one input and one output. Nodes have the names of the layers.

    Raises:
        NIRError: if NIR has no node for something, a number is not finite, or the network is in training mode; it
            names the layer.
        TypeError: if `shape` is not a tuple.
        ImportError: if the package nir is not installed.

    Source: Pedersen et al., "Neuromorphic intermediate representation" (2024).

    Examples:
        >>> import jsnn
        >>> from flax import nnx
        >>> layers = nnx.Linear(3, 2, use_bias=False, rngs=nnx.Rngs(0)), jsnn.LIF(0.9, reset="zero")
        >>> graph = jsnn.nir.to_nir(jsnn.Sequential(*layers), (3,), dt=1e-3)
        >>> graph.edges
        [('input', '0_Linear'), ('0_Linear', '1_LIF'), ('1_LIF', 'output')]
        >>> graph.nodes["1_LIF"].tau.round(4).tolist(), graph.nodes["1_LIF"].r.round(4).tolist()
        ([0.01, 0.01], [10.0, 10.0])
    """
    if isinstance(network, Quantized):
        return _with_scales(to_nir(dequantized(network), shape, dt, discretization=discretization), network)
    nir, shape = library(), check_shape(shape)
    check_dt(dt)
    if not isinstance(discretization, str) or discretization not in ("exact", "euler"):
        raise ValueError(f"discretization must be 'exact' or 'euler', got {discretization!r}")
    writer = _Writer(dt, discretization)
    names = {INPUT: typed(nir.Input(input_type=np.array(channels_first(shape))), shape, shape)}
    outputs = writer.write(writer.layer("", within_ranges(network), Value((INPUT,), shape)))
    if outputs.order is not None:
        raise NIRError("the output is a flattened image, whose order is another in NIR: leave the flattening out")
    edges = [*writer.edges, *((source, OUTPUT) for source in outputs.sources)]
    names |= writer.nodes
    names[OUTPUT] = typed(nir.Output(output_type=np.array(channels_first(outputs.shape))), outputs.shape, outputs.shape)
    if writer.special:
        warnings.warn(
            f"NIR's neurons reset to a value. What differs in {', '.join(writer.special)} is written as metadata, "
            f"which only jsnn reads: other libraries are going to reset them to v_reset",
            stacklevel=2,
        )
    return nir.NIRGraph(nodes=names, edges=edges, type_check=False)


def _with_scales(graph: Any, network: Quantized) -> Any:
    """Return a graph with what a rounded network was made with, and the scales of its weights, in the metadata."""
    graph.nodes[INPUT].metadata[METADATA] = dict(network.options)
    for label, scale in scales_of(network).items():
        if label in graph.nodes:
            graph.nodes[label].metadata[METADATA] = {"scale": scale}
    return graph


class _Writer:
    """Takes down nodes and edges."""

    def __init__(self, dt: float, discretization: Discretization) -> None:
        self.dt, self.discretization = dt, discretization
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.special: list[str] = []  # neurons that do what NIR does not know
        self.label = ""  # the layer at work, which its nodes are named after
        self.written: dict[int, tuple[Map, Value]] = {}  # by identity, so that what two layers take is written once

    def add(self, node: Any, x: Value, shape: Shape, order: np.ndarray | None = None) -> Value:
        """Return a node after a value, and what it puts out."""
        base = self.label.replace("/", ".") or type(node).__name__.lower()  # a file takes / for a folder
        names = itertools.chain([base], (f"{base}_{number}" for number in itertools.count(1)))
        name = next(name for name in names if name not in {INPUT, OUTPUT, *self.nodes})
        for field, value in vars(node).items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
                raise NIRError(f"{name}: {field} must be finite, got {value[~np.isfinite(value)][0]}")
        self.nodes[name] = typed(node, x.shape, shape)
        self.edges += [(source, name) for source in x.sources]
        return Value((name,), shape, order)

    def write(self, symbol: Symbol) -> Value:
        """Return the nodes of a map."""
        if isinstance(symbol, Value):
            return symbol
        if id(symbol) in self.written:
            return self.written[id(symbol)][1]
        value, label = symbol.x, self.label
        self.label = symbol.label or label
        try:
            nodes = nodes_of(symbol)
        except NIRError as error:
            raise NIRError(f"{symbol.label or f'what comes after {name_of(symbol)}'}: {error}") from error
        for node, shape in nodes:
            value = self.add(node, value, shape, value.order if symbol.layer is None else None)
        self.label, self.written[id(symbol)] = label, (symbol, value)
        return value

    def total(self, first: Value, second: Value) -> Value:
        """Return the sum of two values: what both lead to has edges from both."""
        if first.shape != second.shape or not _same_order(first, second):
            raise NIRError(
                f"a sum of values of shapes {first.shape} and {second.shape} cannot be written"
                f"{_of_order(first, second)}"
            )
        if set(first.sources) & set(second.sources):  # no edge can be there twice
            second = self.scale(second, np.ones(()))
        return first._replace(sources=first.sources + second.sources)

    def scale(self, x: Value, factor: np.ndarray) -> Value:
        """Return a node that multiplies, even if by 1."""
        return self.add(
            library().Scale(scale=arrange(factor, x.shape, x.order).astype(np.float32)), x, x.shape, x.order
        )

    def flatten(self, x: Value, shape: Shape, order: np.ndarray | None, axes: tuple[int, int] = (0, -1)) -> Value:
        """Return some axes in one, by default all; a vector only changes its order."""
        if len(x.shape) == 1:
            return Value(x.sources, shape, order)
        node = library().Flatten(input_type=np.array(channels_first(x.shape)), start_dim=axes[0], end_dim=axes[1])
        return self.add(node, x, shape, order)

    def layer(self, label: str, layer: Layer, x: Symbol) -> Symbol:
        """Return the nodes of any layer; errors name it."""
        networks: dict[type, Callable[[str, Any, Symbol], Symbol]] = {
            Sequential: self.sequential,
            Recurrent: self.recurrent,
            Graph: self.graph,
            Converted: functools.partial(write_network, self),
            Network: functools.partial(write_network, self),
            Filtered: functools.partial(write_filtered, self),
        }
        if isinstance(layer, Quantized | Integers):
            raise NIRError(
                f"{label or 'the network'} is {type(layer).__name__}: give to_nir the whole network that "
                f"jsnn.quant.aware returned, whose graph holds the integers of its twin"
            )
        if type(layer) in networks:
            return networks[type(layer)](label, layer, x)
        self.label = label
        value = self.write(x) if isinstance(layer, Neuron | Threshold) else None
        try:
            return self.neuron(layer, value) if value is not None else self.function(cast(Any, layer), x)
        except TRAINING as error:
            raise NIRError(f"{label or type(layer).__name__} is in training mode ({error}): {CURE}") from error
        except (TypeError, ValueError) as error:
            raise NIRError(f"{label or type(layer).__name__} cannot be written as NIR: {error}") from error

    def neuron(self, neuron: Any, x: Value) -> Symbol:
        """Return the node of a neuron or filter, and what comes after it."""
        nir = library()
        if isinstance(neuron, Threshold):
            return self.add(nir.Threshold(arrange(number(neuron.threshold), x.shape, x.order)), x, x.shape, x.order)
        if isinstance(neuron, Delay):
            delay = number(neuron.steps) * self.dt
            return self.add(nir.Delay(arrange(delay, x.shape, x.order)), x, x.shape, x.order)
        if isinstance(neuron, Delayed):
            raise ValueError(
                "NIR has no node with a delay for each synapse: write a jsnn.Delay, one for each neuron, and a layer "
                "without delays"
            )
        value = self.described(describe(neuron, self.dt, self.discretization), x)
        if isinstance(neuron, Lowpass) and neuron.delay:
            return self.neuron(Delay(1), value)
        factor = output_factor(neuron)
        return value if np.all(factor == 1) else Map(None, value, value.shape, factor, label=self.label)

    def described(self, description: Description, x: Value) -> Value:
        """Return the node of a neuron described."""
        metadata = dict(description.metadata)
        parameters = {name: arrange(value, x.shape, x.order) for name, value in description.parameters.items()}
        if "v_init" in metadata:
            start = metadata["v_init"]
            metadata["v_init"] = arrange(start, x.shape, x.order) if start.ndim else float(start)
        node = getattr(library(), description.kind)(**parameters, metadata={METADATA: metadata} if metadata else {})
        value = self.add(node, x, x.shape, x.order)
        if metadata:
            self.special += value.sources
        return value

    def function(self, layer: Callable[[Array], Array], x: Symbol) -> Symbol:
        """Return the nodes of a layer without memory."""
        program = flatten(jax.make_jaxpr(layer)(jax.ShapeDtypeStruct((1, *x.shape), jnp.float32)))
        values: dict[int, Any] = {program.inputs[0]: x}
        follow(self, program, values)
        y = read(values, program.outputs[0])
        return y._replace(label=y.label or self.label) if isinstance(y, Map) else y

    def sequential(self, label: str, network: Sequential, x: Symbol) -> Symbol:
        for name, layer in zip(network.names, network.layers):
            x = self.layer(f"{label}.{name}" if label else name, layer, x)
        return x

    def recurrent(self, label: str, network: Recurrent, x: Symbol) -> Symbol:
        prefix = f"{label}." if label else ""
        back = _Back(self, self.write(x))
        outputs = self.write(self.layer(f"{prefix}neuron", network.neuron, back.value))
        if back.ticket in outputs.sources:
            raise NIRError(
                f"{prefix}neuron hands on its input beside its neurons, and NIR has no cycle without a neuron: put the "
                f"skip connection around the Recurrent"
            )
        spikes: Symbol = outputs
        if network.longest != 1:  # the first step is that of the edge which closes a cycle
            spikes = self.layer(f"{prefix}delay", Delay(jnp.asarray(number(network.delay) - 1)), outputs)
        back.close(self.write(self.layer(f"{prefix}synapse", network.synapse, spikes)))
        return outputs

    def graph(self, label: str, network: Graph, x: Symbol) -> Symbol:
        values = {INPUT: self.write(x)}
        layer_of: dict[str, str] = {}  # which layer of this graph each of its nodes belongs to
        waiting: list[tuple[str, _Back]] = []

        def arriving(name: str) -> Value:
            value = functools.reduce(self.total, (values[source] for source in network.sources(name)))
            for source, target in network.late:
                if target == name:
                    waiting.append((source, _Back(self, value)))
                    value = waiting[-1][1].value
            return value

        for name, layer in zip(network.names, network.layers):
            full, before = f"{label}.{name}" if label else name, set(self.nodes)
            taken = arriving(name)
            values[name] = self.write(self.layer(full, layer, taken))
            if network.late and values[name].sources == taken.sources:  # so that each layer has a node of its own
                values[name] = self.scale(values[name], np.ones(()))
            layer_of |= {node: name for node in self.nodes if node not in before}
        outputs = arriving(OUTPUT)
        for source, back in waiting:
            back.close(values[source])
        if network.late:  # which edge closes a cycle depends on the order of the edges
            made = {node: name for name, value in values.items() for node in value.sources}
            place = {edge: index for index, edge in enumerate(network.edges)}
            self.edges.sort(key=lambda edge: place.get((made.get(edge[0], ""), layer_of.get(edge[1], "")), -1))
        return outputs


class _Back:
    """An edge that leads back, from a node that is not there yet."""

    def __init__(self, writer: _Writer, x: Value) -> None:
        self.writer, self.x = writer, x
        self.ticket = f"?{id(self)}"
        self.value = x._replace(sources=(*x.sources, self.ticket))

    def close(self, value: Value) -> None:
        """Return the error with the name of the layer that it comes from."""
        if value.shape != self.x.shape or not _same_order(value, self.x):
            raise NIRError(
                f"what leads back must be of the shape {self.x.shape} that it leads to, got {value.shape}"
                f"{_of_order(value, self.x)}"
            )
        edges: list[tuple[str, str]] = []
        for source, target in self.writer.edges:
            edges += [(source, target)] if source != self.ticket else [(name, target) for name in value.sources]
        self.writer.edges = list(dict.fromkeys(edges))


def _same_order(first: Value, second: Value) -> bool:
    if first.order is None or second.order is None:
        return first.order is second.order
    return np.array_equal(first.order, second.order)


def _of_order(first: Value, second: Value) -> str:
    """Return what is wrong with two values of one shape, and the cure, as the end of an error."""
    if first.shape != second.shape:
        return ""
    return ": one is a flattened image, whose order is another in NIR: put a layer with weights after the flattening"
