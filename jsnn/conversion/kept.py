"""Names what a program keeps of functions that are not linear, as a whole and not operation by operation."""

from collections.abc import Collection
from typing import Any

import jax.numpy as jnp

from jsnn.conversion.activations import Activation, Match, constant, sloped
from jsnn.conversion.program import Operation, Path, Program

_CALLED = {"clip", "logsumexp", "logaddexp"}  # functions of jax.numpy that are calls in the program
_OF_VARIANCE = (
    "add", "broadcast_in_dim", "convert_element_type", "div", "max", "mul", "reduce_sum", "reshape", "squeeze", "sub",
    "select_n",
)  # fmt: skip
_LINEAR = (
    "add", "add_any", "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "copy_p", "cumsum",
    "device_put", "expand_dims", "mesh_cast", "neg", "optimization_barrier", "pad", "reduce_precision", "reduce_sum",
    "reduce_window_sum", "reshape", "reshard", "rev", "scatter-add", "sharding_constraint", "slice", "split", "squeeze",
    "stop_gradient", "sub", "transpose",
)  # fmt: skip
_LINEAR_IN_ONE = ("conv_general_dilated", "dot_general", "mul", "dynamic_update_slice")
_LINEAR_IN_FIRST = ("div", "dynamic_slice", "gather")


def not_linear(
    program: Program, matches: Collection[Match], swapped: Collection[Activation], inputs: Collection[int]
) -> list[str]:
    """The names of all that is not linear in the inputs and is not swapped, in the program's order.

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
    norms = _normalizations(program, dependent)
    for index, operation in enumerate(program.operations):
        if index in covered or _is_linear(program, operation, dependent):
            continue
        norm = next((name for name, operations in norms.items() if index in operations), None)
        name, where = norm or _whole_of(program, operation)
        if (name, where) not in wholes:
            names[index] = name
            if where:
                wholes.add((name, where))
    return [names[index] for index in sorted(names)]


def in_words(program: Program, match: Match) -> str:
    """The name of a match, with the slope of a leaky relu."""
    if match.function is not sloped:
        return match.name
    slope = slope_of(program, match)
    return "PReLU" if slope is None else f"leaky_relu with a slope of {slope:g}"


def slope_of(program: Program, match: Match) -> float | None:
    """The slope of a leaky relu; None if it is trained."""
    slope = constant(program, program.producers(), match.parameters[0])
    return None if slope is None else float(slope)


def _whole_of(program: Program, operation: Operation) -> tuple[str, Path]:
    """The name of the function of JAX that an operation is a part of, and where that is called."""
    for length in range(1, len(operation.path)):
        name = program.calls.get(operation.path[:length], "")
        if name in _CALLED:
            return name, operation.path[:length]
    return {"reduce_window_max": "max_pool", "reduce_max": "max"}.get(operation.name, operation.name), ()


def _normalizations(program: Program, dependent: Collection[int]) -> dict[tuple[str, Path], set[int]]:
    """The operations of each division by a standard deviation, by name and place."""
    producers = program.producers()
    found: dict[tuple[str, Path], set[int]] = {}
    for index, operation in enumerate(program.operations):
        if operation.name not in ("rsqrt", "sqrt") or operation.outputs[0] not in dependent:
            continue
        members, squares, subtracts = {index}, False, False
        behind = [atom for atom in operation.inputs if atom in producers]
        while behind:
            at = producers[behind.pop()]
            part = program.operations[at]
            is_square = part.name in ("square", "integer_pow") or (part.name == "mul" and len(set(part.inputs)) == 1)
            squares |= is_square
            subtracts |= part.name == "sub"
            if is_square:
                members.add(at)
                made_by = producers.get(part.inputs[0])  # type: ignore[arg-type]
                subtracts |= made_by is not None and program.operations[made_by].name == "sub"
            elif part.name in _OF_VARIANCE and at not in members:
                members.add(at)
                behind += [atom for atom in part.inputs if atom in producers and atom in dependent]
        if not squares:
            continue
        scaled = set(operation.outputs)
        for at, part in enumerate(program.operations[index:], index):  # up to the product with the value itself
            if not scaled & {atom for atom in part.inputs if isinstance(atom, int)}:
                continue
            both = sum(atom in dependent for atom in part.inputs) > 1 and part.name in ("mul", "div")
            members.add(at)
            if not both:
                scaled |= set(part.outputs)
        found[("layer norm" if subtracts else "rms norm", (index,))] = members
    return found


def _is_linear(program: Program, operation: Operation, dependent: Collection[int]) -> bool:
    """Whether an operation is known to be linear (or affine) in its inputs that depend on the network's."""

    def is_floating(value: Any) -> bool:
        return jnp.issubdtype(program.types[value].dtype, jnp.floating)

    varies = [atom in dependent for atom in operation.inputs]
    if not any(is_floating(atom) for atom in operation.inputs if atom in dependent):
        return True  # it does not vary, or was made of what is not linear already
    if not all(map(is_floating, operation.outputs)):
        return False
    if operation.name in _LINEAR_IN_ONE:
        return sum(varies) == 1
    if operation.name in _LINEAR_IN_FIRST:
        return not any(varies[1:])
    if operation.name == "select_n":
        return not varies[0]
    return operation.name in _LINEAR
