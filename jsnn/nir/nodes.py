"""Our layers for the nodes of a NIR graph, and the shapes that they hand on."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.convolution import Conv
from jsnn.delays import Delay
from jsnn.layers import Layer, avg_pool, flatten
from jsnn.neurons.base import Discretization
from jsnn.nir.layers import Scale, Threshold
from jsnn.nir.library import NIRError, channels_last
from jsnn.nir.neurons import build, kept, simplified
from jsnn.types import Array, Shape

NEURONS = {
    "I": ("r",),
    "IF": ("r", "v_threshold", "v_reset"),
    "LI": ("tau", "r", "v_leak"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLI": ("tau_mem", "tau_syn", "r", "v_leak", "w_in"),
    "CubaLIF": ("tau_mem", "tau_syn", "r", "v_leak", "w_in", "v_threshold", "v_reset"),
}
_LONGEST = 10_000  # steps of a delay, each of which holds an array


class Settings(NamedTuple):
    """How equations become steps."""

    dt: float
    discretization: Discretization
    options: dict[str, Any]
    """For all neurons that spike."""


def layer_of(node: Any, shape: Shape, settings: Settings) -> tuple[Layer, Shape]:
    """Return the layer for a node that takes values of NIR's `shape`, and the shape that it hands on.

    Raises:
        NIRError: if there is none, the node's parameters are out of range, or do not fit the shape.
    """
    kind = type(node).__name__
    if kind in NEURONS:
        return _neuron(kind, node, shape, settings), shape
    check_kind(kind)
    return _LAYERS[kind](node, shape, settings)


def check_kind(kind: str) -> None:
    """Raise ValueError if there is no layer for a type of node."""
    known = (*NEURONS, *_LAYERS)
    if kind not in known:
        raise NIRError(f"jsnn cannot run a node of type {kind}: it runs {', '.join(known)}")


def _neuron(kind: str, node: Any, shape: Shape, settings: Settings) -> Layer:
    values = {name: _for_each(node, name, shape) for name in NEURONS[kind]}
    metadata = {key: value.item() if isinstance(value, np.generic) else value for key, value in kept(node).items()}
    if "v_init" in metadata:
        metadata["v_init"] = simplified(channels_last(np.asarray(metadata["v_init"])))
    return build(kind, values, metadata, *settings)


def _dense(node: Any, shape: Shape, settings: Settings) -> tuple[Layer, Shape]:
    weight = numbers(node, "weight")
    if weight.ndim != 2 or shape != weight.shape[1:]:
        raise NIRError(f"weight of shape {weight.shape} does not fit an input of shape {shape}")
    bias = numbers(node, "bias") if hasattr(node, "bias") else None
    if bias is not None and bias.shape != weight.shape[:1]:
        raise NIRError(f"bias of shape {bias.shape} does not fit weight of shape {weight.shape}")
    layer = nnx.Linear(
        *weight.T.shape,
        kernel_init=_given(weight.T),
        use_bias=bias is not None,
        bias_init=_given(bias),
        rngs=nnx.Rngs(0),
    )
    return layer, weight.shape[:1]


def _convolution(node: Any, shape: Shape, settings: Settings) -> tuple[Layer, Shape]:
    weight, bias, axes = numbers(node, "weight"), numbers(node, "bias"), 1 if type(node).__name__ == "Conv1d" else 2
    groups = _whole(node, "groups", 1, 1)[0]
    if weight.ndim != axes + 2 or len(shape) != axes + 1 or shape[0] != weight.shape[1] * groups:
        raise NIRError(f"weight of shape {weight.shape} with {groups} groups does not fit an input of shape {shape}")
    if weight.shape[0] % groups or bias.shape != weight.shape[:1]:
        raise NIRError(f"weight of shape {weight.shape}, bias of shape {bias.shape} and {groups} groups do not fit")
    if node.input_shape is not None and tuple(np.atleast_1d(node.input_shape)) != shape[1:]:
        raise NIRError(f"input_shape = {node.input_shape} does not fit an input of shape {shape}")
    stride, dilation = _whole(node, "stride", axes, 1), _whole(node, "dilation", axes, 1)
    window = tuple((size - 1) * d + 1 for size, d in zip(weight.shape[2:], dilation))
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise NIRError(f"padding must be 'same', 'valid' or whole numbers, got {padding!r}")
        pads = list(jax.lax.padtype_to_pads(shape[1:], window, stride, padding.upper()))
    else:
        pads = [(p, p) for p in _whole(node, "padding", axes, 0)]
    kernel = np.moveaxis(weight, (0, 1), (-1, -2))
    layer = (nnx.Conv if axes == 1 else Conv)(
        weight.shape[1] * groups,
        weight.shape[0],
        weight.shape[2:],
        stride,
        padding=pads,
        kernel_dilation=dilation,
        feature_group_count=groups,
        kernel_init=_given(kernel),
        bias_init=_given(bias),
        rngs=nnx.Rngs(0),
    )
    return layer, (weight.shape[0], *_after_windows(shape[1:], window, stride, pads))


def _pool(node: Any, shape: Shape, settings: Settings) -> tuple[Layer, Shape]:
    if len(shape) != 3:
        raise NIRError(f"pooling takes (C, H, W), got an input of shape {shape}")
    window, stride = _whole(node, "kernel_size", 2, 1), _whole(node, "stride", 2, 1)
    pads = [(p, p) for p in _whole(node, "padding", 2, 0)]
    after = (shape[0], *_after_windows(shape[1:], window, stride, pads))
    if type(node).__name__ == "SumPool2d":
        sums = {"init": 0.0, "reduce_fn": jax.lax.add, "window_shape": window, "strides": stride, "padding": pads}
        return functools.partial(nnx.pool, **sums), after
    if window == stride == window[::-1] and pads == [(0, 0), (0, 0)]:
        return functools.partial(avg_pool, window=window[0]), after
    return functools.partial(nnx.avg_pool, window_shape=window, strides=stride, padding=pads), after


def _flatten(node: Any, shape: Shape, settings: Settings) -> tuple[Layer, Shape]:
    if len(shape) == 1:
        return flatten, shape
    start, end = (int(dim) + len(shape) * (dim < 0) for dim in (node.start_dim, node.end_dim))
    if not 0 <= start <= end < len(shape):
        raise NIRError(f"axes {node.start_dim} to {node.end_dim} of {shape} cannot be flattened: there are none")
    after = (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
    if len(after) > 1:
        return functools.partial(_reshape_channels_first, shape=after), after
    return flatten_channels_first, after


def flatten_channels_first(x: Array) -> Array:
    """Return all axes but the batch in one, the channels first as NIR has them: `[B, H, W, C] -> [B, C * H * W]`."""
    return flatten(jnp.moveaxis(x, -1, 1))


def _reshape_channels_first(x: Array, shape: Shape) -> Array:
    """Return values that have NIR's `shape` if taken in its order, the channels first."""
    return jnp.moveaxis(jnp.moveaxis(x, -1, 1).reshape(len(x), *shape), 1, -1)


