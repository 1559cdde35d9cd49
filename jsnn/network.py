"""Networks of any shape: a function of one time step that calls its neurons like layers.

    class Block(nnx.Module):
        def __call__(self, x):  # [B, H, W, C]
            return self.lif2(self.conv2(self.lif1(self.conv1(x)))) + x

    network = jsnn.Network(Block(...))

The function is traced. `step` runs its program for one time step, and hands each neuron its state. `unroll` runs it
layer by layer: time and batch are one axis, `[T*B, ...]`, for all that has no memory, so that a layer is one large
matrix product or convolution for all steps, and only the neurons are scanned. What depends on a static input and on no
neuron is computed once.
"""

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr

from jsnn.neurons.calling import (
    call,
    free_name,
    neuron_of,
    neuron_p,
    outputs_so_far,
    split_operands,
    steps_in_first_axis,
)
from jsnn.neurons.shapes import check_order, described
from jsnn.program import Atom, Operation, Program, bodies, called, flatten, read, shape_of, trace
from jsnn.types import Array, Inputs, Neuron, RunPart, Shape, State
from jsnn.unroll import count_steps, of_step, over_time

States: TypeAlias = dict[str, State]  # one for each call of a neuron, by its name

_RANDOM = ("random_", "threefry", "rng_")
# the parameters of operations that say what they do; others are shapes, functions and programs
_MEANING = (
    "axes", "axis", "broadcast_dimensions", "dimension", "dimension_numbers", "dimensions", "direction", "exponent",
    "feature_group_count", "index_dtype", "mode", "name", "new_dtype", "permutation", "reverse", "window_strides", "y",
)  # fmt: skip


