"""What follows an activation and makes it smaller, such as pooling.

A linear operation commutes with a linear filter, so that the filter may stand after it, where it has less to do. It
runs in the same loop over time as the neuron, so that what is larger is never kept in memory for all time steps.
"""

import math
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.program import Atom, Constant, Operation, Program, is_linear, shape_of
from jsnn.types import Array


class Tail(NamedTuple):
    """Linear operations on one value, in order; an empty list does not change the value."""

    value: int
    operations: tuple[Operation, ...]
    result: int

    def apply(self, x: Array) -> Array:
        values = {self.value: x}
        for operation in self.operations:
            operation.run(values)
        return values[self.result]


def tail(program: Program, value: int) -> Tail:
    """Return the linear operations after a value, up to the smallest array that they make of it.

    Convolutions and matrix products end it: they are faster for all time steps at once.
    """
    uses = Counter(program.outputs)
    uses.update(atom for operation in program.operations for atom in operation.inputs)
    operations: list[Operation] = []
    best, least = Tail(value, (), value), _size(program, value) - 1
    linear = {value}
    for operation in program.operations:
        if linear.isdisjoint(operation.inputs):
            continue
        if not _is_linear(program, operation, linear):
            break
        operations.append(operation)
        linear |= set(operation.outputs)
        uses.subtract(operation.inputs)
        needed = [number for number in linear if uses[number] > 0]
        if len(needed) == 1 and _size(program, needed[0]) <= least:
            least = _size(program, needed[0])
            best = Tail(value, tuple(operations), needed[0])
    return best


def _is_linear(program: Program, operation: Operation, linear: Collection[Atom]) -> bool:
    """Return whether what an operation makes is linear in these values, and depends on numbers alone beside them."""
    if not all(isinstance(atom, Constant) or atom in linear for atom in operation.inputs):
        return False
    if not is_linear(program, operation, [atom for atom in linear if isinstance(atom, int)]):
        return False
    numbers = [atom.value for atom in operation.inputs if isinstance(atom, Constant)]
    if operation.name in ("mul", "div") or not any(map(np.any, numbers)):
        return True
    with jax.ensure_compile_time_eval():  # the rest maps zeros to zeros, unless a number is added
        kinds = {atom: program.types[atom] for atom in operation.inputs if isinstance(atom, int)}
        values = {atom: jnp.zeros(kind.shape, kind.dtype) for atom, kind in kinds.items()}
        operation.run(values)
        return not any(np.any(values[number]) for number in operation.outputs)


def _size(program: Program, value: int) -> int:
    return math.prod(shape_of(program, value))
