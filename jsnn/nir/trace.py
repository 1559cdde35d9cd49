"""Writes a function without memory down, by reading its traced program and not its class.

What does not depend on the input is computed, such as the scale of a batch normalisation. Of what does, the program
says what it is: a matrix product, a convolution, a multiplication, a sum. Any other piece of it is tried on numbers:
if it only moves values it is a flattening, and if it gives the sums over windows, a pooling.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.neurons.calling import neuron_p, split_operands
from jsnn.nir.library import NIRError, channels_first, channels_last
from jsnn.nir.maps import Convolution, Dense, Map, Pool, Value, name_of
from jsnn.program import SUMS, Operation, Program, called, flatten, read
from jsnn.types import Array, Shape

Symbol: TypeAlias = Value | Map

_PASSED_ON = ("convert_element_type", "copy", "name", "stop_gradient")
_LARGEST = 2**28  # weights of a matrix that a sparse layer is written as
_SCALES = (1.0, -1e6, 1e-6)  # of the numbers that a function is tried on: a clip and a ReLU show at some of them
_CURE = (
    "build the network of dense layers, convolutions, sums, flattening, means over windows (jsnn.avg_pool, not "
    "max_pool) and products with numbers (not of two values, as in attention)"
)


class Writer(Protocol):
    """What takes down the nodes."""

    def write(self, symbol: Symbol) -> Value: ...
    def total(self, first: Value, second: Value) -> Value: ...
    def layer(self, label: str, layer: Any, x: Symbol) -> Symbol: ...
    def flatten(self, x: Value, shape: Shape, order: np.ndarray | None, axes: tuple[int, int] = ...) -> Value: ...


def follow(
    writer: Writer,
    program: Program,
    values: dict[int, Any],
    label: str = "",
    owners: Mapping[int, str] = MappingProxyType({}),
) -> None:
    """Go through a program and add what its operations make to `values`: arrays, and what depends on the input.

    Nodes are named after `label`, the layer at work; those with weights after the `owners` of these, where known.

    Raises:
        NIRError: if NIR has no node for an operation; the message names it.
    """
    values.update(program.constants)
    dependent = program.depending_on([number for number, value in values.items() if isinstance(value, Symbol)])
    for operation in program.operations:
        if dependent.isdisjoint(operation.outputs) and operation.name != "platform_index":
            operation.run(values)
    done: set[int] = set()
    for index, operation in enumerate(program.operations):
        if index in done or dependent.isdisjoint(operation.outputs):
            continue
        if operation.equation.primitive is neuron_p:
            x, neuron = split_operands(operation.params, [read(values, atom) for atom in operation.inputs])
            name = f"{label}." * bool(label) + operation.params["name"]
            if not isinstance(x, Symbol) or len(operation.outputs) > 1:
                raise NIRError(f"{name} has several inputs or outputs, and NIR has no node for that")
            values[operation.outputs[0]] = writer.layer(name, neuron, x)
            continue
        inner = called(operation.equation)
        if inner is not None:
            _inline(writer, operation, flatten(inner), values)
            continue
        owner = next((owners[atom] for atom in _numbers(operation) if atom in owners), "")
        written = _simple(writer, operation, values, owner)
        if written is None:
            piece = _piece(writer, program, index, values)
            if piece is None:
                given = [values[atom] for atom in _numbers(operation) if isinstance(values.get(atom), Symbol)]
                after = " and ".join(map(name_of, given))
                raise NIRError(f"{operation.name} is no operation that NIR has a node for, after {after}: {_CURE}")
            positions, result, written = piece
            done |= positions
            values[result] = written
        else:
            if owner and isinstance(written, Map) and written.layer is not None:
                written = written._replace(label=owner)
            values[operation.outputs[0]] = written


def as_map(symbol: Symbol) -> Map:
    """Return a value as something that can be scaled and shifted before it is written."""
    return symbol if isinstance(symbol, Map) else Map(None, symbol, symbol.shape)


def _numbers(operation: Operation) -> list[int]:
    return [atom for atom in operation.inputs if isinstance(atom, int)]


def _inline(writer: Writer, operation: Operation, inner: Program, values: dict[int, Any]) -> None:
    atoms = operation.inputs[-len(inner.inputs) :]
    for atom in atoms:
        if isinstance(values.get(atom), Map):  # type: ignore[arg-type]
            values[atom] = writer.write(values[atom])  # type: ignore[index]
    results = dict(zip(inner.inputs, (read(values, atom) for atom in atoms), strict=True))
    follow(writer, inner, results)
    values.update(zip(operation.outputs, (read(results, atom) for atom in inner.outputs), strict=True))


def _simple(writer: Writer, operation: Operation, values: dict[int, Any], owner: str) -> Symbol | None:
    """Return what one operation makes, if it is one of those that can be read off; else None. Errors name its owner."""
    inputs = [read(values, atom) for atom in operation.inputs]
    symbols = [isinstance(value, Symbol) for value in inputs]
    name, made = operation.name, cast(Any, operation.equation.outvars[0]).aval

    def written(index: int) -> Value:
        return _written(writer, values, operation.inputs[index])  # type: ignore[arg-type]

    def is_elementwise(index: int) -> bool:
        return _shape(operation, index) == made.shape

    if name in _PASSED_ON and jnp.issubdtype(made.dtype, jnp.floating):  # a cast to integers rounds
        return inputs[0]
    if name == "neg":
        return as_map(inputs[0]).times(np.array(-1.0))
    if name in SUMS and all(symbols):
        second = written(1)
        if name == "sub":
            second = writer.write(as_map(second).times(np.array(-1.0)))
        return writer.total(written(0), second)
    if name in SUMS and is_elementwise(symbols.index(True)):
        symbol, other = as_map(inputs[symbols.index(True)]), _without_batch(inputs[symbols.index(False)])
        if name == "sub":
            symbol, other = (symbol, -other) if symbols[0] else (symbol.times(np.array(-1.0)), other)
        return symbol if other.ndim == 0 and other == 0 else symbol.plus(other)  # Python's sum starts with 0
    if name in ("mul", "div") and symbols in ([True, False], [False, True]) and is_elementwise(symbols.index(True)):
        if name == "div" and symbols[1]:
            return None
        symbol, other = as_map(inputs[symbols.index(True)]), _without_batch(inputs[symbols.index(False)])
        if isinstance(symbol.layer, Convolution) and np.any(other != other[(0,) * (other.ndim - 1)]):
            symbol = as_map(written(symbols.index(True)))  # its weights cannot take what differs from place to place
        return symbol.times(1 / other if name == "div" else other)
    if name in ("dot_general", "conv_general_dilated") and symbols == [True, False]:
        x, factor = _without_factor(writer, values, operation.inputs[0])  # type: ignore[arg-type]
        layer, kernel = _dense if name == "dot_general" else _convolution, np.asarray(inputs[1])
        if kernel.dtype.kind != "f":  # NumPy has no bfloat16, nor have files
            kernel = kernel.astype(np.float32)
        try:
            return layer(operation, x, kernel).times(factor)
        except NIRError as error:
            raise NIRError(f"{owner}: {error}" if owner else str(error)) from error
    if name == "sparse_product" and symbols == [True, False, False, False]:
        x, factor = _without_factor(writer, values, operation.inputs[0])  # type: ignore[arg-type]
        weights, post, starts = map(np.asarray, inputs[1:])
        kernel = _matrix(weights, post, starts, operation.params["size"])
        return Map(Dense(kernel), x, (kernel.shape[1],)).times(factor)
    return None


def _written(writer: Writer, values: dict[int, Any], number: int) -> Value:
    """Return a value, as nodes."""
    values[number] = writer.write(values[number])
    return values[number]


def _without_factor(writer: Writer, values: dict[int, Any], number: int) -> tuple[Value, np.ndarray]:
    """Return a value as nodes, but for one factor of all its elements, which what is linear may take on."""
    symbol = values[number]
    one = np.ones(())
    if isinstance(symbol, Map) and symbol.shift is None and np.ndim(symbol.scale) == 0:
        if symbol.layer is None:
            return symbol.x, symbol.scale
        if isinstance(symbol.layer, Pool) and symbol.scale != 1:
            mean = one / np.prod(symbol.layer.window)
            rest = symbol.scale / mean
            factor = one if np.isclose(rest, 1) else rest
            written = writer.write(symbol._replace(scale=mean))
            values[number] = as_map(written)._replace(scale=factor, label=symbol.label)  # to be written once
            return written, factor
    return _written(writer, values, number), one


def _shape(operation: Operation, index: int) -> Shape:
    return operation.equation.invars[index].aval.shape  # type: ignore[attr-defined]


def _without_batch(value: Any) -> np.ndarray:
    """Return a constant that meets a value of shape [1, ...], as it broadcasts against one without the batch axis."""
    array = np.asarray(value, np.float64)
    return array[0] if array.ndim > 1 else array.reshape(()) if array.size == 1 else array


def _dense(operation: Operation, x: Value, kernel: np.ndarray) -> Map:
    (of_x, of_kernel), batch = operation.params["dimension_numbers"]
    if len(x.shape) != 1 or kernel.ndim != 2 or of_x != (1,) or any(map(len, batch)):
        raise NIRError(
            f"NIR's dense layers take vectors, got values of shape {x.shape}: put jsnn.flatten before it, "
            f"or take a convolution of size 1 for one at every place"
        )
    kernel = kernel if of_kernel == (0,) else kernel.T
    return Map(Dense(kernel), x, (kernel.shape[1],))


def _matrix(weights: np.ndarray, post: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    """Return the matrix of a sparse layer's weights, which NIR knows as a dense layer alone."""
    shape = (len(starts) - 1, size)
    if np.prod(shape) > _LARGEST:
        raise NIRError(
            f"NIR has no sparse layers, and a dense one of {shape[0]:,} x {size:,} weights is more than {_LARGEST:,}"
        )
    matrix = np.zeros(shape, np.float32)
    np.add.at(matrix, (np.repeat(np.arange(shape[0]), np.diff(starts)), post), weights.astype(np.float32))
    return matrix


