"""The plan of a converted function: its weights, and its program, with a place for each activation."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import ClosedJaxpr

from jsnn.conversion.activations import NAMED, Activation, Match, find, in_words, name_of, not_linear, slope_of, sloped
from jsnn.conversion.exact import Means, Turn
from jsnn.conversion.function import Function, refuse_random
from jsnn.conversion.tail import Tail, tail
from jsnn.program import SYNAPTIC, Constant, Operation, Path, Program, bodies, flatten, shape_of, splice
from jsnn.types import Array, Shape

_READOUTS = ("softmax", "log_softmax", "sigmoid")  # which give probabilities at every step


class Place(NamedTuple):
    """Where an activation was, and a neuron is now."""

    name: str
    """Position and kind, such as "0_relu"."""
    activation: Activation
    parameters: tuple[int | Constant, ...]
    """What else it is given: which of the weights, or a number."""
    operand: int
    shape: Shape
    tail: Tail
    """The operations after it that make its output smaller, such as pooling."""
    where: str
    """The layer whose output it is applied to, such as "convolution [3, 3, 3, 32]"."""
    pools: bool
    """Whether it makes one value of several."""


Kept: TypeAlias = Literal["exact", "as is"]
Part: TypeAlias = Operation | Place | Turn


class Plan(NamedTuple):
    """The program of a converted network for inputs of one shape."""

    program: Program
    weights: tuple[int, ...]
    """The values that are the network's weights."""
    parts: Sequence[Part]
    """The rest of the program in order, with places instead of activations."""
    places: list[Place]
    kept: list[str]
    """The non-linear functions that stay as they are."""
    on_spikes: list[str] = []  # noqa: RUF012
    """Those among them that see what a neuron has put out."""
    exchanged: list[str] = []  # noqa: RUF012
    """The functions that gave way to other functions."""
    exact: list[str] = []  # noqa: RUF012
    """Those that work on means instead."""
    turns: list[Turn] = []  # noqa: RUF012
    """Where what is kept goes over to means, and back."""
    original: "Plan | None" = None
    """The same without those exchanges, where there are any."""


