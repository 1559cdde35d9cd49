"""What lies between neurons, in NIR's words: dense layers, convolutions, pooling and scales, channels first.

Dense layers, convolutions and pooling are written once it is known by what they are scaled and shifted: a bias and a
batch normalisation after them become part of their weights.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jsnn.nir.library import NIRError, channels_first, library
from jsnn.types import Shape


class Value(NamedTuple):
    """What one layer hands to the next."""

    sources: tuple[str, ...]
    """The nodes whose outputs add up to it."""
    shape: Shape
    """Ours, without a batch axis: (N,), (L, C) or (H, W, C)."""
    order: np.ndarray | None = None
    """Of a vector: theirs[i] = ours[order[i]]."""


class Dense(NamedTuple):
    """A matrix product."""

    kernel: np.ndarray
    """[inputs, outputs]."""


class Convolution(NamedTuple):
    """A convolution."""

    kernel: np.ndarray
    """[outputs, inputs / groups, *window]."""
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int


class Pool(NamedTuple):
    """Sums over windows."""

    window: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


Layer: TypeAlias = Dense | Convolution | Pool | None


class Map(NamedTuple):
    """A layer that is not written yet: scale * layer(x) + shift, elementwise where there is no layer."""

    layer: Layer
    x: Value
    shape: Shape
    scale: np.ndarray = np.ones(())
    shift: np.ndarray | None = None
    label: str = ""
    """What its node is named after."""

    def times(self, factor: np.ndarray) -> "Map":
        """Return the map, and a multiplication after it."""
        return self._replace(
            scale=self.scale * factor, shift=None if self.shift is None else np.asarray(self.shift * factor)
        )

    def plus(self, term: np.ndarray) -> "Map":
        """Return the map, and an addition after it."""
        return self._replace(shift=np.asarray(term if self.shift is None else self.shift + term))


def name_of(symbol: Value | Map) -> str:
    """Return what an error calls a value: the layer that made it, or the nodes that add up to it."""
    if isinstance(symbol, Map):
        return symbol.label or name_of(symbol.x)
    return " + ".join(source for source in symbol.sources if not source.startswith("?"))


def arrange(values: np.ndarray, shape: Shape, order: np.ndarray | None = None) -> np.ndarray:
    """Return values that broadcast against our `shape`, one for each neuron, channels first."""
    values = np.broadcast_to(values, shape)
    return np.ascontiguousarray(np.moveaxis(values, -1, 0) if order is None else values[order])


def nodes_of(step: Map) -> list[tuple[Any, Shape]]:
    """Return the nodes that a map is, one after the other, each with the shape of its output.

    If it changes nothing, there are none.

    Raises:
        NIRError: if NIR cannot say it.
    """
    nir, layer, x = library(), step.layer, step.x
    scale, shift = np.asarray(step.scale, np.float64), step.shift
    if isinstance(layer, Dense):
        weight = (layer.kernel * np.broadcast_to(scale, step.shape)).T.astype(layer.kernel.dtype)
        weight = np.ascontiguousarray(weight if x.order is None else weight[:, x.order])
        if shift is None:
            return [(nir.Linear(weight=weight), step.shape)]
        bias = np.broadcast_to(shift, step.shape).astype(weight.dtype)
        return [(nir.Affine(weight=weight, bias=bias), step.shape)]
    if isinstance(layer, Convolution):
        of_channel = _of_channels("scale", scale, step.shape).reshape(-1, *(1,) * (layer.kernel.ndim - 1))
        bias = _of_channels("shift", np.zeros(()) if shift is None else shift, step.shape)
        dtype = layer.kernel.dtype
        return [(_convolution(layer, (layer.kernel * of_channel).astype(dtype), bias.astype(dtype), x), step.shape)]
    if shift is not None and np.any(shift != 0):
        raise NIRError(
            "a constant is added where no weights come before, to which it could be the bias: add it, or put the "
            "normalisation, after a dense layer or a convolution"
        )
    nodes: list[tuple[Any, Shape]] = []
    if isinstance(layer, Pool):
        mean = bool(np.allclose(scale * np.prod(layer.window), 1))
        pool = (nir.AvgPool2d if mean else nir.SumPool2d)(*map(np.array, layer))
        scale = np.ones(()) if mean else scale
        nodes.append((pool, step.shape))
    if np.any(scale != 1):
        order = x.order if layer is None else None
        nodes.append((nir.Scale(scale=arrange(scale, step.shape, order).astype(np.float32)), step.shape))
    return nodes


def _convolution(layer: Convolution, weight: np.ndarray, bias: np.ndarray, x: Value) -> Any:
    nir = library()
    common = {"weight": np.ascontiguousarray(weight), "groups": layer.groups, "bias": np.ascontiguousarray(bias)}
    if len(x.shape) == 3:
        return nir.Conv2d(
            input_shape=x.shape[:-1], stride=layer.stride, padding=layer.padding, dilation=layer.dilation, **common
        )
    padding = layer.padding if isinstance(layer.padding, str) else layer.padding[0]
    return nir.Conv1d(
        input_shape=x.shape[0], stride=layer.stride[0], padding=padding, dilation=layer.dilation[0], **common
    )


def _of_channels(name: str, values: np.ndarray, shape: Shape) -> np.ndarray:
    """Return one value for each channel, of values that broadcast against the output of a convolution."""
    of_channel = np.broadcast_to(values, shape).reshape(-1, shape[-1])
    if np.any(of_channel != of_channel[0]):
        raise NIRError(f"the {name} after a convolution must be the same at all places, one value for each channel")
    return of_channel[0]


def typed(node: Any, inputs: Shape, outputs: Shape) -> Any:
    """Return a node with the types it has.

    The package nir infers wrong ones for windows that are not square, and for groups.
    """
    node.input_type = {"input": np.array(channels_first(inputs))}
    node.output_type = {"output": np.array(channels_first(outputs))}
    return node
