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

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import ClosedJaxpr

from jsnn.neurons.call import call, neuron_of, neuron_p, outputs_so_far
from jsnn.neurons.shapes import check_order
from jsnn.program import Atom, Constant, Operation, Path, Program, bodies, called, flatten, read, trace
from jsnn.types import Array, Neuron, Shape, State
from jsnn.unroll import Method, Watch, over_time, run

NetworkState: TypeAlias = dict[str, State]  # one state for each call of a neuron, by its name


class Network(nnx.Module):
    """A function of one time step that calls its neurons like layers. Itself a Neuron.

    In the function, `self.lif(x)` is the output of a neuron at this time step. Everything that JAX traces may stand
    around it: skip connections, branches, concatenation, attention, layers used twice, control flow with no neuron in
    it. The function takes `[B, ...]` and must treat all samples of a batch alike, since `unroll` gives it
    `[T*B, ...]`. So `nnx.BatchNorm` in training sees the statistics of all time steps and updates its averages once.

    A neuron is named by its attribute path, such as `"blocks.0.lif1"`, and one of a plain function by its position and
    class, `"0_LIF"`. Each call has a state of its own: the second call of the same object is `"lif1:2"`.

    Args:
        function: an `nnx.Module`, or a function of one array. What is to be trained must be part of a module.

    Raises:
        TypeError: if `function` is none.
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

    def __init__(self, function: Callable[[Array], Any]) -> None:
        if isinstance(function, type):
            raise TypeError(f"Network takes a module or a function, got the class {function.__name__}: make one")
        if not callable(function):
            raise TypeError(f"Network takes a module or a function of one array, got {type(function).__name__}")
        self.function = function

    __call__ = call

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> NetworkState:
        """The state before the first step, for inputs of `shape`, `[B, ...]`."""
        traced = _trace(self.function, shape, dtype)
        program, values = traced.program, traced.values(jnp.zeros(shape, dtype))
        arrays = [atom for call in traced.calls.values() for atom in call.inputs[1:]]
        for index in sorted(program.needed_for(arrays)):
            _compute(program.operations[index], values)
        inputs = {call.name: program.types[call.inputs[0]] for call in traced.calls.values()}  # type: ignore[index]
        return {
            call.name: call.neuron(values).init(inputs[call.name].shape, inputs[call.name].dtype)
            for call in traced.calls.values()
        }

    def step(self, state: NetworkState, current: Array) -> tuple[NetworkState, Any]:
        """One time step, `current` `[B, ...]`."""
        check_order(self, state, current)
        traced = _trace(self.function, current.shape, current.dtype)
        traced.check_state(state)
        values, after = traced.values(current), dict(state)
        for index, operation in enumerate(traced.program.operations):
            if index in traced.calls:
                call = traced.calls[index]
                after[call.name], values[operation.outputs[0]] = call.neuron(values).step(
                    state[call.name], read(values, call.inputs[0])
                )
            else:
                _compute(operation, values)
        traced.write_back(values)
        return after, traced.outputs(values)


@run.register
def _run_network(
    network: Network,
    state: NetworkState,
    inputs: Array,
    num_steps: int | None,
    watch: Watch | None = None,
    method: Method = "auto",
) -> tuple[NetworkState, Any]:
    """Layer by layer, time and batch as one axis."""
    shape = inputs.shape if num_steps is not None else inputs.shape[1:]
    if not shape:
        raise ValueError("Network takes [B, ...] at each time step, got a number: give it a batch axis")
    steps = len(inputs) if num_steps is None else num_steps
    single = _trace(network.function, shape, inputs.dtype)  # for what is static
    single.check_state(state)
    if not steps:
        return state, jax.tree.map(lambda y: jnp.zeros((0, *y.shape), y.dtype), single.described_outputs())
    traced = _trace(network.function, (steps * shape[0], *shape[1:]), inputs.dtype)  # for what varies in time
    is_same = [o.name for o in single.program.operations] == [o.name for o in traced.program.operations]
    if num_steps is None or not is_same:  # a function that asks for the size of its batch may have another program
        single, static = traced, False
        x = over_time(inputs, num_steps)
        values = traced.values(x.reshape(steps * shape[0], *shape[1:]))
    else:
        static, values = True, traced.values(inputs)
    varying: set[int] = set() if static else traced.program.depending_on({traced.program.inputs[-1]})
    tiled: dict[int, Array] = {}

    def take(atom: Atom) -> Any:
        """A value with the axis `[T*B]`, where it has one."""
        if isinstance(atom, Constant) or atom in varying:
            return read(values, atom)
        if single.program.types[atom].shape == traced.program.types[atom].shape:
            return values[atom]
        if atom not in tiled:
            tiled[atom] = _fold(over_time(values[atom], steps))
        return tiled[atom]

    after = dict(state)
    for index, operation in enumerate(traced.program.operations):
        if index in traced.calls:
            call = traced.calls[index]
            is_static = static and call.inputs[0] not in varying
            x = read(values, call.inputs[0])
            x, count = (x, steps) if is_static else (_unfold(x, steps), None)
            neuron = call.neuron(values)
            if watch is None:
                after[call.name], y = run(neuron, state[call.name], x, count, method=method)
            else:
                after[call.name], y = watch.run(call.name, neuron, state[call.name], x, count)
            values[operation.outputs[0]] = _fold(y)
            varying |= set(operation.outputs)
        elif any(atom in varying for atom in operation.inputs if isinstance(atom, int)):
            _compute(operation, values, take)
            varying |= set(operation.outputs)
        else:
            _compute(single.program.operations[index], values)
    traced.write_back(values)
    outputs = traced.outputs(values, lambda atom: _unfold(take(atom), steps))
    if watch is not None and isinstance(outputs, jax.Array):
        watch.keep("output", outputs)
    return after, outputs


class _Call(NamedTuple):
    """A neuron where it is called."""

    name: str
    tree: Any
    inputs: tuple[Atom, ...]  # its input, and then its arrays

    def neuron(self, values: dict[int, Any]) -> Neuron:
        """The neuron, with its arrays."""
        return neuron_of(self.tree, [read(values, atom) for atom in self.inputs[1:]])


class _Traced(NamedTuple):
    """A network's program for inputs of one shape."""

    function: Any
    variables: Any  # of the module, as nnx.split gives them
    program: Program  # takes the variables and the input, returns the outputs and the variables
    calls: dict[int, _Call]  # by the positions of their operations
    structure: Any  # of the outputs

    def values(self, x: Array) -> dict[int, Any]:
        """What is known before the program runs."""
        leaves = [*jax.tree.leaves(self.variables), x]
        return {**self.program.constants, **dict(zip(self.program.inputs, leaves, strict=True))}

    def described_outputs(self) -> Any:
        """The shapes and dtypes of the outputs."""
        return self.outputs({}, lambda atom: self.program.types[atom])  # type: ignore[index]

    def outputs(self, values: dict[int, Any], take: Callable[[Atom], Any] | None = None) -> Any:
        """What the function returned."""
        atoms = self.program.outputs[: self.structure.num_leaves]
        return self.structure.unflatten([take(atom) if take else read(values, atom) for atom in atoms])

    def write_back(self, values: dict[int, Any]) -> None:
        """Give the module the variables that its function has changed, such as running averages."""
        before = self.program.inputs[:-1]
        after = self.program.outputs[self.structure.num_leaves :]
        changed = (
            {
                path: variable.replace(read(values, new))
                for (path, variable), old, new in zip(nnx.to_flat_state(self.variables), before, after, strict=True)
                if new != old
            }
            if before
            else {}
        )
        if changed:
            nnx.update(self.function, nnx.from_flat_state(changed))

    def check_state(self, state: NetworkState) -> None:
        """Raise ValueError if a state is not one of this network."""
        names = [call.name for call in self.calls.values()]
        if not isinstance(state, dict) or sorted(state) != sorted(names):
            found = sorted(state) if isinstance(state, dict) else type(state).__name__
            raise ValueError(f"state must be a dict with a state for each of {', '.join(names)}, got {found}")