class Network(nnx.Module):
    """A function of one time step that calls its neurons like layers. Itself a Neuron.

    In the function, `self.lif(x)` is the output of a neuron at this time step. Everything that JAX traces may stand
    around it: skip connections, branches, concatenation, attention, layers used twice, control flow with no neuron in
    it. The function takes `[B, ...]` and must treat all samples of a batch alike, since `unroll` gives it
    `[T*B, ...]`. So `nnx.BatchNorm` in training sees the statistics of all time steps and updates its averages once.

    A neuron is named by its attribute path, such as `"blocks.0.lif1"`, and one of a plain function by its position and
    class, `"0_LIF"`. Each call has a state of its own: the second call of the same object is `"lif1:2"`.

    Args:
        function: an `nnx.Module`, or a function of one array, or of several in a dict or another pytree; so may be
            what it returns. What you want to train must be part of a module.

    Raises:
        TypeError: if `function` is neither a module nor a function.
        ValueError: from `init` and `unroll`, if a neuron is called inside a loop or a branch of JAX (`lax.scan`,
            `lax.cond`) or with what does not depend on the input, if the function does not return arrays, or if it
            does not keep the batch axis.

    >>> import jax.numpy as jnp, jsnn
    >>> from flax import nnx
    >>> class Block(nnx.Module):
    ...     def __init__(self, rngs):
    ...         self.linear, self.lif = nnx.Linear(4, 4, rngs=rngs), jsnn.LIF(0.9)
    ...
    ...     def __call__(self, x):
    ...         return self.lif(self.linear(x)) + x
    >>> network = jsnn.Network(Block(nnx.Rngs(0)))
    >>> state, outputs = jsnn.unroll(network, jnp.ones((10, 2, 4)))
    >>> outputs.shape, list(state)
    ((10, 2, 4), ['lif'])
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        if isinstance(function, type):
            raise TypeError(f"Network takes a module or a function, got the class {function.__name__}: make one")
        if not callable(function):
            raise TypeError(f"Network takes a module or a function of one array, got {type(function).__name__}")
        self.function = function
        self.order = tuple(_defined(function))

    def __call__(self, x: Inputs) -> Any:
        """What stands for the output at one time step, while a `jsnn.Network` is traced; see `jsnn.neurons.call`."""
        return call(self, x)

    is_layered = True

    def one_step(self, x: Any) -> Any:
        """The function of one time step: what is traced. In it, neurons are called like layers."""
        return shown("output", self.function(x))

    def pack(self, states: States) -> State:
        """The state of the network, made of those of its neurons."""
        return states

    def unpack(self, state: State) -> States:
        """The states of its neurons by name."""
        return state

    def init(self, shape: Any, dtype: Any = jnp.float32) -> State:
        """The state before the first step, for inputs of `shape`, `[B, ...]`; of several inputs, a pytree of shapes."""
        traced = trace_network(self, described(shape, dtype))
        values, states = traced.parameters(), {}
        for found in traced.calls.values():
            x = found.x(traced.program.types.__getitem__)
            states[found.name] = found.neuron(values).init(
                jax.tree.map(jnp.shape, x), jnp.result_type(dtype, *(x.dtype for x in jax.tree.leaves(x)))
            )
        return self.pack(states)

    def step(self, state: State, current: Any) -> tuple[State, Any]:
        """One time step, `current` `[B, ...]`."""
        states = self.unpack(state)
        check_order(self, state, current)
        traced = trace_network(self, current)
        states, outputs, _ = traced.run_step(traced.checked(states), current)
        return self.pack(states), outputs

    def run_layers(self, state: State, inputs: Any, num_steps: int | None, run_part: RunPart) -> tuple[State, Any]:
        """All time steps, layer by layer; see `jsnn.types.Layered`.

        Where time cannot join the batch, all runs step by step: for a vector, which has no batch axis, and where the
        function gives a neuron something with another first axis.
        """
        x, steps = of_step(inputs, num_steps), count_steps(inputs, num_steps)
        single = trace_network(self, x)
        states = single.checked(self.unpack(state))
        traced = _trace_all_steps(single, x, steps)
        if traced is None:
            states, outputs = _run_step_by_step(single, states, over_time(inputs, num_steps), run_part)
            return self.pack(states), outputs
        batch, program = _batch_of(x), traced.program

        def fold(x: Array) -> Array:
            """`[T, B, ...] -> [T*B, ...]`"""
            return x.reshape(-1, *x.shape[2:])

        def unfold(x: Array) -> Array:
            """`[T*B, ...] -> [T, B, ...]`"""
            return x.reshape(steps, *batch, *x.shape[1:])

        axes = _static_values(single.program, traced, steps, batch) if num_steps is not None else None
        if axes is None:
            axes, single = {}, traced
            values = traced.values(list(map(fold, jax.tree.leaves(over_time(inputs, num_steps)))))
        else:
            values = traced.values(jax.tree.leaves(inputs))

        @functools.cache
        def tiled(atom: int) -> Array:
            """A static value with the axis `[T*B]` in the place of `[B]`."""
            x, axis = values[atom], axes[atom]
            x = jnp.broadcast_to(jnp.expand_dims(x, axis), (*x.shape[:axis], steps, *x.shape[axis:]))
            return x.reshape(program.types[atom].shape)

        def take(atom: Atom) -> Any:
            return tiled(atom) if axes.get(atom, -1) >= 0 else read(values, atom)  # type: ignore[arg-type]

        def at_steps(atoms: Any) -> tuple[Any, int | None]:
            """Values as `run_part` takes them, and for how many steps they stay the same."""
            if all(atom in axes for atom in jax.tree.leaves(atoms)):
                return jax.tree.map(values.__getitem__, atoms), steps
            return jax.tree.map(lambda atom: unfold(take(atom)), atoms), None

        for index, operation in enumerate(program.operations):
            if index in traced.calls:
                found = traced.calls[index]
                name, neuron = found.name, found.neuron(values)
                states[name], y = run_part(name, neuron, states[name], *at_steps(found.x()))
                traced.take_changes(found, neuron, values)
                values.update(zip(operation.outputs, map(fold, jax.tree.leaves(y)), strict=True))
            elif axes.keys() >= set(operation.outputs):
                single.program.operations[index].run(values)
            else:
                operation.run(values, take)
            if operation.name == "name" and _is_shown(operation, traced, steps, batch, axes):
                run_part(operation.params["name"], None, (), *at_steps(operation.outputs[0]))
        traced.write_back(values)
        return self.pack(states), traced.outputs(values, lambda atom: unfold(take(atom)))


def _trace_all_steps(single: "Traced", x: Any, steps: int) -> "Traced | None":
    """The program for all time steps at once, `[T*B, ...]`; None where neurons or outputs have no such first axis."""
    batch = _batch_of(x)
    if not batch or not steps:
        return None
    first = (steps * batch[0],)
    folded = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*first, *x.shape[1:]), x.dtype), x)
    try:
        traced = trace_network(single.network, folded, folded=(steps, batch))
    except (TypeError, ValueError):  # for one time step it is right
        return None

    def atoms_of(traced: Traced) -> list[Atom]:
        inputs = [atom for call in traced.calls.values() for atom in jax.tree.leaves(call.x())]
        return [*inputs, *traced.program.outputs[: traced.structure.num_leaves]]

    shapes, wanted = ([shape_of(traced.program, atom) for atom in atoms_of(traced)] for traced in (traced, single))
    is_folded = all(shape[:1] == batch for shape in wanted) and shapes == [(*first, *shape[1:]) for shape in wanted]
    return traced if is_folded else None


def _static_values(single: Program, traced: "Traced", steps: int, batch: Shape) -> dict[int, int] | None:
    """The values that stay the same at every step, with the axis along which they are tiled for all steps, -1 for none.

    None where that cannot be told: the program for all steps is another, or has the batch in several axes.
    """
    program = traced.program
    if not _are_alike(single, program):
        return None
    made = [traced.calls[index].operation for index in traced.calls]
    made += [operation for operation in program.operations if operation.name.startswith(_RANDOM)]
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
    """Whether two programs have the same operations with the same wires, and differ in shapes alone."""

    def wires(operation: Operation) -> Any:
        atoms = [atom if isinstance(atom, int) else None for atom in operation.inputs]
        params = {key: value for key, value in operation.params.items() if key in _MEANING}
        return operation.name, atoms, operation.outputs, str(params)

    return [wires(operation) for operation in one.operations] == [wires(operation) for operation in other.operations]


def _is_shown(operation: Operation, traced: "Traced", steps: int, batch: Shape, axes: Mapping[int, Any]) -> bool:
    """Whether a named value can be shown: it is static, or has the axis `[T*B]`."""
    value = operation.outputs[0]
    return value in axes or traced.program.types[value].shape[:1] == (steps * batch[0],)


def _run_step_by_step(traced: "Traced", before: States, inputs: Any, run_part: RunPart) -> tuple[States, Any]:
    """All time steps, one after another; then each part with all that it was given, to be looked at."""

    def step(states: States, x: Any) -> tuple[States, Any]:
        states, outputs, given = traced.run_step(dict(states), x)
        return states, (outputs, given)

    states, (outputs, given) = jax.lax.scan(step, before, inputs)
    values = traced.parameters()
    calls = {call.name: call for call in traced.calls.values()}
    for name, x in zip(traced.parts, given, strict=True):
        run_part(name, calls[name].neuron(values) if name in calls else None, before.get(name, ()), x, None)
    return states, outputs


def check_tuple(state: State, length: int, of_what: str) -> None:
    """Raise ValueError if a state is not a tuple of this length."""
    if not isinstance(state, tuple | list) or len(state) != length:
        raise ValueError(
            f"step takes (state, current), the state a tuple of {length}, one for each {of_what}, as init gives it; "
            f"got shapes {jax.tree.map(jnp.shape, state)}"
        )


def shown(name: str, y: Any) -> Any:
    """Return what a layer gives, named, so that `jsnn.record` shows it; of several arrays each behind its key."""

    def named(path: tuple[Any, ...], y: Any) -> Any:
        inner = jax.tree_util.keystr(path, simple=True, separator=".")
        return checkpoint_name(y, f"{name}.{inner}" if inner else name) if isinstance(y, jax.Array) else y

    return jax.tree_util.tree_map_with_path(named, y)


class Call(NamedTuple):
    """A neuron where it is called."""

    name: str
    operation: Operation

    @property
    def arrays(self) -> tuple[Atom, ...]:
        """Where the arrays of the neuron are."""
        return self.operation.inputs[self.operation.params["structure"].num_leaves :]

    def x(self, take: Callable[[int], Any] = int) -> Any:
        """Its input: what `take` gives for the number of each array; by default these numbers themselves."""
        structure = self.operation.params["structure"]
        return structure.unflatten(map(take, self.operation.inputs[: structure.num_leaves]))  # type: ignore[arg-type]

    def neuron(self, values: dict[int, Any]) -> Neuron:
        """The neuron, with its arrays."""
        return neuron_of(self.operation.params["tree"], [read(values, atom) for atom in self.arrays])


class Traced(NamedTuple):
    """A network's program for inputs of one shape."""

    network: Network
    variables: nnx.State
    program: Program  # takes the variables and the inputs, returns the outputs and the variables
    calls: dict[int, Call]  # by the positions of their operations
    structure: Any  # of the outputs

    @property
    def parts(self) -> list[str]:
        """The names of the neurons and of the named values, in the order in which they run."""
        named = {index: o.params["name"] for index, o in enumerate(self.program.operations) if o.name == "name"}
        return [name for _, name in sorted((named | {index: call.name for index, call in self.calls.items()}).items())]

    def parameters(self) -> dict[int, Any]:
        """What the neurons are made of, all that it depends on included."""
        inputs = [jnp.zeros(x.shape, x.dtype) for x in (self.program.types[value] for value in self.inputs)]
        values = self.values(inputs)
        arrays = [atom for found in self.calls.values() for atom in found.arrays]
        for index in sorted(self.program.needed_for(arrays)):
            self.program.operations[index].run(values)
        return values

    def run_step(self, states: States, current: Any) -> tuple[States, Any, list[Any]]:
        """One time step: the states, the outputs, and what each of the `parts` was given."""
        values, given = self.values(jax.tree.leaves(current)), []
        for index, operation in enumerate(self.program.operations):
            if index in self.calls:
                found = self.calls[index]
                x, neuron = found.x(values.__getitem__), found.neuron(values)
                given.append(x)
                states[found.name], y = neuron.step(states[found.name], x)
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
        """Which values are the inputs."""
        return self.program.inputs[len(jax.tree.leaves(self.variables)) :]

    def values(self, inputs: Collection[Any]) -> dict[int, Any]:
        """What is known before the program runs: the variables, and the arrays of the input."""
        leaves = [*jax.tree.leaves(self.variables), *inputs]
        return {**self.program.constants, **dict(zip(self.program.inputs, leaves, strict=True))}

    @property
    def owners(self) -> dict[int, str]:
        """The paths of the modules that hold the variables, such as `"blocks.0.conv1"`."""
        paths = [path for path, _ in nnx.to_flat_state(self.variables)]
        return dict(zip(self.program.inputs, (dotted(path[:-1]) for path in paths)))

    def outputs(self, values: dict[int, Any], take: Callable[[Atom], Any] | None = None) -> Any:
        """What the function returned."""
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
        """A copy of the states by name; raises ValueError if they are not those of this network."""
        names = [call.name for call in self.calls.values()]
        if not isinstance(states, dict) or sorted(states) != sorted(names):
            found = sorted(states) if isinstance(states, dict) else type(states).__name__
            raise ValueError(f"state must be a dict with a state for each of {', '.join(names)}, got {found}")
        return dict(states)


