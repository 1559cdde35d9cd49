"""The function that is converted: its weights, and its program, with a place for each activation."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.conversion.activations import KNOWN, Activation, Match, find, name_of, other_non_linear
from jsnn.conversion.program import Operation, Path, Program, bodies, flatten, shape_of, trace
from jsnn.types import Array, Shape

_RANDOM = ("random_", "threefry", "rng_")
_LOOPS = ("scan", "while", "cond")


class Place(NamedTuple):
    """Where an activation was, and a neuron is now."""

    name: str  # position and kind, such as "0_relu"
    activation: Activation
    operand: int
    result: int
    shape: Shape
    where: str  # the layer whose output it is applied to, such as "conv_general_dilated [3, 3, 3, 32]"


Part: TypeAlias = Operation | Place


class Plan(NamedTuple):
    """The program of a converted network for inputs of one shape."""

    program: Program
    parts: list[Part]  # what is left of it, in order; the activations replaced by their places
    places: list[Place]
    kept: list[str]  # the non-linear functions that stay as they are


class Source:
    """A function and its plans. Holds no weights: those are passed in, so that they can be trained.

    Args:
        function: a `nnx.Module`, or any function of one array.
        swapped: the activations that get a place.
    """

    def __init__(self, function: Callable[[Array], Array], swapped: Collection[Activation]) -> None:
        self.swapped = tuple(swapped)
        self._plans: dict[tuple[Shape, str], Plan] = {}
        self._function: Any = function  # of a module, only its structure
        self._leaves: list[jax.ShapeDtypeStruct] = []
        self._names: list[str] = []
        if isinstance(function, nnx.Module):
            self._function = jax.tree.structure(function)
            self._leaves = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(function)]
            self._names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(function)]

    def weights(self, function: Callable[[Array], Array], example: Array) -> nnx.Module | nnx.List:
        """The function's weights, which nnx can split and train: a copy of the module, or a closure's constants."""
        if isinstance(function, nnx.Module):
            return jax.tree.map(lambda x: x, function)
        constants = self._trace(example.shape, example.dtype).consts
        return nnx.List(
            [
                nnx.Param(jnp.asarray(value))
                if np.issubdtype(np.result_type(value), np.floating)
                else jnp.asarray(value)
                for value in constants
            ]
        )

    def plan(self, shape: Shape, dtype: Any) -> Plan:
        """The plan for inputs of this shape.

        Raises:
            ValueError: if the function cannot take such inputs, or is not one that can be converted; it says why.
        """
        key = (tuple(shape), str(jnp.dtype(dtype)))
        if key not in self._plans:
            self._plans[key] = self._make_plan(*key)
        return self._plans[key]

    def _trace(self, shape: Shape, dtype: Any) -> Any:
        x = jax.ShapeDtypeStruct(shape, dtype)
        changed: list[str] = []

        def module(leaves: list[Array], x: Array) -> Array:
            copy = self._function.unflatten(leaves)
            outputs = copy(x)
            after = jax.tree.leaves(copy)
            changed.extend(name for name, old, new in zip(self._names, leaves, after, strict=True) if old is not new)
            return outputs

        try:
            jaxpr = trace(module, self._leaves, x) if self._leaves else trace(self._function, x)
        except (TypeError, ValueError, AssertionError) as error:
            raise ValueError(f"the function cannot take an input of shape {shape} ({dtype}): {error}") from error
        if changed:
            raise ValueError(
                f"the function changes {', '.join(changed)}: a model in training mode (batch normalisation by the "
                f"batch, dropout) cannot be converted. Call model.eval() first"
            )
        return jaxpr

    def _make_plan(self, shape: Shape, dtype: str) -> Plan:
        jaxpr = self._trace(shape, dtype)
        opened = flatten(jaxpr)
        if len(opened.outputs) != 1 or not isinstance(opened.outputs[0], int):
            raise ValueError(
                f"the function must return one array that depends on its input, got {len(opened.outputs)} results"
            )
        _refuse_random(opened)
        self._refuse_loops(opened)
        functions = _without_doubles((*self.swapped, *KNOWN.values()))
        found = find(opened, functions, opened.inputs[-1:])
        swapped = [match for match in found if match.function in self.swapped]
        self._check_all_found(swapped, found)
        non_linear = other_non_linear(opened, found, opened.inputs[-1:])
        kept = [match.name for match in found if match.function not in self.swapped]
        kept += [operation.name for operation in non_linear]

        # Calls without an activation stay whole, and keep the derivatives that they define.
        paths: set[Path] = set()
        for match in swapped:
            for index in match.operations:
                path = opened.operations[index].path
                paths |= {path[:length] for length in range(1, len(path))}
        program = flatten(jaxpr, paths)
        matches = find(program, functions, program.inputs[-1:])
        return self._cut(program, [match for match in matches if match.function in self.swapped], kept)

    def _cut(self, program: Program, matches: list[Match], kept: list[str]) -> Plan:
        producers = program.producers()
        inside = frozenset[int]().union(*(match.operations for match in matches))
        places = {
            producers[match.result]: Place(
                f"{number}_{match.name}",
                match.function,
                match.operand,
                match.result,
                tuple(program.types[match.result].shape),
                _layer_behind(program, producers, match.operand),
            )
            for number, match in enumerate(matches)
        }
        needed = program.needed_for(program.outputs)
        parts: list[Part] = []
        for index in sorted(needed):
            if index in places:
                parts.append(places[index])
            elif index not in inside:
                parts.append(program.operations[index])
        return Plan(program, parts, [part for part in parts if isinstance(part, Place)], kept)

    def _check_all_found(self, swapped: list[Match], found: list[Match]) -> None:
        there = sorted({match.name for match in found})
        for function in self.swapped:
            if not any(match.function is function for match in swapped):
                raise ValueError(
                    f"there is no {name_of(function)} to swap in the function; activations found: "
                    f"{', '.join(there) or 'none'}. Name what is there in swap, as in "
                    f"swap={{jax.nn.gelu: jsnn.SpikingActivation(jax.nn.gelu)}}"
                )

    def _refuse_loops(self, program: Program) -> None:
        for operation in program.operations:
            if operation.name in _LOOPS:
                for body in bodies(operation):
                    inner = flatten(body)
                    self._refuse_loops(inner)
                    matches = find(inner, self.swapped, inner.inputs)
                    if matches:
                        raise ValueError(
                            f"a {matches[0].name} inside lax.{operation.name} cannot be swapped, because its "
                            f"neuron would need a state there: write the loop out, or take the activation out of it"
                        )


def _layer_behind(program: Program, producers: dict[int, int], value: int) -> str:
    """The nearest operation with weights of more than one axis on the way back from a value."""
    dependent = program.depending_on(program.inputs[-1:])
    atom: Any = value
    while atom in producers:
        operation = program.operations[producers[atom]]
        weights = [a for a in operation.inputs if a not in dependent and len(shape_of(program, a)) > 1]
        inner = operation.params.get("name") or operation.name
        if weights and operation.name not in ("add", "sub", "mul", "div", "max", "broadcast_in_dim"):
            name = "convolution" if "conv" in str(inner) else str(inner)
            return f"{name} {list(shape_of(program, weights[0]))}"
        atom = next((a for a in operation.inputs if a in dependent), None)
    return "the input"


def _refuse_random(program: Program) -> None:
    for operation in program.operations:
        if operation.name.startswith(_RANDOM):
            raise ValueError(
                f"the function draws random numbers ({operation.name}), as dropout in training mode does: "
                f"switch that off first, with model.eval() or deterministic=True"
            )
        for body in bodies(operation):
            _refuse_random(flatten(body))


def _without_doubles(functions: Collection[Activation]) -> list[Activation]:
    return list(dict.fromkeys(functions))
