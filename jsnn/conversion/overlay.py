"""Lays one program over another: whether the one occurs in the other."""

from typing import Any

import numpy as np

from jsnn.program import Atom, Constant, Program, shape_of

_COMMUTATIVE = ("add", "mul", "max", "min")


class Overlay:
    """Lays the program of an activation over another, from the result backwards."""

    def __init__(
        self, program: Program, producers: dict[int, int], pattern: Program, pattern_producers: dict[int, int]
    ) -> None:
        self.program, self.producers = program, producers
        self.pattern, self.pattern_producers = pattern, pattern_producers
        self.bound: dict[Atom, Atom] = {}  # what the pattern's inputs are in the program
        self.operations: set[int] = set()

    def lay(self, ours: Atom, theirs: Atom) -> bool:
        """Return whether the pattern's value `ours` can be the program's value `theirs`; notes what that implies."""
        number = constant(self.pattern, self.pattern_producers, ours)
        if number is not None:
            other = constant(self.program, self.producers, theirs)
            return other is not None and np.array_equal(number, other)
        if ours in self.pattern.inputs:
            if not self._are_equal(self.bound.setdefault(ours, theirs), theirs):
                return False
            return shape_of(self.program, theirs) == shape_of(self.pattern, ours)
        if not isinstance(theirs, int) or theirs not in self.producers or not isinstance(ours, int):
            return False
        index = self.producers[theirs]
        expected, operation = self.pattern.operations[self.pattern_producers[ours]], self.program.operations[index]
        if expected.name != operation.name or not _same(expected.params, operation.params):
            return False
        if expected.outputs.index(ours) != operation.outputs.index(theirs):
            return False
        orders = [operation.inputs]
        if operation.name in _COMMUTATIVE:
            orders.append(operation.inputs[::-1])
        for inputs in orders:
            saved = dict(self.bound), set(self.operations)
            if all(map(self.lay, expected.inputs, inputs)):
                self.operations.add(index)
                return True
            self.bound, self.operations = saved
        return False

    def _are_equal(self, one: Atom, other: Atom) -> bool:
        if one == other:
            return True
        value, other_value = (constant(self.program, self.producers, atom) for atom in (one, other))
        return value is not None and other_value is not None and np.array_equal(value, other_value)


def constant(program: Program, producers: dict[int, int], atom: Atom) -> np.ndarray | None:
    """Return the number that a value always is; None where it is not known to be one number."""
    if isinstance(atom, Constant):
        return atom.value
    if atom in program.constants and np.ndim(program.constants[atom]) == 0:
        return np.asarray(program.constants[atom])
    if atom in producers:
        operation = program.operations[producers[atom]]
        if operation.name in ("broadcast_in_dim", "convert_element_type"):
            value = constant(program, producers, operation.inputs[0])
            return None if value is None else value.astype(program.types[atom].dtype)
    return None


def _same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all(
        np.array_equal(value, theirs[key]) if isinstance(value, np.ndarray) else value == theirs[key]
        for key, value in ours.items()
    )