def trace_network(
    network: Network, x: Any, *, folded: tuple[int, Shape] | None = None, opens_all: bool = False
) -> Traced:
    """Return a network's program for inputs as `x`; calls without a neuron stay closed, unless all are opened.

    `folded` says that the first axis of `x` is of so many time steps and this batch.
    """
    graph: Any
    graph, variables = nnx.split(network)
    leaves, structure = jax.tree.flatten(variables)
    found: list[Any] = []

    def at_one_step(leaves: list[Array], x: Any) -> tuple[list[Any], list[Any]]:
        copy = nnx.merge(graph, jax.tree.unflatten(structure, leaves))
        for path, part in nnx.iter_graph(copy):
            if isinstance(part, Neuron) and dotted(path):
                with contextlib.suppress(AttributeError):  # a class with slots has no room for it
                    object.__setattr__(part, "_path", dotted(path))
        outputs, shape = jax.tree.flatten(_explained(copy.one_step, x, folded))
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

    x = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), x)
    batch = _batch_of(x)
    jaxpr, (outputs, _) = trace(at_one_step, leaves, x)
    if not outputs or (batch and any(y.shape[:1] != batch for y in outputs)):
        given, made = jax.tree.map(jnp.shape, x), ", ".join(str(y.shape) for y in outputs) or "nothing"
        raise ValueError(f"a network must return arrays with the batch axis of its input {given}, it returned {made}")
    _refuse_custom_derivatives(jaxpr)
    program = flatten(jaxpr, lambda _, inner: opens_all or _first_neuron(inner) is not None)
    return Traced(network, variables, program, _calls(program, program.inputs[len(leaves) :]), found[-1])


