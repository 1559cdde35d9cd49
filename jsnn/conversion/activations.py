"""Finds activation functions in a traced program, by what they compute and not by what they are called.

An activation is traced on its own and its program laid over the other: `jax.nn.relu`, `jnp.maximum(x, 0)` and
`jax.lax.max(0.0, x)` are all found as one and the same. Where two fit, the larger one is meant: a `silu` is not taken
for the `sigmoid` inside it.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.conversion.composites import normalizations, whole_of
from jsnn.conversion.overlay import Overlay, constant
from jsnn.conversion.quantized import clip_floor_relu, clip_relu
from jsnn.layers import max_pool
from jsnn.program import Atom, Operation, Path, Program, flatten, is_linear, shape_of, trace
from jsnn.types import Array

Activation: TypeAlias = Callable[..., Array]

KNOWN: dict[str, Activation] = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "celu": jax.nn.celu,
    "gelu": jax.nn.gelu,
    "gelu (exact)": functools.partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
    "mish": jax.nn.mish,
    "hard_silu": jax.nn.hard_silu,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_tanh": jax.nn.hard_tanh,
    "sigmoid": jax.nn.sigmoid,
    "log_sigmoid": jax.nn.log_sigmoid,
    "softplus": jax.nn.softplus,
    "squareplus": jax.nn.squareplus,
    "soft_sign": jax.nn.soft_sign,
    "tanh": jnp.tanh,
    "clip_floor_relu": clip_floor_relu,
    "clip_relu": clip_relu,
    "softmax": jax.nn.softmax,
    "log_softmax": jax.nn.log_softmax,
}
"""What is looked for in every program, whether or not it is to be swapped."""


def sloped(x: Array, slope: Array) -> Array:
    """Return a leaky relu whose slope is any number, also a trained one, as that of `nnx.PReLU`."""
    return jnp.where(x >= 0, x, slope * x)


NAMED: dict[str, Activation] = {
    **KNOWN,
    "leaky_relu with a slope": sloped,
    "max_pool": max_pool,
    "max_pool of 3": functools.partial(max_pool, window=3),
    "max_pool of 4": functools.partial(max_pool, window=4),
}
"""All activations that the report names. Those that are not in `KNOWN` are replaced only if `swap` names them."""

PARAMETERS: dict[Activation, int] = {clip_floor_relu: 2, clip_relu: 1, sloped: 1}
"""How many numbers an activation takes besides its operand; the first is its threshold. Others take none."""

_ALSO_WRITTEN: dict[Activation, tuple[Activation, ...]] = {
    jax.nn.relu: (
        lambda x: jnp.where(x > 0, x, 0), lambda x: jnp.where(x >= 0, x, 0), lambda x: x * (x > 0),
        lambda x: x * (x >= 0),
        lambda x: jnp.where(x < 0, 0, x), lambda x: jnp.where(x <= 0, 0, x), lambda x: jnp.clip(x, 0, jnp.inf),
    ),
    sloped: (lambda x, slope: jnp.where(x > 0, x, slope * x), lambda x, slope: jnp.where(x < 0, slope * x, x)),
    jax.nn.sigmoid: (lambda x: 1 / (1 + jnp.exp(-x)),),
    max_pool: (lambda x: nnx.max_pool(x, (2, 2), (2, 2)),),
}  # fmt: skip
_POOLS = tuple(function for name, function in NAMED.items() if name.startswith("max_pool"))


class Match(NamedTuple):
    """An activation in a program."""

    name: str
    function: Activation
    operand: int
    """The value it is applied to."""
    parameters: tuple[Atom, ...]
    """What else it is given."""
    result: int
    """The value it gives."""
    operations: frozenset[int]
    """The operations it consists of, by their positions."""
    path: Path
    """Of the last of them."""


def name_of(function: Activation) -> str:
    """Return what an activation is called in reports."""
    for name, known in NAMED.items():
        if known is function:
            return name
    inner = function.func if isinstance(function, functools.partial) else function
    return getattr(inner, "__name__", type(inner).__name__).strip("<>")


def find(program: Program, functions: Collection[Activation], inputs: Collection[int]) -> list[Match]:
    """Return the activations of values that depend on the inputs, in the program's order, none within another.

    No activation is a `max(E[x^2] - E[x]^2, 0)`, by which layer normalisation keeps a variance from going below zero.
    Nor is a `max(x, 0)` from which a `min` takes the top: spikes, which are high and rare, would not survive that.
    """
    dependent = program.depending_on(inputs)
    producers = program.producers()
    candidates = [
        match
        for index, operation in enumerate(program.operations)
        for function in functions
        for written in _written(function)
        if dependent & set(operation.outputs)
        for shape in _operand_shapes(program, operation, function, dependent)
        if (match := _match(program, producers, index, function, written, shape)) is not None
        and match.operand in dependent
        and not dependent & set(match.parameters)
        and not _is_variance(program, producers, match.operand)
        and not _is_clipped(program, producers, match.result)
    ]
    taken: set[int] = set()
    chosen = []
    for match in sorted(candidates, key=lambda match: -len(match.operations)):
        if not taken & match.operations:
            taken |= match.operations
            chosen.append(match)
    return sorted(chosen, key=lambda match: producers[match.result])


@functools.lru_cache(maxsize=1024)
def _written(function: Activation) -> tuple[Activation, ...]:
    """Return an activation, and functions that are the same, written in other ways."""
    partial = function if isinstance(function, functools.partial) else functools.partial(function)
    if partial.func is not jax.nn.leaky_relu or partial.args or not isinstance(slope := _slope(partial), int | float):
        return (function, *_ALSO_WRITTEN.get(function, ()))
    others = [functools.partial(other, slope=slope) for other in _ALSO_WRITTEN[sloped]]
    return (function, *others, *([lambda x: jnp.maximum(x, slope * x)] if slope <= 1 else []))


def _slope(leaky_relu: functools.partial[Array]) -> Any:
    return leaky_relu.keywords.get("negative_slope", 0.01)


def _operand_shapes(
    program: Program, operation: Operation, function: Activation, dependent: Collection[int]
) -> list[tuple[int, ...]]:
    """Return the shapes that a function's operand can have.

    It is the shape of the result, except for pooling and functions of a user, which may take whole axes away.
    """
    shape = shape_of(program, operation.outputs[0])
    if function in KNOWN.values() or function is sloped:
        return [shape]
    others = {shape_of(program, value) for value in dependent}
    larger = sorted(other for other in others if math.prod(other) > math.prod(shape))
    if function in _POOLS:
        return [other for other in larger if len(other) == len(shape)]
    return [shape, *larger]


def not_linear(
    program: Program, matches: Collection[Match], swapped: Collection[Activation], inputs: Collection[int]
) -> list[str]:
    """Return the names of all that is not linear in the inputs and is not swapped, in the program's order.

    What consists of several operations is named once, as a whole.
    """
    dependent, producers = program.depending_on(inputs), program.producers()
    covered = frozenset[int]().union(*(match.operations for match in matches))
    names = {
        producers[match.result]: in_words(program, match)
        for match in matches
        if match.function not in swapped and match.operand in dependent
    }
    wholes: set[tuple[str, Path]] = set()
    norms = normalizations(program, dependent)
    for index, operation in enumerate(program.operations):
        if index in covered or is_linear(program, operation, dependent):
            continue
        norm = next((name for name, operations in norms.items() if index in operations), None)
        name, where = norm or whole_of(program, operation)
        if (name, where) not in wholes:
            names[index] = name
            if where:
                wholes.add((name, where))
    return [names[index] for index in sorted(names)]


def in_words(program: Program, match: Match) -> str:
    """Return the name of a match, with the slope of a leaky relu."""
    if match.function is not sloped:
        return match.name
    slope = slope_of(program, match)
    return "PReLU" if slope is None else f"leaky_relu with a slope of {slope:g}"


def slope_of(program: Program, match: Match) -> float | None:
    """Return the slope of a leaky relu; None if it is trained."""
    slope = constant(program, program.producers(), match.parameters[0])
    return None if slope is None else float(slope)


@functools.lru_cache(maxsize=1024)
def is_homogeneous(function: Activation) -> bool:
    """Return whether f(a x) = a f(x) for a > 0, so that its input may be scaled up and its output down."""
    if function in PARAMETERS:
        return False
    with jax.ensure_compile_time_eval():
        x = jnp.linspace(-4.0, 4.0, 17)
        return all(jnp.allclose(function(a * x), a * function(x), rtol=1e-4, atol=1e-5 * a) for a in (1e-3, 1e3))


@functools.lru_cache(maxsize=4096)
def _pattern(function: Activation, count: int, shape: tuple[int, ...], dtype: Any) -> Program | None:
    """Return the activation's own program for an operand of this shape and so many parameters, or None."""
    try:
        parameters = [jax.ShapeDtypeStruct((), dtype)] * count
        jaxpr, _ = trace(function, jax.ShapeDtypeStruct(shape, dtype), *parameters)
    except Exception:  # whatever a user's function may raise for a shape that is not its own
        return None
    pattern = flatten(jaxpr)
    return pattern if len(pattern.outputs) == 1 and pattern.operations else None