def _trace(function: Callable[[Array], Any], shape: Shape, dtype: Any) -> _Traced:
    is_module = isinstance(function, nnx.Pytree)
    graph: Any
    graph, variables = nnx.split(function) if is_module else (None, ())
    leaves, structure = jax.tree.flatten(variables)
    found: list[Any] = []

    def at_one_step(leaves: list[Array], x: Array) -> tuple[list[Any], list[Any]]:
        module = nnx.merge(graph, jax.tree.unflatten(structure, leaves)) if is_module else function
        for path, part in nnx.iter_graph(module) if is_module else ():
            if isinstance(part, Neuron) and path:
                object.__setattr__(part, "_path", ".".join(map(str, path)))
        outputs, shape = jax.tree.flatten(_explained(module, x))
        found.append(shape)
        return outputs, jax.tree.leaves(nnx.split(module)[1]) if is_module else []

    x = jax.ShapeDtypeStruct(shape, dtype)
    jaxpr, (outputs, _) = trace(at_one_step, leaves, x)
    if not outputs or any(y.shape[:1] != shape[:1] for y in outputs):
        shapes = ", ".join(str(y.shape) for y in outputs) or "nothing"
        raise ValueError(f"a network must return arrays with the batch axis of its input {shape}, it returned {shapes}")
    program = flatten(jaxpr, _paths_to_neurons(jaxpr))
    return _Traced(function, variables, program, _calls(program), found[-1])


