"""The traced program of a function: a flat list of operations that can be searched, cut and run.

JAX traces a function into a jaxpr, in which calls (`jit`, `custom_jvp_call`, ...) nest. `flatten` opens those calls
that it is told to and gives every value a number, so that a program is one list, read from top to bottom. A choice
between programs by platform (`lax.platform_dependent`), which all compute the same, is a call of the last of them.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from flax import nnx
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from jsnn.types import Array, Shape

Path: TypeAlias = tuple[int, ...]  # which calls an operation stands in, by their positions from the outside in

_CALLS = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2", "custom_jvp_call", "custom_vjp_call")


class Constant:
    """A number that stands in the program itself."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value


Atom: TypeAlias = int | Constant  # what an operation takes: the number of a value, or a constant


class Operation(NamedTuple):
    """One equation of the program."""

    equation: JaxprEqn
    parent: Jaxpr
    """The program it stands in."""
    inputs: tuple[Atom, ...]
    outputs: tuple[int, ...]
    path: Path

    @property
    def name(self) -> str:
        """The name of its primitive, such as `"add"`."""
        return self.equation.primitive.name

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of its primitive."""
        return self.equation.params

    def __call__(self, *values: Any) -> list[Any]:
        """Run it on one value for each of its inputs; return one result for each of its outputs."""
        named = {v: x for v, x in zip(self.equation.invars, values, strict=True) if not isinstance(v, Literal)}
        alone = self.parent.replace(
            constvars=[], invars=list(named), outvars=self.equation.outvars, eqns=[self.equation]
        )
        return jax.core.eval_jaxpr(alone, (), *named.values())

    def run(self, values: dict[int, Any], take: Callable[[Atom], Any] | None = None) -> None:
        """Add its results to values by number, from which it takes its inputs, unless `take` says otherwise."""
        arguments = [take(atom) if take else read(values, atom) for atom in self.inputs]
        values.update(zip(self.outputs, self(*arguments), strict=True))


class Program(NamedTuple):
    """A function as a list of operations."""

    inputs: tuple[int, ...]
    constants: dict[int, Any]
    operations: list[Operation]
    outputs: tuple[Atom, ...]
    types: dict[int, Any]
    """Of every value: something with shape and dtype."""
    calls: dict[Path, str]
    """The names of the calls that were opened."""

    def producers(self) -> dict[int, int]:
        """Return which operation makes a value, by its position."""
        return {value: index for index, operation in enumerate(self.operations) for value in operation.outputs}

    def depending_on(self, values: Collection[int]) -> set[int]:
        """Return all values that change when one of these does, themselves included."""
        found = set(values)
        for operation in self.operations:
            if not found.isdisjoint(operation.inputs):
                found |= set(operation.outputs)
        return found

    def needed_for(self, atoms: Collection[Atom]) -> set[int]:
        """Return the positions of the operations without which these values cannot be had."""
        wanted = set(atoms)
        found = set()
        for index in reversed(range(len(self.operations))):
            operation = self.operations[index]
            if wanted & set(operation.outputs):
                found.add(index)
                wanted |= set(operation.inputs)
        return found


def trace(function: Callable[..., Any], *arguments: Any) -> tuple[ClosedJaxpr, Any]:
    """Return the jaxpr of a function for arguments of these shapes, and the shapes it returns; nothing is computed."""
    return jax.make_jaxpr(function, return_shape=True)(*arguments)


@contextmanager
def unchanged(function: Callable[..., Any]) -> Iterator[None]:
    """Give the modules that a function closes over their attributes back: nnx.jit loses some when it fails."""
    modules = [value for value in _closed_over(function) if isinstance(value, nnx.Module)]
    parts = [part for module in modules for _, part in nnx.iter_graph(module) if isinstance(part, nnx.Pytree)]
    saved = [(part, dict(vars(part))) for part in parts]
    try:
        yield
    except Exception:
        for part, attributes in saved:
            vars(part).clear()
            vars(part).update(attributes)
        raise


def _closed_over(function: Any) -> list[Any]:
    if isinstance(function, functools.partial):
        return [*_closed_over(function.func), *function.args, *function.keywords.values()]
    if inspect.ismethod(function):
        return [function.__self__, *_closed_over(function.__func__)]
    if not inspect.isfunction(function):
        return []
    found = inspect.getclosurevars(function)
    return [*found.nonlocals.values(), *found.globals.values(), *(function.__defaults__ or ())]


def flatten(jaxpr: ClosedJaxpr, opens: Callable[[Path, ClosedJaxpr], bool] = lambda *_: True) -> Program:
    """Return the program of a jaxpr, with its calls opened: all, or those for which `opens(path, inner)` is true.

    Calls that close over arrays are opened as well, so that all programs of a jaxpr have the same constants, in the
    same order, each once. What its outputs do not need is left out, but for what prints or calls back.
    """
    numbers = iter(range(10**9))
    program = Program((), {}, [], (), {}, {})
    constants: dict[int, int] = {}  # the numbers of the arrays closed over, by their identity

    def name(variable: Any) -> int:
        number = next(numbers)
        program.types[number] = variable.aval
        return number

    def visit(jaxpr: ClosedJaxpr, inputs: tuple[Atom, ...], path: Path) -> tuple[Atom, ...]:
        names: dict[Any, Atom] = dict(zip(jaxpr.jaxpr.invars, inputs, strict=True))
        for variable, value in zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True):
            if id(value) not in constants:
                constants[id(value)] = name(variable)
                program.constants[constants[id(value)]] = value
            names[variable] = constants[id(value)]

        def look_up(atom: Any) -> Atom:
            if isinstance(atom, Literal):
                return Constant(np.asarray(atom.val, atom.aval.dtype))  # type: ignore[attr-defined]
            return names[atom]

        for index, equation in enumerate(jaxpr.jaxpr.eqns):
            here = (*path, index)
            arguments = tuple(look_up(atom) for atom in equation.invars)
            inner = called(equation)
            if inner is not None and (_has_constants(inner) or opens(here, inner)):
                program.calls[here] = equation.params.get("name", equation.primitive.name)
                results = visit(inner, arguments[len(arguments) - len(inner.jaxpr.invars) :], here)
                names.update(zip(equation.outvars, results, strict=True))
                continue
            outputs = tuple(name(variable) for variable in equation.outvars)
            names.update(zip(equation.outvars, outputs, strict=True))
            program.operations.append(Operation(equation, jaxpr.jaxpr, arguments, outputs, here))
        return tuple(look_up(atom) for atom in jaxpr.jaxpr.outvars)

    inputs = tuple(name(variable) for variable in jaxpr.jaxpr.invars)
    outputs = visit(jaxpr, inputs, ())
    acting = [atom for o in program.operations if o.equation.effects for atom in o.inputs]
    needed = program.needed_for((*outputs, *acting))
    operations = [o for index, o in enumerate(program.operations) if index in needed or o.equation.effects]
    return program._replace(inputs=inputs, outputs=outputs, operations=operations)


def splice(
    program: Program, operations: Collection[int], operand: int, result: int, function: Callable[[Array], Array]
) -> Program:
    """Return the program with another function of one value in the place of these operations.

    Raises:
        ValueError: if the function does not give what they gave, another shape for one.
    """
    was, x = program.types[result], program.types[operand]
    try:
        jaxpr, returned = trace(function, jax.ShapeDtypeStruct(x.shape, x.dtype))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the function in swap cannot take an input of shape {x.shape}: {error}") from error
    if (getattr(returned, "shape", None), getattr(returned, "dtype", None)) != (was.shape, was.dtype):
        raise ValueError(f"the function in swap must give {was.dtype} of shape {was.shape}, it gave {returned}")
    other = flatten(jaxpr)
    types, fresh = dict(program.types), max(program.types) + 1
    numbers: dict[Any, Atom] = {number: Constant(np.asarray(value)) for number, value in other.constants.items()}
    numbers |= {other.inputs[0]: operand, other.outputs[0]: result}
    for operation in other.operations:
        for value in operation.outputs:
            if value not in numbers:
                numbers[value] = fresh
                types[fresh] = other.types[value]
                fresh += 1
    spliced = [
        operation._replace(
            inputs=tuple(numbers.get(atom, atom) for atom in operation.inputs),
            outputs=tuple(numbers[value] for value in operation.outputs),  # type: ignore[misc]
        )
        for operation in other.operations
    ]
    end = program.producers()[result]
    before, after = (
        [operation for index, operation in enumerate(program.operations) if index in part and index not in operations]
        for part in (range(end), range(end, len(program.operations)))
    )
    return program._replace(operations=[*before, *spliced, *after], types=types)


def bodies(operation: Operation | JaxprEqn) -> Iterator[ClosedJaxpr]:
    """Return the programs inside an operation that is not a call: a loop or a branch (`scan`, `while`, `cond`)."""
    for value in operation.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, ClosedJaxpr):
                yield item
            elif isinstance(item, Jaxpr):
                yield ClosedJaxpr(item, ())


def inside(equation: JaxprEqn) -> list[ClosedJaxpr]:
    """Return the programs inside an operation: that of a call, or those of a loop or a branch."""
    inner = called(equation)
    return list(bodies(equation)) if inner is None else [inner]


def within(equation: JaxprEqn) -> Iterator[JaxprEqn]:
    """Return an operation and all others in its loops and calls, at any depth."""
    yield equation
    for body in inside(equation):
        for inner in body.jaxpr.eqns:
            yield from within(inner)


def shape_of(program: Program, atom: Atom) -> Shape:
    """Return the shape of a value."""
    return np.shape(atom.value) if isinstance(atom, Constant) else program.types[atom].shape


def read(environment: dict[int, Array], atom: Atom) -> Any:
    """Return a value while a program runs."""
    return atom.value if isinstance(atom, Constant) else environment[atom]


def called(equation: JaxprEqn) -> ClosedJaxpr | None:
    """Return what a call calls; None for an operation that is not a call.

    A choice by platform calls what all platforms have in common, on its last inputs: its first is the platform.
    """
    params = equation.params
    if equation.primitive.name == "cond" and params.get("branches_platforms"):
        return params["branches"][-1]
    if equation.primitive.name not in _CALLS:
        return None
    inner = params["call_jaxpr"] if "call_jaxpr" in params else params["jaxpr"]
    return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())


def _has_constants(jaxpr: ClosedJaxpr) -> bool:
    calls = (called(equation) for equation in jaxpr.jaxpr.eqns)
    return bool(jaxpr.consts) or any(_has_constants(inner) for inner in calls if inner is not None)
