"""Makes a network of ours of a NIR graph."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from jsnn.files import one_line
from jsnn.layers import Layer, Recurrent, Sequential, flatten
from jsnn.neurons.base import Discretization
from jsnn.nir.file import Edge, Flat, read
from jsnn.nir.graph import INPUT, OUTPUT, Graph, arrange, check_cycles, check_edges
from jsnn.nir.library import NIRError, check_dt
from jsnn.nir.neurons import is_hardly_driven
from jsnn.nir.nodes import NEURONS, Settings, flatten_channels_first, flatten_into, layer_of
from jsnn.quant import aware
from jsnn.types import Neuron, Shape


def from_nir(graph: Any, dt: float, *, discretization: Discretization = "euler", **neuron: Any) -> Neuron:
    """Return the network of a graph of the neuromorphic intermediate representation.

    A chain of nodes becomes a `Sequential`, a neuron whose spikes lead back to it through layers without memory a
    `Recurrent` in it, and any other graph a `Graph`. Over an edge that closes a cycle goes what was put out in the
    step before. Inputs and outputs have their channels last.

    Args:
        graph: a `nir.NIRGraph`, or the path of a file.
        dt: the length of a step, in s. A file does not say for which it was written.
        discretization: how the equations are solved, as in `jsnn.LIF.from_time_constants`: `"euler"`, as Norse,
            snnTorch and SpikingJelly do, or `"exact"`.
        neuron: further parameters of all neurons that spike, which go before what the graph says, such as `surrogate`,
            or `reset="subtract", reset_delay=True` for what snnTorch's defaults are and its files do not tell.

    Returns:
        a Neuron. Its weights can be trained.

    Warns:
        UserWarning: if neurons are so far from their threshold that the graph was probably written for another `dt`.

    Raises:
        NIRError: if the file is corrupt or of an unknown version, a node of a type that is not known, a parameter
            out of its range, a shape wrong, or a cycle without delay and state; it names the node.
        FileNotFoundError: if there is no such file.
        ImportError: if the package nir is not installed.

    Source: Pedersen et al., "Neuromorphic intermediate representation" (2024).

    Examples:
        >>> import jax.numpy as jnp, nir, numpy as np, jsnn
        >>> lif = nir.LIF(tau=np.full(1, 2e-3), r=np.ones(1), v_leak=np.zeros(1), v_threshold=np.ones(1))
        >>> network = jsnn.nir.from_nir(nir.NIRGraph.from_list(nir.Linear(np.ones((1, 2))), lif), dt=1e-3)
        >>> jsnn.unroll(network, jnp.full((2,), 0.75), num_steps=4)[1].ravel().tolist()
        [0.0, 1.0, 0.0, 1.0]
    """
    check_dt(dt)
    if not isinstance(discretization, str) or discretization not in ("exact", "euler"):
        raise ValueError(f"discretization must be 'exact' or 'euler', got {discretization!r}")
    flat = read(graph)
    stateful = [name for name, node in flat.nodes.items() if type(node).__name__ in (*NEURONS, "Delay")]
    try:
        check_edges(flat.nodes, flat.edges)
        check_cycles(flat.edges, stateful)
    except ValueError as error:
        raise NIRError(f"the graph cannot be run: {error}") from error
    layers = _layers(flat, Settings(dt, discretization, neuron))
    if faint := [name for name, layer in layers.items() if is_hardly_driven(layer)]:
        warnings.warn(
            f"an input of 1 moves the membranes of {', '.join(faint)} less than a thousandth of the way to their "
            f"threshold in a step of dt = {dt} s. A file does not say its dt: Sinabs writes for dt=1.0, and others for "
            f"their own, see docs/nir.md",
            stacklevel=2,
        )
    network = _assembled(layers, flat.edges)
    if "weights" not in flat.metadata or type(network) is not Sequential:
        return network
    try:
        return aware(network, **{key: np.asarray(value).item() for key, value in flat.metadata.items()})
    except (TypeError, ValueError) as error:
        raise NIRError(f"the graph says that it is rounded, which it cannot be: {error}") from error


def _layers(flat: Flat, settings: Settings) -> dict[str, Layer]:
    """Return the layer of each node, in the order in which they run."""
    shapes = [flat.input_shape, flat.input_shape[1:]]  # some libraries write the batch axis with the rest
    if len(flat.input_shape) > 3:
        shapes.reverse()
    if flat.output_shape is not None and flat.output_shape[:2] == flat.input_shape[:2]:
        shapes.append(flat.input_shape[2:])  # Rockpool writes batch and time, which both ends share
    errors: list[NIRError] = []
    for shape in filter(None, shapes):
        try:
            return _layers_for(flat, shape, settings)
        except NIRError as error:
            errors.append(error)
    raise errors[0]


def _layers_for(flat: Flat, shape: Shape, settings: Settings) -> dict[str, Layer]:
    order, late = arrange(flat.edges)
    layers: dict[str, Layer] = {}
    shapes = {INPUT: shape}
    flattened: dict[str, Shape] = {}  # what a node that flattens an image takes
    for name in order:
        sources = [source for source, target in flat.edges if target == name and (source, target) not in late]
        arriving = {shapes[source] for source in sources}
        if len(arriving) > 1:
            raise NIRError(f"what leads to {name!r} must be of one shape, got {sorted(arriving)}")
        if name == OUTPUT:
            (shapes[OUTPUT],) = arriving
        elif name != INPUT:
            (taken,) = arriving
            try:
                layers[name], shapes[name] = layer_of(flat.nodes[name], taken, settings)
            except Exception as error:  # a node may hold anything
                raise NIRError(f"node {name!r} ({type(flat.nodes[name]).__name__}): {one_line(error)}") from error
            if layers[name] is flatten_channels_first:
                flattened[name] = taken
    for source, target in late:
        taken = shapes[next(source for source, other in flat.edges if other == target and (source, other) not in late)]
        if shapes[source] != taken:
            raise NIRError(f"{source!r} leads back to {target!r} with shape {shapes[source]}, which takes {taken}")
    said = flat.output_shape
    before = 0 if said is None else len(said) - len(shapes[OUTPUT])  # axes of batch and time
    if said is not None and not (0 <= before <= 2 and said[before:] == shapes[OUTPUT]):
        raise NIRError(f"the output must be of shape {shapes[OUTPUT]}, the graph says {flat.output_shape}")
    for name, taken in flattened.items():
        after = [target for source, target in flat.edges if source == name]
        dense = layers.get(after[0])
        if (
            len(after) == 1
            and isinstance(dense, nnx.Linear)
            and sum(target == after[0] for _, target in flat.edges) == 1
        ):
            layers[name], layers[after[0]] = flatten, flatten_into(dense, taken)
    return layers


def _assembled(layers: dict[str, Layer], edges: list[Edge]) -> Neuron:
    """Return the layers as a chain if they are one, and loops around one neuron as `Recurrent`."""
    for name in list(layers):
        loop = _loop(name, layers, edges)
        if loop is not None:
            synapse = [layers.pop(part) for part in loop]
            edges = [edge for edge in edges if not {name, *loop} >= set(edge)]
            layers[name] = Recurrent(layers[name], _composed(synapse))  # type: ignore[arg-type]
    if len(edges) == len(layers) + 1 and len({source for source, _ in edges}) == len(edges):
        following = dict(edges)
        chain, name = [], following[INPUT]
        while name != OUTPUT:
            chain.append(layers[name])
            name = following[name]
        return Sequential(*chain) if chain else Graph({}, edges)
    return Graph(layers, edges)


def _loop(name: str, layers: dict[str, Layer], edges: list[Edge]) -> list[str] | None:
    """Return the layers without memory on the only way from a neuron back to itself, if they have no other end."""
    if not isinstance(layers.get(name), Neuron):
        return None
    loops: list[list[str]] = []
    for start in (target for source, target in edges if source == name):
        way = [start]
        while way[-1] != name and way[-1] in layers and not isinstance(layers[way[-1]], Neuron):
            ahead = [target for source, target in edges if source == way[-1]]
            before = [source for source, target in edges if target == way[-1]]
            if len(ahead) != 1 or len(before) != 1:
                break
            way.append(ahead[0])
        if way[-1] == name:
            loops.append(way[:-1])
    return loops[0] if len(loops) == 1 else None


def _composed(layers: list[Any]) -> Callable[[jax.Array], jax.Array]:
    """Return one layer for several, one after another."""
    return layers[0] if len(layers) == 1 else nnx.Sequential(*layers)
