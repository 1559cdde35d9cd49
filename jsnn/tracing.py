"""The program of a network: its function traced for one time step, or for all at once, with its neurons in it."""

import contextlib
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.array_arguments import is_neuron
from jsnn.neurons.calling import dotted, first_name, free_name, neuron_of, neuron_p
from jsnn.program import Atom, Operation, Program, bodies, flatten, is_random, read, shape_of, trace
from jsnn.refusals import attributes, explained, first_neuron, refuse_changes, refuse_custom_derivatives
from jsnn.types import Array, Layered, Neuron, Shape, State
from jsnn.varying import shaped

States: TypeAlias = dict[str, State]  # one for each call of a neuron, by its name
RunStep: TypeAlias = Callable[[str, Neuron, State, Any], tuple[State, Any]]  # (name, neuron, state, its input)

# the parameters of operations that say what they do; others are shapes, functions and programs
_MEANING = (
    "axes", "axis", "broadcast_dimensions", "dimension", "dimension_numbers", "dimensions", "direction", "exponent",
    "feature_group_count", "index_dtype", "mode", "name", "new_dtype", "permutation", "reverse", "window_strides", "y",
)  # fmt: skip


class Call(NamedTuple):
    """A neuron where it is called."""

    name: str
    operation: Operation

    @property
    def arrays(self) -> tuple[Atom, ...]:
        """Where the arrays of the neuron are."""
        return self.operation.inputs[self.operation.params["structure"].num_leaves :]

    def x(self, take: Callable[[int], Any] = int) -> Any:
        """Return its input: what `take` gives for the number of each array; by default these numbers themselves."""
        structure = self.operation.params["structure"]
        return structure.unflatten(map(take, self.operation.inputs[: structure.num_leaves]))  # type: ignore[arg-type]

    def neuron(self, values: dict[int, Any]) -> Neuron:
        """Return the neuron, with its arrays."""
        return neuron_of(self.operation.params["tree"], [read(values, atom) for atom in self.arrays])


class Traced(NamedTuple):
    """A network's program for inputs of one shape."""

    network: Any
    variables: nnx.State
    program: Program
    """Takes the variables and the inputs, returns the outputs and the variables."""
    calls: dict[int, Call]
    """By the positions of their operations."""
    structure: Any
    """Of the outputs."""

    @property
    def parts(self) -> list[tuple[str, Call | None]]:
        """Return the names of the neurons, with their calls, and of the named values, in the order in which they run.

        A value may have the name of a neuron.
        """
        named = {index: (o.params["name"], None) for index, o in enumerate(self.program.operations) if o.name == "name"}
        parts = named | {index: (call.name, call) for index, call in self.calls.items()}
        return [parts[index] for index in sorted(parts)]

    def parameters(self) -> dict[int, Any]:
        """Return the values that the parameters of the neurons are made of, by their numbers."""
        inputs = [jnp.zeros(x.shape, x.dtype) for x in (self.program.types[value] for value in self.inputs)]
        values = self.values(inputs)
        arrays = [atom for found in self.calls.values() for atom in found.arrays]
        for index in sorted(self.program.needed_for(arrays)):
            self.program.operations[index].run(values)
        return values

    def run_step(
        self, states: States, current: Any, run: RunStep = lambda _, neuron, state, x: neuron.step(state, x)
    ) -> tuple[States, Any, list[Any]]:
        """Run one time step; return the states, the outputs, and the input of each of the `parts`.

        `run` steps a neuron; by default that is what its `step` does.
        """
        values, given = self.values(jax.tree.leaves(current)), []
        for index, operation in enumerate(self.program.operations):
            if index in self.calls:
                found = self.calls[index]
                x, neuron = found.x(values.__getitem__), found.neuron(values)
                given.append(x)
                states[found.name], y = run(found.name, neuron, states[found.name], x)
                self.take_changes(found, neuron, values)
                values.update(zip(operation.outputs, jax.tree.leaves(y), strict=True))
                continue
            operation.run(values)
            if operation.name == "name":
                given.append(values[operation.outputs[0]])
        self.write_back(values)
        return states, self.outputs(values), given

    @property
    def inputs(self) -> tuple[int, ...]:
        """Return the numbers of the inputs."""
        return self.program.inputs[len(jax.tree.leaves(self.variables)) :]

    def values(self, inputs: Collection[Any]) -> dict[int, Any]:
        """Return the values that the program starts from, by their numbers: constants, variables and inputs."""
        leaves = [*jax.tree.leaves(self.variables), *inputs]
        return {**self.program.constants, **dict(zip(self.program.inputs, leaves, strict=True))}

    @property
    def owners(self) -> dict[int, str]:
        """The paths of the modules that hold the variables, such as `"blocks.0.conv1"`."""
        paths = [path for path, _ in nnx.to_flat_state(self.variables)]
        return dict(zip(self.program.inputs, (dotted(path[:-1]) for path in paths)))

    def outputs(self, values: dict[int, Any], take: Callable[[Atom], Any] | None = None) -> Any:
        """Return the outputs of the function, in the structure in which it returned them."""
        atoms = self.program.outputs[: self.structure.num_leaves]
        return self.structure.unflatten([take(atom) if take else read(values, atom) for atom in atoms])

    def take_changes(self, call: Call, neuron: Neuron, values: dict[int, Any]) -> None:
        """Take over what a network in the network has changed of its variables, such as running averages."""
        for atom, new in zip(call.arrays, jax.tree.leaves(neuron)) if _holds_network(neuron) else ():
            if new is read(values, atom):
                continue
            if atom not in self.program.inputs:
                raise ValueError(f"{call.name} changes itself: make it an attribute of the module, or call its eval()")
            values[atom] = new

    def write_back(self, values: dict[int, Any]) -> None:
        """Give the network the variables that its function has changed, such as running averages."""
        flat, after = nnx.to_flat_state(self.variables), self.program.outputs[self.structure.num_leaves :]
        changed = [
            (path, variable.replace(read(values, new)))
            for (path, variable), old, new in zip(flat, jax.tree.leaves(self.variables), after)
            if read(values, new) is not old
        ]
        if changed:
            nnx.update(self.network, nnx.from_flat_state(changed))

    def checked(self, states: States) -> States:
        """Return a copy of the states by name; raises ValueError if they are not those of this network."""
        names = [call.name for call in self.calls.values()]
        if not isinstance(states, dict) or sorted(states) != sorted(names):
            found = sorted(states) if isinstance(states, dict) else type(states).__name__
            raise ValueError(f"state must be a dict with a state for each of {', '.join(names)}, got {found}")
        return dict(states)


