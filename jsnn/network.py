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

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.errors import TraceContextError
from jax.ad_checkpoint import checkpoint_name

from jsnn.neurons.calling import dotted, first_name
from jsnn.neurons.pytree import FrozenPytree
from jsnn.neurons.shapes import check_order, described
from jsnn.program import Atom, Operation, read
from jsnn.tracing import States, Traced, batch_of, static_values, trace_all_steps, trace_network
from jsnn.types import Array, Neuron, RunPart, Shape, State
from jsnn.unrolling import count_steps, of_changes, of_step, over_time


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
            `lax.cond`), in a function with a derivative of its own, or with what does not depend on the input; if the
            function makes variables or changes attributes, does not return arrays, or does not keep the batch axis.

    Examples:
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

    __call__ = FrozenPytree.__call__
    __deepcopy__ = FrozenPytree.__deepcopy__

    is_layered = True

    def one_step(self, x: Any) -> Any:
        """Return the function of one time step: what is traced. In it, neurons are called like layers."""
        return shown("output", self.function(x))

    def pack(self, states: States) -> State:
        """Return the state of the network, made of those of its neurons."""
        return states

    def unpack(self, state: State) -> States:
        """Return the states of its neurons by name."""
        return state

    def init(self, shape: Any, dtype: Any = jnp.float32) -> State:
        """Return the state before the first step, for inputs of `shape`, `[B, ...]`.

        For several inputs, `shape` is a pytree of shapes.
        """
        traced = trace_network(self, described(shape, dtype))
        values, states = traced.parameters(), {}
        for found in traced.calls.values():
            x = found.x(traced.program.types.__getitem__)
            states[found.name] = found.neuron(values).init(
                jax.tree.map(jnp.shape, x), jnp.result_type(dtype, *(x.dtype for x in jax.tree.leaves(x)))
            )
        return self.pack(states)

    def step(self, state: State, current: Any) -> tuple[State, Any]:
        """Run one time step, `current` `[B, ...]`."""
        states = self.unpack(state)
        check_order(self, state, current)
        traced = trace_network(self, current)
        try:
            states, outputs, _ = traced.run_step(traced.checked(states), current)
        except TraceContextError as error:
            raise of_changes(error) from error
        return self.pack(states), outputs

    def run_layers(self, state: State, inputs: Any, num_steps: int | None, run_part: RunPart) -> tuple[State, Any]:
        """Run all time steps, layer by layer; see `jsnn.types.Layered`.

        Where time cannot join the batch, all runs step by step: for a vector, which has no batch axis, and where the
        function gives a neuron something with another first axis.
        """
        x, steps = of_step(inputs, num_steps), count_steps(inputs, num_steps)
        single = trace_network(self, x)
        states = single.checked(self.unpack(state))
        traced = trace_all_steps(single, x, steps)
        if traced is None:
            states, outputs = _run_step_by_step(single, states, over_time(inputs, num_steps), run_part)
            return self.pack(states), outputs
        batch, program = batch_of(x), traced.program

        def fold(x: Array) -> Array:
            """Fold time into the batch: `[T, B, ...] -> [T*B, ...]`."""
            return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])  # -1 says nothing of an empty one

        def unfold(x: Array) -> Array:
            """Unfold time from the batch: `[T*B, ...] -> [T, B, ...]`."""
            return x.reshape(steps, *batch, *x.shape[1:])

        axes = static_values(single.program, traced, steps, batch) if num_steps is not None else None
        if axes is None:
            axes, single = {}, traced
            values = traced.values(list(map(fold, jax.tree.leaves(over_time(inputs, num_steps)))))
        else:
            values = traced.values(jax.tree.leaves(inputs))

        @functools.cache
        def tiled(atom: int) -> Array:
            """Return a static value with the axis `[T*B]` in the place of `[B]`."""
            x, axis = values[atom], axes[atom]
            x = jnp.broadcast_to(jnp.expand_dims(x, axis), (*x.shape[:axis], steps, *x.shape[axis:]))
            return x.reshape(program.types[atom].shape)

        def take(atom: Atom) -> Any:
            return tiled(atom) if axes.get(atom, -1) >= 0 else read(values, atom)  # type: ignore[arg-type]

        def at_steps(atoms: Any) -> tuple[Any, int | None]:
            """Return values as `run_part` takes them, and for how many steps they stay the same."""
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


def _is_shown(operation: Operation, traced: Traced, steps: int, batch: Shape, axes: Mapping[int, Any]) -> bool:
    """Return whether a named value can be shown: it is static, or has the axis `[T*B]`."""
    value = operation.outputs[0]
    return value in axes or traced.program.types[value].shape[:1] == (steps * batch[0],)