class Source:
    """A function and its plans. Holds no weights: those are passed in, so that they can be trained.

    Args:
        function: a `nnx.Module`, or any function of one array.
        swapped: the activations that get a place, and the function that takes it; None for a neuron.
        kept: what becomes of what is kept and sees spikes, see `convert`.
        summing: the activations whose neurons add up their inputs, so that the sum alone matters; others see means.
    """

    def __init__(
        self,
        function: Callable[[Array], Array],
        swapped: Mapping[Activation, Activation | None],
        kept: Kept | None = "as is",
        summing: Collection[Activation] = (),
    ) -> None:
        self._kept, self._summing = kept, tuple(summing)
        self.swapped = tuple(swapped)
        self._functions = {key: value for key, value in swapped.items() if value is not None}
        self._known = tuple(dict.fromkeys((*swapped, *NAMED.values())))
        self._plans: dict[tuple[Shape, str], Plan] = {}
        self._function = Function(function)
        self._constants: list[tuple[Shape, Any]] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Source":
        return self  # what was traced never changes, and cannot be copied

    def weights(self, function: Callable[[Array], Array], example: Array) -> nnx.Module | nnx.List:
        """Return the function's weights, which nnx can split and train.

        They are a copy of the module, or the constants of a closure.
        """
        if isinstance(function, nnx.Module):
            return nnx.clone(function)
        constants = map(jnp.asarray, self.plan(example.shape, example.dtype).program.constants.values())
        return nnx.List([nnx.Param(x) if jnp.issubdtype(x.dtype, jnp.floating) else x for x in constants])

    def plan(self, shape: Shape, dtype: Any) -> Plan:
        """Return the plan for inputs of this shape.

        Raises:
            ValueError: if the function cannot take such inputs, or is not one that can be converted; it says why.
        """
        key = (tuple(shape), str(jnp.dtype(dtype)))
        if key not in self._plans:
            plan = self._make_plan(*key)
            self._check_constants(plan, *key)
            self._plans[key] = plan
        return self._plans[key]

    def occurring(self, shape: Shape, dtype: Any) -> set[Activation]:
        """Return the known activations that occur in the function."""
        opened = flatten(self._function.trace_written_out(shape, dtype))
        return {match.function for match in find(opened, self._known, opened.inputs[-1:])}

    def _check_constants(self, plan: Plan, shape: Shape, dtype: str) -> None:
        """Raise ValueError if the constants of a closure, which are its weights, depend on its inputs."""
        if self._function.module is None:
            kinds = [plan.program.types[number] for number in plan.weights]
            constants = [(kind.shape, kind.dtype) for kind in kinds]
            if self._constants is None:
                self._constants = constants
            if constants != self._constants:
                raise ValueError(
                    f"the function has other constants for inputs of shape {shape} ({dtype}) than for the example: "
                    f"convert it for these inputs, or compute the constants with jax.numpy"
                )

    def _make_plan(self, shape: Shape, dtype: str) -> Plan:
        jaxpr = self._function.trace(shape, dtype)
        scans = [operation for operation in flatten(jaxpr).operations if operation.name == "scan"]
        if any(self._holds_swapped(body) for scan in scans for body in bodies(scan)):
            jaxpr = self._function.trace_written_out(shape, dtype)
        opened = flatten(jaxpr)
        refuse_random(opened)
        self._refuse_loops(opened, opened.inputs[-1:])
        found = find(opened, self._known, opened.inputs[-1:])
        swapped = [match for match in found if match.function in self.swapped]
        self._check_all_found(opened, swapped, found)
        where = [_layer_behind(opened, match.operand) for match in swapped]

        # Calls without an activation stay whole, and keep the derivatives that they define.
        paths: set[Path] = set()
        for match in swapped:
            for index in match.operations:
                path = opened.operations[index].path
                paths |= {path[:length] for length in range(1, len(path))}
        program = flatten(jaxpr, lambda path, _: path in paths)
        ends = [match.path for match in swapped]
        matches = [match for match in find(program, self.swapped, program.inputs[-1:]) if match.path in ends]
        if len(matches) != len(swapped):  # a number that an activation is made with is computed in a call still closed
            program, matches = opened, swapped
        kept = not_linear(opened, found, self.swapped, opened.inputs[-1:])
        spiking = [match.result for match in swapped if match.function not in self._functions]
        plan = Plan(program, (), [], [], kept, not_linear(opened, found, self.swapped, spiking))

        exchanged = [match for match in matches if match.function in self._functions and _pools(program, match)]
        if not exchanged:
            return self._cut(plan, matches, where)
        stay = [(match, layer) for match, layer in zip(matches, where) if match not in exchanged]
        matches, where = [match for match, _ in stay], [layer for _, layer in stay]
        if not matches:
            raise ValueError("nothing would spike: swap names pooling alone, name an activation in it as well")
        names = [f"{match.name} by {name_of(self._functions[match.function])}" for match in exchanged]
        plan = plan._replace(original=self._cut(plan, matches, where), exchanged=names)
        for match in exchanged:
            program = splice(program, match.operations, match.operand, match.result, self._functions[match.function])
        swaps = [match for match in find(program, self.swapped, program.inputs[-1:]) if match.path in ends]
        results = [match.result for match in matches]
        return self._cut(plan._replace(program=program), [m for m in swaps if m.result in results], where)

    def _cut(self, plan: Plan, matches: list[Match], where: list[str]) -> Plan:
        program = plan.program
        weights = tuple(program.constants) if self._function.module is None else program.inputs[:-1]
        producers = program.producers()
        for match in matches:
            if any(isinstance(atom, int) and atom not in weights for atom in match.parameters):
                raise ValueError(
                    f"what {match.name} is given besides its input is computed in the function: give it a variable of "
                    f"the module, or a number, as it is"
                )
        places = {
            producers[match.result]: Place(
                f"{number}_{match.name}",
                match.function,
                tuple(weights.index(atom) if isinstance(atom, int) else atom for atom in match.parameters),
                match.operand,
                tuple(program.types[match.result].shape),
                tail(program, match.result),
                layer,
                _pools(program, match),
            )
            for number, (match, layer) in enumerate(zip(matches, where))
        }
        inside = frozenset[int]().union(*(match.operations for match in matches))
        inside |= {producers[operation.outputs[0]] for place in places.values() for operation in place.tail.operations}
        parts = [
            places.get(index, operation)
            for index, operation in enumerate(program.operations)
            if index in places or index not in inside
        ]
        plan = plan._replace(weights=weights, parts=parts, places=list(places.values()))
        return plan if self._kept == "as is" else self._with_means(plan)

    def _with_means(self, plan: Plan) -> Plan:
        means, places = Means(plan.program, plan.program.inputs[-1:]), []
        readout = self._readout(plan.program) if self._kept is None else []
        for part in plan.parts:
            if not isinstance(part, Place):
                means.add(part, as_is=any(part is mine for mine in readout))  # type: ignore[arg-type]
                continue
            operand, is_rate = part.operand, part.activation in self._functions
            if is_rate and operand in means.spikes:
                operand = means.mean(operand)
            elif part.activation in self._summing:
                operand = means.at_steps(operand)
            places.append(part._replace(operand=operand))
            means.parts.append(places[-1])
            if not is_rate:
                means.spikes.add(part.tail.result)
            elif operand in means.means:
                means.means.add(part.tail.result)
        output = plan.program.outputs[0]
        outputs = (means.at_steps(output) if isinstance(output, int) else output,)
        program = plan.program._replace(outputs=outputs, types=means.types)
        exact = plan.on_spikes[:-1] if readout else plan.on_spikes
        return plan._replace(program=program, parts=means.parts, places=places, turns=means.turns, exact=exact)

    def _readout(self, program: Program) -> list[Operation]:
        """Return the operations of the softmax or sigmoid that gives the output, if one does."""
        for match in find(program, self._known, program.inputs[-1:]):
            is_kept = match.function not in self.swapped
            if is_kept and match.result == program.outputs[0] and match.name in _READOUTS:
                return [program.operations[index] for index in match.operations]
        last = [operation for operation in program.operations if program.outputs[0] in operation.outputs]
        return [operation for operation in last if str(operation.params.get("name")).strip("_") in _READOUTS]

    def _check_all_found(self, program: Program, swapped: list[Match], found: list[Match]) -> None:
        there = sorted({in_words(program, match) for match in found})
        slopes = [slope_of(program, match) for match in found if match.function is sloped]
        examples = [f"functools.partial(jax.nn.leaky_relu, negative_slope={slope:g})" for slope in slopes if slope]
        examples += [f"jax.nn.{match.name}" for match in found if hasattr(jax.nn, match.name)]
        cure = "Name what is there in swap, as in" if examples else "Give the function that your code calls, as in"
        example = examples[0] if examples else "own"
        for function in self.swapped:
            if not any(match.function is function for match in swapped):
                raise ValueError(
                    f"there is no {name_of(function)} to swap in the function; activations found: "
                    f"{', '.join(there) or 'none'}. {cure} swap={{{example}: jsnn.SpikingActivation({example})}}"
                )

    def _holds_swapped(self, body: ClosedJaxpr) -> bool:
        inner = flatten(body)
        loops = (deeper for operation in inner.operations for deeper in bodies(operation))
        found = find(inner, self._known, inner.inputs)
        return any(match.function in self.swapped for match in found) or any(map(self._holds_swapped, loops))

    def _refuse_loops(self, program: Program, inputs: Collection[int]) -> None:
        dependent = program.depending_on(inputs)
        for operation in program.operations:
            for body in bodies(operation) if dependent & set(operation.outputs) else ():
                inner = flatten(body)
                self._refuse_loops(inner, inner.inputs)
                for match in find(inner, self._known, inner.inputs):
                    if match.function in self.swapped:
                        raise ValueError(
                            f"a {match.name} inside lax.{operation.name} cannot be swapped, because its neuron would "
                            f"need a state there: write the loop out, or take the activation out of it"
                        )


def _pools(program: Program, match: Match) -> bool:
    return shape_of(program, match.operand) != shape_of(program, match.result)


def _layer_behind(program: Program, value: int) -> str:
    """Return the nearest operation with weights, of more than one axis or sparse, on the way back from a value."""
    dependent, producers = program.depending_on(program.inputs[-1:]), program.producers()
    atom: Any = value
    while atom in producers:
        operation = program.operations[producers[atom]]
        least = 1 if operation.name == "sparse_product" else 2
        weights = [a for a in operation.inputs if a not in dependent and len(shape_of(program, a)) >= least]
        if weights and operation.name in SYNAPTIC:
            return f"{SYNAPTIC[operation.name]} {list(shape_of(program, weights[0]))}"
        atom = next(a for a in operation.inputs if a in dependent)
    return "the input"