def trace_network(network: Any, x: Any, *, folded: tuple[int, Shape] | None = None, opens_all: bool = False) -> Traced:
    """Return a network's program for inputs as `x`; calls without a neuron stay closed, unless all are opened.

    `folded` says that the first axis of `x` is of so many time steps and this batch.
    """
    graph: Any
    graph, variables = nnx.split(network)
    leaves, structure = jax.tree.flatten(variables)
    held = nnx.to_flat_state(variables)
    if functions := [dotted(path) for path, x in held if callable(x) and not isinstance(x, nnx.Variable)]:
        raise TypeError(
            f"{', '.join(functions)} was a neuron or a module, and is a function now, which Flax takes for an array: "
            f"make a new network with it"
        )
    found: list[Any] = []

    def at_one_step(leaves: list[Array], x: Any) -> tuple[list[Any], list[Any]]:
        copy = nnx.merge(graph, jax.tree.unflatten(structure, leaves))
        for path, part in nnx.iter_graph(copy):
            if path and is_neuron(part):
                with contextlib.suppress(AttributeError):  # a class with slots has no room for it
                    object.__setattr__(part, "_path", dotted(path) or first_name(part))
        before = attributes(copy)
        outputs, shape = jax.tree.flatten(explained(copy.one_step, x, folded))
        refuse_changes(before, attributes(copy))
        outputs = [jnp.asarray(y) if isinstance(y, np.ndarray) else y for y in outputs]
        if others := [type(y).__name__ for y in outputs if not isinstance(y, jax.Array)]:
            raise ValueError(f"a network must return arrays, it returned {', '.join(others)}")
        found.append(shape)
        after = nnx.split(copy)[1]
        if new := {path for path, _ in nnx.to_flat_state(after)} - {path for path, _ in nnx.to_flat_state(variables)}:
            raise ValueError(
                f"a network cannot make variables when it is called, it made {', '.join(map(dotted, sorted(new)))}: to "
                f"look at a value, name it by jax.ad_checkpoint.checkpoint_name and use jsnn.record"
            )
        return outputs, jax.tree.leaves(after)

    x = jax.tree.map(lambda x: shaped(x, x.shape), x)
    batch = batch_of(x)
    jaxpr, (outputs, _) = trace(at_one_step, leaves, x)
    if not outputs or (batch and any(y.shape[:1] != batch for y in outputs)):
        given, made = jax.tree.map(jnp.shape, x), ", ".join(str(y.shape) for y in outputs) or "nothing"
        raise ValueError(f"a network must return arrays with the batch axis of its input {given}, it returned {made}")
    refuse_custom_derivatives(jaxpr)
    program = flatten(jaxpr, lambda _, inner: opens_all or first_neuron(inner) is not None)
    return Traced(network, variables, program, _calls(program, program.inputs[len(leaves) :]), found[-1])