def _run_step_by_step(traced: Traced, before: States, inputs: Any, run_part: RunPart) -> tuple[States, Any]:
    """Run all time steps one after another, then each part with all that it was given, to be looked at."""
    graph, variables = nnx.split(traced.network)
    structure: Any
    leaves, structure = jax.tree.flatten(variables)

    def step(carry: tuple[States, dict[int, Array]], x: Any) -> tuple[tuple[States, dict[int, Array]], Any]:
        before, changing = carry
        start = [changing.get(index, leaf) for index, leaf in enumerate(leaves)]
        network = nnx.merge(graph, structure.unflatten(start), copy=True)
        here = traced._replace(network=network, variables=structure.unflatten(start))
        states, outputs, given = here.run_step(dict(before), x)
        after = enumerate(jax.tree.leaves(nnx.split(network)[1]))
        return (states, {index: leaf for index, leaf in after if leaf is not start[index]}), (outputs, given)

    changed = jax.eval_shape(step, (before, {}), of_step(inputs, None))[0][1]
    carry = before, {index: leaves[index] for index in changed}
    (states, changed), (outputs, given) = jax.lax.scan(step, carry, inputs)
    if changed:
        nnx.update(traced.network, structure.unflatten([changed.get(index, leaf) for index, leaf in enumerate(leaves)]))
    values = traced.parameters()
    for (name, found), x in zip(traced.parts, given, strict=True):
        run_part(name, found and found.neuron(values), before[name] if found else (), x, None)
    return states, outputs


def check_tuple(state: State, length: int, of_what: str) -> None:
    """Raise ValueError if a state is not a tuple of this length."""
    if not isinstance(state, tuple | list) or len(state) != length:
        raise ValueError(
            f"step takes (state, current), the state a tuple of {length}, one for each {of_what}, as init gives it; "
            f"got shapes {jax.tree.map(jnp.shape, state)}"
        )


def shown(name: str, y: Any) -> Any:
    """Return the output of a layer under a name, by which `jsnn.record` shows it.

    Several arrays, in a dict or a tuple, are named by their keys as well: `"output.spikes"`, `"output.0"`.
    """

    def named(path: tuple[Any, ...], y: Any) -> Any:
        inner = jax.tree_util.keystr(path, simple=True, separator=".")
        return checkpoint_name(y, f"{name}.{inner}" if inner else name) if isinstance(y, jax.Array) else y

    return jax.tree_util.tree_map_with_path(named, y)


def parts_of(network: Any, kinds: tuple[type, ...]) -> list[tuple[str, Any]]:
    """Return the parts of these kinds, but none within another, with their paths.

    In a `Network` they come in the order in which its module was defined, elsewhere in that of their positions.
    """
    parts = ((path, part) for path, part in nnx.iter_graph(network) if path and not isinstance(part, type))
    found = {dotted(path): part for path, part in parts if isinstance(part, kinds)}
    outer = [path for path in found if not any(other != path and _is_within(path, other) for other in found)]
    ranks: dict[str, int] = {}
    for where, part in nnx.iter_graph(network):
        before = dotted((*where, "function") if where else ())
        for rank, name in enumerate(getattr(part, "order", ()) if isinstance(part, Network) else ()):
            ranks[f"{before}.{name}".strip(".")] = rank

    def prefixes(path: str) -> list[str]:
        names = path.split(".")
        return [".".join(names[:end]) for end in range(1, len(names) + 1)]

    for index, path in enumerate(outer):
        for prefix in prefixes(path):
            ranks.setdefault(prefix, index)
    return [(path, found[path]) for path in sorted(outer, key=lambda path: [ranks[p] for p in prefixes(path)])]


def _is_within(path: str, other: str) -> bool:
    return not other or path.startswith(f"{other}.")


def neurons_of(network: Network) -> dict[str, Neuron]:
    """Return the neurons of a network, filters too, by the names that `jsnn.record` gives them.

    Examples:
        >>> import jsnn
        >>> list(neurons_of(jsnn.Sequential(jsnn.flatten, jsnn.Sequential(jsnn.LIF(0.9)), out=jsnn.LI(0.9))))
        ['1_Sequential/0_LIF', 'out']
    """
    layers: Any = network
    parts = zip(layers.names, layers.layers) if hasattr(network, "names") else parts_of(network, (Neuron,))
    found: dict[str, Neuron] = {}
    for path, part in parts:
        name = path or first_name(part)
        if isinstance(part, Network):
            found |= {f"{name}/{inner}": neuron for inner, neuron in neurons_of(part).items()}
        elif isinstance(part, Neuron):
            found[name] = part
    return found


def _defined(part: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Return the paths of all parts of a module in the order in which they are set, which copies by Flax forget."""
    if isinstance(part, nnx.Pytree):
        yield ".".join(path)
        for name, inner in vars(part).items():
            if not str(name).startswith("_"):  # in a list, older Flax has numbers
                yield from _defined(inner, (*path, str(name)))