def flatten_into(dense: nnx.Linear, shape: Shape) -> nnx.Linear:
    """Return a dense layer after `flatten_channels_first`, made to stand after `jsnn.flatten`.

    `shape` is NIR's image.
    """
    order = channels_last(np.arange(math.prod(shape)).reshape(shape)).ravel()
    dense.kernel[...] = dense.kernel[...][order]
    return dense


def _scale(node: Any, shape: Shape, settings: Settings) -> tuple[Layer, Shape]:
    return Scale(simplified(_for_each(node, "scale", shape))), shape


def _threshold(node: Any, shape: Shape, settings: Settings) -> tuple[Layer, Shape]:
    surrogate = {name: value for name, value in settings.options.items() if name == "surrogate"}
    return Threshold(simplified(_for_each(node, "threshold", shape)), **surrogate), shape


def _delay(node: Any, shape: Shape, settings: Settings) -> tuple[Layer, Shape]:
    steps = _for_each(node, "delay", shape) / settings.dt
    if not np.all((steps >= 0) & (steps <= _LONGEST)):
        raise NIRError(f"delay must be between 0 and {_LONGEST} steps of dt = {settings.dt} s, got {steps.ravel()[:3]}")
    whole = np.round(steps)
    return Delay(simplified(np.where(np.abs(steps - whole) < 1e-6 * whole, whole, steps))), shape


_LAYERS: dict[str, Callable[[Any, Shape, Settings], tuple[Layer, Shape]]] = {
    "Linear": _dense,
    "Affine": _dense,
    "Conv1d": _convolution,
    "Conv2d": _convolution,
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    "Flatten": _flatten,
    "Scale": _scale,
    "Threshold": _threshold,
    "Delay": _delay,
}


def numbers(node: Any, name: str) -> np.ndarray:
    """Return a parameter of a node, finite."""
    values = np.asarray(getattr(node, name))
    if values.dtype.kind not in "fiu" or not values.size:
        raise NIRError(f"{name} must be numbers, got {values.dtype} of shape {values.shape}")
    finite = np.abs(values) <= np.finfo(np.float32).max
    if not np.all(finite):
        raise NIRError(f"{name} must be finite, in float32, got {values[~finite][0]}")
    return values


def _for_each(node: Any, name: str, shape: Shape) -> np.ndarray:
    """Return a parameter as float64, channels last, in a shape that broadcasts to that of the neurons.

    It is not broadcast here: the shape is what the file says, and may be larger than the memory.
    """
    values = numbers(node, name).astype(np.float64)
    if values.size == 1:
        values = values.reshape((1,) * len(shape))
    if values.ndim != len(shape) or any(size not in (1, of_shape) for size, of_shape in zip(values.shape, shape)):
        raise NIRError(f"{name} of shape {values.shape} does not fit neurons of shape {shape}")
    return channels_last(values)


def _whole(node: Any, name: str, count: int, least: int) -> tuple[int, ...]:
    """Return a parameter that is one whole number for each axis, or one for all."""
    values = np.atleast_1d(numbers(node, name))
    if values.shape not in ((1,), (count,)) or np.any(values != np.round(values)) or np.any(values < least):
        raise NIRError(f"{name} must be {count} whole numbers >= {least}, got {getattr(node, name)}")
    return tuple(int(value) for value in np.broadcast_to(values, (count,)))


def _after_windows(space: Shape, window: Shape, stride: Shape, pads: list[tuple[int, int]]) -> Shape:
    padded = tuple(size + low + high for size, (low, high) in zip(space, pads))
    if any(size < reach for size, reach in zip(padded, window)):
        raise NIRError(f"windows of {window} do not fit into {padded}")
    return tuple((size - reach) // step + 1 for size, reach, step in zip(padded, window, stride))


def _given(values: np.ndarray | None) -> Callable[..., Array]:
    """Return an initializer that gives what is already known."""
    return lambda key, shape, dtype=jnp.float32: jnp.asarray(values, dtype)