def trace_all_steps(single: Traced, x: Any, steps: int) -> Traced | None:
    """Return the program for all time steps at once, `[T*B, ...]`.

    None where neurons or outputs have no such first axis.
    """
    batch = batch_of(x)
    if not batch or not steps:
        return None
    first = (steps * batch[0],)
    folded = jax.tree.map(lambda x: shaped(x, (*first, *x.shape[1:])), x)
    try:
        traced = trace_network(single.network, folded, folded=(steps, batch))
    except Exception:  # whatever a user's function may raise for another shape: for one time step it is right
        return None

    def atoms_of(traced: Traced) -> list[Atom]:
        inputs = [atom for call in traced.calls.values() for atom in jax.tree.leaves(call.x())]
        return [*inputs, *traced.program.outputs[: traced.structure.num_leaves]]

    shapes, wanted = ([shape_of(traced.program, atom) for atom in atoms_of(traced)] for traced in (traced, single))
    is_folded = all(shape[:1] == batch for shape in wanted) and shapes == [(*first, *shape[1:]) for shape in wanted]
    return traced if is_folded else None


def static_values(single: Program, traced: Traced, steps: int, batch: Shape) -> dict[int, int] | None:
    """Return the values that stay the same at every step, with the axis along which they are tiled, -1 for none.

    None where that cannot be told: the program for all steps is another, or has the batch in several axes.
    """
    program = traced.program
    if not _are_alike(single, program):
        return None
    made = [traced.calls[index].operation for index in traced.calls]
    made += [operation for operation in program.operations if is_random(operation.equation)]
    varying = program.depending_on([value for operation in made for value in operation.outputs])
    axes = {}
    for value in program.types.keys() - varying:
        before, after = shape_of(single, value), shape_of(program, value)
        other = [axis for axis, (size, wanted) in enumerate(zip(before, after)) if size != wanted]
        is_batch = len(other) == 1 and (before[other[0]], after[other[0]]) == (batch[0], steps * batch[0])
        axes[value] = -1 if not other else other[0] if is_batch else None
    used = [atom for operation in program.operations if varying & set(operation.outputs) for atom in operation.inputs]
    if any(axes.get(atom, -1) is None for atom in (*used, *program.outputs) if isinstance(atom, int)):
        return None
    return axes  # type: ignore[return-value]


def _are_alike(one: Program, other: Program) -> bool:
    """Return whether two programs have the same operations with the same wires, and differ in shapes alone."""

    def wires(operation: Operation) -> Any:
        atoms = [atom if isinstance(atom, int) else None for atom in operation.inputs]
        params = {key: value for key, value in operation.params.items() if key in _MEANING}
        return operation.name, atoms, operation.outputs, str(params)

    return [wires(operation) for operation in one.operations] == [wires(operation) for operation in other.operations]


def batch_of(x: Any) -> Shape:
    """Return the batch axis of an input at one time step, `(B,)`.

    `()` for a single vector or number, which has none.
    """
    shapes = [x.shape for x in jax.tree.leaves(x)]
    if len(shapes) == 1 and len(shapes[0]) < 2:
        return ()
    if len({shape[:1] for shape in shapes}) > 1 or () in shapes:
        raise ValueError(f"all inputs of a network must have the same batch axis, got {jax.tree.map(jnp.shape, x)}")
    return shapes[0][:1]


def _holds_network(neuron: Neuron) -> bool:
    """Return whether a neuron is a network, or has one in it."""
    parts = (part for _, part in nnx.iter_graph(neuron)) if isinstance(neuron, nnx.Pytree) else ()
    return any(isinstance(part, Layered) and is_neuron(part) for part in parts)


def _calls(program: Program, inputs: Collection[int]) -> dict[int, Call]:
    calls: dict[int, Call] = {}
    names: list[str] = []
    from_input = program.depending_on(inputs)
    for index, operation in enumerate(program.operations):
        for body in bodies(operation):
            if inside := first_neuron(body):
                raise ValueError(
                    f"{inside} is called inside {operation.name}, in which its state would be lost: call it outside of "
                    f"loops and branches of JAX, and let jsnn.unroll run time"
                )
        if operation.equation.primitive is neuron_p:
            name = operation.params["name"]
            given = operation.inputs[: operation.params["structure"].num_leaves]
            if not all(isinstance(atom, int) and atom in from_input for atom in given):
                raise ValueError(f"{name} must be given what depends on the input of the network")
            names.append(free_name(name, names))
            calls[index] = Call(names[-1], operation)
    return calls