def _batch_of(x: Any) -> Shape:
    """The batch axis of an input at one time step, `(B,)`; `()` for a single vector or number, which has none."""
    shapes = [x.shape for x in jax.tree.leaves(x)]
    if len(shapes) == 1 and len(shapes[0]) < 2:
        return ()
    if len({shape[:1] for shape in shapes}) > 1 or () in shapes:
        raise ValueError(f"all inputs of a network must have the same batch axis, got {jax.tree.map(jnp.shape, x)}")
    return shapes[0][:1]


def _holds_network(neuron: Neuron) -> bool:
    """Whether a neuron is a network, or has one in it."""
    return isinstance(neuron, nnx.Pytree) and any(isinstance(part, Network) for _, part in nnx.iter_graph(neuron))


def parts_of(network: Any, kinds: tuple[type, ...]) -> list[tuple[str, Any]]:
    """Return the parts of these kinds, but none within another, with their paths.

    In a `Network` they come in the order in which its module was defined, elsewhere in that of their positions.
    """
    ranks = {
        ".".join(filter(None, (dotted((*path, "function") if path else ()), name))): rank
        for path, part in nnx.iter_graph(network)
        for rank, name in enumerate(getattr(part, "order", ()) if isinstance(part, Network) else ())
    }

    def rank_of(path: str) -> list[int]:
        names = path.split(".")
        return [ranks.get(".".join(names[:end]), 0) for end in range(1, len(names) + 1)]

    found = {dotted(path): part for path, part in nnx.iter_graph(network) if path and isinstance(part, kinds)}
    outer = [path for path in found if not any(path.startswith(f"{other}.") for other in found)]
    return [(path, found[path]) for path in sorted(outer, key=rank_of)]


