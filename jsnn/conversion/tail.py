"""What follows an activation and makes it smaller, such as pooling.

A linear operation commutes with a linear filter, so that the filter may stand behind it, where it has less to do. It
runs in the same loop over time as the neuron, so that what is larger is never kept in memory for all time steps.
"""

import math
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from jsnn.program import Atom, Constant, Operation, Program, called, flatten, read, shape_of
from jsnn.types import Array

_UNARY = {
    "broadcast_in_dim", "copy", "neg", "reduce_sum", "reduce_window_sum", "reshape", "rev",
    "slice", "squeeze", "transpose",
}  # fmt: skip
_SUMS = {"add", "add_any", "concatenate", "sub"}


class Tail(NamedTuple):
    """Linear operations on one value, in order; none at all leave it as it is."""

    value: int
    operations: tuple[Operation, ...]
    result: int

    def apply(self, x: Array) -> Array:
        values = {self.value: x}
        for operation in self.operations:
            values.update(zip(operation.outputs, operation(*(read(values, atom) for atom in operation.inputs))))
        return values[self.result]


def tail(program: Program, value: int) -> Tail:
    """The linear operations behind a value, up to where the least has to be remembered of it.

    Convolutions and matrix products end it: they are faster for all time steps at once.
    """
    uses = Counter(atom for operation in program.operations for atom in operation.inputs if isinstance(atom, int))
    uses.update(atom for atom in program.outputs if isinstance(atom, int))
    operations: list[Operation] = []
    best, least = Tail(value, (), value), _size(program, value) - 1
    linear = {value}
    for operation in program.operations:
        if linear.isdisjoint(atom for atom in operation.inputs if isinstance(atom, int)):
            continue
        if not _is_linear(operation, linear):
            break
        operations.append(operation)
        linear |= set(operation.outputs)
        uses.subtract(atom for atom in operation.inputs if isinstance(atom, int))
        needed = [number for number in linear if uses[number] > 0]
        if len(needed) == 1 and _size(program, needed[0]) <= least:
            least = _size(program, needed[0])
            best = Tail(value, tuple(operations), needed[0])
    return best


def _is_linear(operation: Operation, linear: Collection[Atom]) -> bool:
    """Whether what an operation makes is linear in these values, and depends on nothing else that is not a number."""
    inputs = [atom in linear for atom in operation.inputs]
    if not all(is_linear or isinstance(atom, Constant) for is_linear, atom in zip(inputs, operation.inputs)):
        return False
    inner = called(operation.equation)
    if inner is not None:
        return _is_linear_program(flatten(inner), inputs)
    if operation.name in _SUMS:  # Python's sum starts with 0
        return not any(np.any(atom.value) for atom in operation.inputs if isinstance(atom, Constant))
    if operation.name in _UNARY:
        return all(inputs)
    return (operation.name == "mul" and sum(inputs) == 1) or (operation.name == "div" and inputs == [True, False])


def _is_linear_program(program: Program, inputs: Collection[bool]) -> bool:
    linear = {number for number, is_linear in zip(program.inputs, inputs, strict=True) if is_linear}
    for operation in program.operations:
        if not _is_linear(operation, linear):
            return False
        linear |= set(operation.outputs)
    return all(output in linear for output in program.outputs)


def _size(program: Program, value: int) -> int:
    return math.prod(shape_of(program, value))
