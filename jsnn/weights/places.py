"""The parts of a network that weights can be put into."""

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.array_arguments import is_neuron
from jsnn.compat.norse_neurons import NoAutapses
from jsnn.compat.snntorch_neurons import OneToOne
from jsnn.delays import Delayed
from jsnn.layers import Recurrent, Sequential
from jsnn.network import Network, parts_of
from jsnn.neurons.calling import dotted
from jsnn.program import Atom, Program, shape_of
from jsnn.tracing import Traced, trace_network
from jsnn.types import Neuron, Shape, as_shape
from jsnn.weights.files import WeightsError

Kind: TypeAlias = Literal["layer", "synapse", "norm", "neuron"]

_WEIGHTED = (nnx.Linear, nnx.Conv, nnx.ConvTranspose, NoAutapses, OneToOne)
_NORMS = (nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm, nnx.PReLU)
_REWRITTEN = ("convert_element_type", "rev", "transpose")  # what is done to a kernel before it is used
_TAKEN = (
    f"they fill layers that are called, of the kinds {', '.join(part.__name__ for part in (*_WEIGHTED, *_NORMS))}, and "
    f"neurons; give other weights a network of these, or set them by hand, outside of it"
)
SLOTS = ("kernel", "V", "scale", "bias", "mean", "var", "negative_slope", "initial_level", "tau")  # in Keras' order


class Place(NamedTuple):
    """A part of a network that has parameters."""

    kind: Kind
    name: str
    part: Any
    shape: Shape
    """Of its input, without the batch axis."""
    image: Shape | None
    """Whose flattening that input is, (H, W, C)."""

    @property
    def slots(self) -> list[str]:
        """The names of the arrays that a layer or a trained filter has."""
        return [slot for slot in SLOTS if isinstance(getattr(self.part, slot, None), nnx.Variable)]


def places(network: Any, shape: Shape) -> list[Place]:
    """Return where weights can go, in order, found by following the shapes through the network.

    A layer that a chain has several times comes as often: PyTorch's `state_dict` holds its arrays for each of them.
    """
    found: list[Place] = []
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(network)):
        raise TypeError("network has shapes and no weights, as by nnx.eval_shape: build it without")

    def visit_parts(name: str, network: Network, x: Any) -> None:
        """Visit the layers of a network of any shape, in the order in which its modules define them."""
        traced = trace_network(network, x, opens_all=True)
        producers = traced.program.producers()
        given = dict(_given(traced, producers))
        visited = []
        for path, part in parts_of(network, (*_WEIGHTED, *_NORMS, Neuron)):
            if isinstance(part, _NORMS):  # of channels, whatever the shape
                visit(f"{name}.{path}", part, jax.ShapeDtypeStruct((1, *_features(part)), x.dtype), None)
            elif path in given:
                image = _image_of(traced.program, producers, given[path])
                visit(f"{name}.{path}", part, traced.program.types[given[path]], image)
            else:
                continue
            visited.append(f"{path}.")
        for path in _trained(traced):
            if not path.startswith(tuple(visited)):
                raise TypeError(f"{name}.{path}".lstrip(".") + f" has no place in from_torch and from_keras: {_TAKEN}")

    def visit(name: str, layer: Any, x: Any, image: Shape | None, kind: Kind = "layer") -> tuple[Any, Shape | None]:
        if type(layer) is Network and isinstance(layer.function, Neuron):  # a network around a network
            return visit(name, layer.function, x, image, kind)
        if type(layer) is Network:
            visit_parts(name, layer, x)
            return _output(name, layer, x), None
        if isinstance(layer, Sequential | nnx.Sequential):
            for index, inner in enumerate(layer.layers):
                opened = Network(inner) if _is_opened(inner) else inner
                x, image = visit(f"{name}.layers[{index}]", opened, x, image)
            return x, image
        if isinstance(layer, Recurrent):
            visit(f"{name}.synapse", layer.synapse, x, image, "synapse")
        wrapped = {key: value for key, value in getattr(layer, "__dict__", {}).items() if is_neuron(value)}
        for key, value in wrapped.items():
            visit(f"{name}.{key}", value, x, image)
        if not wrapped:
            own = _kind(name, layer, kind)
            if own is not None:
                found.append(Place(own, name.lstrip("."), layer, x.shape[1:], image))
        y = _output(name, layer, x)
        if len(x.shape) > 2 and y.shape == (x.shape[0], int(np.prod(x.shape[1:]))):
            return y, x.shape[1:]
        return y, image if y.shape == x.shape and not isinstance(layer, nnx.Linear) else None

    if isinstance(network, type):
        raise TypeError(f"network must be a network, got the class {network.__name__}: make one")
    if not isinstance(network, nnx.Pytree):
        raise TypeError(f"network must be a network or a module of Flax, got {type(network).__name__}")
    visit("", network, jax.ShapeDtypeStruct((1, *as_shape(shape)), jnp.float32), None)
    return found