def neurons_of(network: Network) -> dict[str, Neuron]:
    """Return the neurons of a network, filters too, by the names that `jsnn.record` gives them.

    >>> import jsnn
    >>> list(neurons_of(jsnn.Sequential(jsnn.flatten, jsnn.Sequential(jsnn.LIF(0.9)), out=jsnn.LI(0.9))))
    ['1_Sequential/0_LIF', 'out']
    """
    layers: Any = network
    parts = zip(layers.names, layers.layers) if hasattr(network, "names") else parts_of(network, (Neuron,))
    found: dict[str, Neuron] = {}
    for name, part in parts:
        if isinstance(part, Network):
            found |= {f"{name}/{inner}": neuron for inner, neuron in neurons_of(part).items()}
        elif isinstance(part, Neuron):
            found[name] = part
    return found


def _defined(part: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The paths of all parts of a module in the order in which they are set, which Flax forgets when it copies one."""
    if isinstance(part, nnx.Pytree):
        yield ".".join(path)
        for name, inner in vars(part).items():
            if not name.startswith("_"):
                yield from _defined(inner, (*path, name))


def dotted(path: tuple[Any, ...]) -> str:
    """A path of attributes in a network as a name: the function in `Network(function)` goes without saying."""
    return ".".join(map(str, path[1:] if path[:1] == ("function",) else path))


def _explained(function: Callable[[Any], Any], x: Any, folded: tuple[int, Shape] | None) -> Any:
    """function(x), with an error that names the neurons whose outputs do not fit."""
    tokens = outputs_so_far.set([]), steps_in_first_axis.set(folded)
    try:
        return function(x)
    except jax.errors.ConcretizationTypeError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"the structure of a network cannot depend on values, which are not known when it is traced: choose with "
            f"jnp.where or jax.lax.cond, or loop with jax.lax.fori_loop, without a neuron inside ({reason})"
        ) from error
    except (TypeError, ValueError) as error:
        given = [("the input", shape) for shape in map(jnp.shape, jax.tree.leaves(x))] + outputs_so_far.get()
        if meant := [f"{name} has shape {shape}" for name, shape in given if str(shape) in str(error)]:
            raise ValueError(f"{error} Here {', '.join(meant)}") from error
        raise
    finally:
        outputs_so_far.reset(tokens[0])
        steps_in_first_axis.reset(tokens[1])


def _calls(program: Program, inputs: Collection[int]) -> dict[int, Call]:
    calls: dict[int, Call] = {}
    names: list[str] = []
    from_input = program.depending_on(inputs)
    for index, operation in enumerate(program.operations):
        for body in bodies(operation):
            if inside := _first_neuron(body):
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


def _refuse_custom_derivatives(jaxpr: ClosedJaxpr) -> None:
    """Raise ValueError if a neuron is called inside a function with a derivative of its own, which would be lost."""
    for equation in jaxpr.jaxpr.eqns:
        inner = called(equation)
        if inner is None or not (name := _first_neuron(inner)):
            continue
        if equation.primitive.name.startswith("custom_"):
            raise ValueError(
                f"{name} is called inside a function with a derivative of its own (jax.custom_vjp or jax.custom_jvp), "
                f"which would be lost: call it outside"
            )
        _refuse_custom_derivatives(inner)


def _first_neuron(jaxpr: ClosedJaxpr) -> str | None:
    """The class of a neuron that is called somewhere in a program; None where there is none."""
    for equation in jaxpr.jaxpr.eqns:
        if equation.primitive is neuron_p:
            return type(split_operands(equation.params, equation.invars)[1]).__name__
        inner = called(equation)
        for body in bodies(equation) if inner is None else [inner]:
            if found := _first_neuron(body):
                return found
    return None