def _explained(function: Callable[[Array], Any], x: Array) -> Any:
    """function(x), with an error that names the neurons whose outputs do not fit."""
    token = outputs_so_far.set([])
    try:
        return function(x)
    except (TypeError, ValueError) as error:
        given = [("the input", x.shape), *outputs_so_far.get()]
        if meant := [f"{name} has shape {shape}" for name, shape in given if str(shape) in str(error)]:
            raise ValueError(f"{error} Here {', '.join(meant)}") from error
        raise
    finally:
        outputs_so_far.reset(token)


def _calls(program: Program) -> dict[int, _Call]:
    calls: dict[int, _Call] = {}
    names: dict[str, int] = {}
    from_input = program.depending_on({program.inputs[-1]})
    for index, operation in enumerate(program.operations):
        for body in bodies(operation):
            if inside := _first_neuron(body):
                raise ValueError(
                    f"{inside} is called inside {operation.name}, in which its state would be lost: call it outside of "
                    f"loops and branches of JAX, and let jsnn.unroll run time"
                )
        if operation.equation.primitive is neuron_p:
            tree = operation.params["tree"]
            name = _name_of(tree, len(calls))
            names[name] = names.get(name, 0) + 1
            if operation.inputs[0] not in from_input:
                raise ValueError(f"{name} must be given what depends on the input of the network")
            numbered = name if names[name] == 1 else f"{name}:{names[name]}"
            calls[index] = _Call(numbered, tree, operation.inputs)
    return calls


def _name_of(tree: Any, position: int) -> str:
    neuron = neuron_of(tree, [None] * tree.num_leaves)
    return getattr(neuron, "_path", f"{position}_{type(neuron).__name__}")


def _first_neuron(jaxpr: ClosedJaxpr) -> str | None:
    """The class of a neuron that is called somewhere in a program; None where there is none."""
    for equation in jaxpr.jaxpr.eqns:
        if equation.primitive is neuron_p:
            return type(neuron_of(equation.params["tree"], [None] * equation.params["tree"].num_leaves)).__name__
        inner = called(equation)
        for body in bodies(equation) if inner is None else [inner]:
            if found := _first_neuron(body):
                return found
    return None


def _paths_to_neurons(jaxpr: ClosedJaxpr, path: Path = ()) -> set[Path]:
    """The calls in which neurons are called."""
    paths: set[Path] = set()
    for index, equation in enumerate(jaxpr.jaxpr.eqns):
        inner = called(equation)
        if inner is not None and _first_neuron(inner):
            paths |= {(*path, index)} | _paths_to_neurons(inner, (*path, index))
    return paths


def _compute(operation: Operation, values: dict[int, Any], take: Callable[[Atom], Any] | None = None) -> None:
    arguments = [take(atom) if take else read(values, atom) for atom in operation.inputs]
    values.update(zip(operation.outputs, operation(*arguments), strict=True))


def _fold(x: Array) -> Array:
    """`[T, B, ...] -> [T*B, ...]`"""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _unfold(x: Array, steps: int) -> Array:
    """`[T*B, ...] -> [T, B, ...]`"""
    return x.reshape(steps, x.shape[0] // steps, *x.shape[1:])