def once(places: list[Place]) -> list[Place]:
    """Return the places without those whose part has been there before."""
    return list({id(place.part): place for place in reversed(places)}.values())[::-1]


def _features(norm: Any) -> Shape:
    if isinstance(norm, nnx.PReLU):
        return norm.negative_slope.shape or (1,)
    sizes = (parameter.size for name in ("bias", "scale") if (parameter := getattr(norm, name, None)) is not None)
    return (next(sizes, None) or norm.num_features,)


def _trained(traced: Traced) -> Iterator[str]:
    """Return the paths of the parameters that the program uses."""
    program = traced.program
    used = {atom for operation in program.operations for atom in operation.inputs}
    for number, (path, variable) in zip(program.inputs, nnx.to_flat_state(traced.variables)):
        if number in used and isinstance(variable, nnx.Param):
            yield dotted(path)


def _given(traced: Traced, producers: dict[int, int]) -> Iterator[tuple[str, int]]:
    """Return the paths of neurons and of layers with weights, each with the value that it is given."""
    for call in traced.calls.values():
        yield call.name, jax.tree.leaves(call.x())[0]
    for operation in traced.program.operations:
        if operation.name in ("dot_general", "conv_general_dilated"):
            x, kernel = operation.inputs
            while kernel in producers and traced.program.operations[producers[kernel]].name in _REWRITTEN:
                (kernel,) = traced.program.operations[producers[kernel]].inputs
            if kernel in traced.owners:
                yield traced.owners[kernel], x  # type: ignore[misc]


def _image_of(program: Program, producers: dict[int, int], atom: Atom) -> Shape | None:
    """Return the image whose flattening a value is, `(H, W, C)`; None where it is not that of an image."""
    while isinstance(atom, int) and atom in producers:
        operation = program.operations[producers[atom]]
        before, after = shape_of(program, operation.inputs[0]), shape_of(program, atom)
        if len(after) == 2 and len(before) > 2 and math.prod(before[1:]) == after[1]:
            return before[1:]
        if before != after:
            return None
        atom = operation.inputs[0]
    return None


def _is_opened(layer: Any) -> bool:
    """Return whether a layer of a chain is a module of several parts, such as a convolution and its normalisation."""
    is_known = isinstance(layer, (*_WEIGHTED, *_NORMS, Neuron, nnx.Sequential))
    return isinstance(layer, nnx.Module) and not is_known and bool(parts_of(layer, (*_WEIGHTED, *_NORMS, Neuron)))


def _kind(name: str, layer: Any, kind: Kind) -> Kind | None:
    if isinstance(layer, _WEIGHTED):
        return kind
    if isinstance(layer, _NORMS):
        return "norm"
    if isinstance(layer, Network):  # such as a converted one
        raise TypeError(
            f"{name.lstrip('.') or 'the network'} is a {type(layer).__name__}, whose layers from_torch and from_keras "
            f"do not know: put the weights into the network that it was made of"
        )
    if isinstance(layer, Neuron) and not isinstance(layer, Delayed):
        return "neuron"
    if isinstance(layer, nnx.Module) and jax.tree.leaves(nnx.state(layer, nnx.Param)):
        known = ", ".join(part.__name__ for part in (*_WEIGHTED, *_NORMS))
        raise TypeError(
            f"{name.lstrip('.') or 'the network'} is a {type(layer).__name__}, which has weights but is not one of "
            f"{known}: build the network of these, in a Sequential or in a module of your own, jsnn.Network(module)"
        )
    return None


def _output(name: str, layer: Any, x: Any) -> Any:
    """Return the shape of what a layer makes of `x`."""

    def call(x: Any) -> Any:
        copy = nnx.clone(layer) if isinstance(layer, nnx.Module) else layer
        return copy.step(copy.init(x.shape, x.dtype), x)[1] if isinstance(copy, Neuron) else copy(x)

    try:
        return jax.eval_shape(call, x)
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"{name.lstrip('.') or 'the network'} cannot take an input of shape {x.shape[1:]}, is shape the network's? "
            f"{error}"
        ) from error