def _match(
    program: Program,
    producers: dict[int, int],
    index: int,
    function: Activation,
    written: Activation,
    shape: tuple[int, ...],
) -> Match | None:
    """Return the activation that ends with this operation, if there is one, written as another function may be."""
    operation = program.operations[index]
    result = operation.outputs[0]
    output_type = program.types[result]
    if not jnp.issubdtype(output_type.dtype, jnp.floating):
        return None
    pattern = _pattern(written, PARAMETERS.get(function, 0), tuple(shape), output_type.dtype)
    if pattern is None or shape_of(pattern, pattern.outputs[0]) != tuple(output_type.shape):
        return None
    found = Overlay(program, producers, pattern, pattern.producers())
    if not found.lay(pattern.outputs[0], result):
        return None
    operand, *parameters = (found.bound[value] for value in pattern.inputs)
    if not isinstance(operand, int):
        return None
    uses = Counter(program.outputs)
    uses.update(atom for op in program.operations for atom in op.inputs)
    inside = Counter(atom for i in found.operations for atom in program.operations[i].inputs)
    made_inside = {value for i in found.operations if i != index for value in program.operations[i].outputs}
    if any(uses[value] > inside[value] for value in made_inside):
        return None  # something between its input and its output is used elsewhere too
    operations = frozenset(found.operations)
    return Match(name_of(function), function, operand, tuple(parameters), result, operations, operation.path)


def _is_variance(program: Program, producers: dict[int, int], value: int) -> bool:
    """Return whether a value is a mean square minus the square of a mean."""

    def operation(value: Atom) -> Operation | None:
        return program.operations[producers[value]] if value in producers else None

    def is_mean(value: Atom) -> bool:
        made_by = operation(value)
        while made_by is not None and made_by.name in ("div", "mul", "reshape", "broadcast_in_dim"):
            made_by = operation(made_by.inputs[0])
        return made_by is not None and made_by.name.startswith("reduce_")

    difference = operation(value)
    if difference is None or difference.name != "sub":
        return False
    mean_square, squared = difference.inputs
    square = operation(squared)
    is_square = square is not None and (
        square.name in ("square", "integer_pow") or (square.name == "mul" and square.inputs[0] == square.inputs[1])
    )
    return is_square and square is not None and is_mean(mean_square) and is_mean(square.inputs[0])


def _is_clipped(program: Program, producers: dict[int, int], value: int) -> bool:
    """Return whether the smaller of a value and a number is taken."""
    return any(
        operation.name == "min"
        and value in operation.inputs
        and any(constant(program, producers, atom) is not None for atom in operation.inputs)
        for operation in program.operations
    )