def _convolution(operation: Operation, x: Value, kernel: np.ndarray) -> Map:
    params, dimensions = operation.params, operation.params["dimension_numbers"]
    last = (0, len(x.shape), *range(1, len(x.shape)))  # axes of batch, channels, then space
    if len(x.shape) not in (2, 3) or dimensions.lhs_spec != last or dimensions.out_spec != last:
        raise NIRError("only convolutions over one or two axes with the channels last can be written")
    if any(d != 1 for d in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise NIRError("NIR has no node for a transposed convolution")
    stride, pads = tuple(params["window_strides"]), params["padding"]
    padding: Any = tuple(low for low, _ in pads)
    shape = tuple(operation.equation.outvars[0].aval.shape[1:])  # type: ignore[attr-defined]
    if any(low != high or low < 0 for low, high in pads):
        same = jax.lax.padtype_to_pads(x.shape[:-1], _extent(operation, kernel), stride, "SAME")
        if any(s != 1 for s in stride) or list(pads) != list(same):
            raise NIRError(f"NIR's convolutions pad both sides alike, got {pads}")
        padding = "same"
    kernel = np.transpose(kernel, dimensions.rhs_spec)
    layer = Convolution(kernel, stride, padding, tuple(params["rhs_dilation"]), params["feature_group_count"])
    return Map(layer, x, shape)


def _extent(operation: Operation, kernel: np.ndarray) -> list[int]:
    """Return how far a kernel reaches, with its dilation."""
    params = operation.params
    sizes = np.take(kernel.shape, params["dimension_numbers"].rhs_spec[2:])
    return [(size - 1) * dilation + 1 for size, dilation in zip(sizes, params["rhs_dilation"])]


# Pieces that are tried on numbers


def _piece(writer: Writer, program: Program, index: int, values: dict[int, Any]) -> tuple[set[int], int, Symbol] | None:
    """Return the operations from one on that make up something known together.

    The result has their positions, what they make, and of what.
    """
    start = next(number for number in _numbers(program.operations[index]) if isinstance(values.get(number), Symbol))
    uses = Counter(number for operation in program.operations for number in _numbers(operation))
    uses.update(atom for atom in program.outputs if isinstance(atom, int))
    inside, positions = {start}, []
    for position in range(index, len(program.operations)):
        operation = program.operations[position]
        if inside.isdisjoint(_numbers(operation)):
            continue
        if operation.equation.primitive is neuron_p:
            return None
        others = set(_numbers(operation)) - inside
        if any(number not in values or isinstance(values[number], Symbol) for number in others):
            return None
        positions.append(position)
        inside |= set(operation.outputs)
        uses.subtract(_numbers(operation))
        open_ends = [number for number in inside - {start} if uses[number] > 0]
        if len(open_ends) == 1 and len(program.types[open_ends[0]].shape) > 1:
            operations = [program.operations[p] for p in positions]
            x, factor = _without_factor(writer, values, start)
            found = _recognise(writer, _function(operations, values, start, open_ends[0]), x, operations)
            if found is not None:
                return set(positions), open_ends[0], found if factor == 1 else as_map(found).times(factor)
    return None


def _function(operations: list[Operation], values: dict[int, Any], start: int, end: int) -> Callable[[Any], np.ndarray]:
    @jax.jit
    def function(x: Array) -> Array:
        local = {**values, start: x[None]}
        for operation in operations:
            operation.run(local)
        return local[end][0]

    return lambda x: np.asarray(function(jnp.asarray(x, jnp.float32)))


def _recognise(
    writer: Writer, function: Callable[[Any], np.ndarray], x: Value, operations: list[Operation]
) -> Symbol | None:
    size = int(np.prod(x.shape))
    places = channels_last(np.arange(size).reshape(channels_first(x.shape)))  # where each value stands in NIR
    if x.order is not None:
        places = np.argsort(x.order)
    moved = function(places)
    if np.array_equal(np.sort(moved, None), np.arange(size)):
        moved, probe = moved.astype(int), np.empty(size, np.float32)

        def is_moved(arrived: np.ndarray) -> bool:
            probe[places.ravel()] = arrived.ravel()
            return np.array_equal(function(arrived), probe[moved])

        if all(is_moved(_probe(x.shape, scale)) for scale in _SCALES):
            if moved.shape == x.shape and np.array_equal(moved, places):
                return x
            if moved.ndim == 1:
                order = np.argsort(moved)
                return writer.flatten(x, moved.shape, None if np.array_equal(order, np.arange(size)) else order)
            for start, end in ((0, 1), (1, 2)):  # two of three axes, as NIR has them
                before, after = channels_first(x.shape), channels_first(moved.shape)
                merged = (*before[:start], int(np.prod(before[start : end + 1])), *before[end + 1 :])
                if after == merged and np.array_equal(np.moveaxis(moved, -1, 0).ravel(), np.arange(size)):
                    return writer.flatten(x, moved.shape, None, (start, end))
    if len(x.shape) == 3 and moved.shape == x.shape[-1:]:  # over all places of an image
        pool = _pooling(lambda values: function(values)[None, None], x, (1, 1, *moved.shape), operations)
        return None if pool is None else writer.flatten(writer.write(pool), moved.shape, None)
    if moved.ndim == len(x.shape) == 3 and moved.shape[-1] == x.shape[-1]:
        return _pooling(function, x, moved.shape, operations)
    return None


def _probe(shape: Shape, scale: float) -> np.ndarray:
    """Return numbers of both signs, none like another, to tell a function by."""
    return (scale * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def _first_window(function: Callable[[Any], np.ndarray], shape: Shape) -> tuple[int, int]:
    """Return the sides of the first window that is summed over: the mean of the places in it lies in their middle."""
    ones = np.ones(shape, np.float32)
    whole, *parts = (float(function(values).flat[0]) for values in (ones, *(ones.cumsum(axis) - 1 for axis in (0, 1))))
    height, width = (np.nan_to_num(2 * part / whole + 1 if whole else 1.0) for part in parts)  # of any function
    return int(np.clip(np.round(height), 1, shape[0])), int(np.clip(np.round(width), 1, shape[1]))


def _pooling(function: Callable[[Any], np.ndarray], x: Value, shape: Shape, operations: list[Operation]) -> Map | None:
    window = stride = _first_window(function, x.shape)
    padding = (0, 0)
    for operation in operations:
        if operation.name == "reduce_window_sum":
            params = operation.params
            window, stride = tuple(params["window_dimensions"][1:3]), tuple(params["window_strides"][1:3])
            if any(low != high for low, high in params["padding"]):
                return None
            padding = tuple(low for low, _ in params["padding"][1:3])
    pads = ((0, 0), *((p, p) for p in padding), (0, 0))

    def both(scale: float) -> tuple[np.ndarray, np.ndarray]:
        probe = _probe(x.shape, scale)
        sums = jax.lax.reduce_window(probe[None], 0.0, jax.lax.add, (1, *window, 1), (1, *stride, 1), pads)
        return np.asarray(sums)[0], function(probe)

    sums, found = both(1.0)
    if sums.shape != found.shape or not np.all(np.isfinite(found)):
        return None
    factor = np.vdot(sums, found) / np.vdot(sums, sums)
    for scale in _SCALES:
        sums, found = both(scale)
        if not np.allclose(found, factor * sums, rtol=1e-4, atol=1e-4 * abs(factor * scale)):
            return None
    pool = Map(Pool(window, stride, padding), x, shape)
    return pool if np.isclose(factor, 1, rtol=1e-4) else pool.times(np.asarray(factor))
