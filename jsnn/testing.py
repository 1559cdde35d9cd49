"""Checks for neurons of one's own."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.array_arguments import is_neuron
from jsnn.neurons.checks import is_key
from jsnn.neurons.pytree import map_parts
from jsnn.neurons.wrappers import RefractoryState
from jsnn.refusals import NEEDS_VALUES
from jsnn.types import Array, Layered, Neuron, Shape, State, TimeParallel
from jsnn.unrolling import unroll

__all__ = ["NeuronError", "check_neuron"]

_T, _B = 6, 2
_LONG, _LEVELS = 200, (10.0, 100.0, -100.0, 1e20, -1e20)  # steps and currents under which numbers may run away


class NeuronError(Exception):
    """What is wrong with a neuron, one line for each fault."""


def check_neuron(neuron: Neuron, shape: Shape = (4,)) -> None:
    """Raise an error that says what is wrong with a neuron, if anything is.

    It looks whether the neuron is a pytree with `init` and `step`; whether a state keeps its structure, shapes and
    dtypes from step to step, belongs to one example each along the batch axis, does not depend on the size of the
    batch, and is neither changed in place nor kept on the neuron; whether the output has the shape and the dtype of the
    current, bfloat16 among them; whether `init` and `step` are functions of their arguments alone, the same under
    `jit`, `vmap` and in an unroll (also in that of all steps at once) as by themselves, dense or convolutional; and
    whether all gradients are finite, also where an input is 0. A random neuron, with a key in its state, need not be
    the same under `vmap`. What shape and dtype come out of a network is up to its layers.

    A neuron, unlike a network, is also run for 200 steps under strong currents. A warning says so if a state is not
    finite under currents of up to 1e20 or a gradient under currents of up to 100: the model may be meant so.

    Args:
        neuron: what is to be checked.
        shape: that of one example's currents; parameters that are arrays must broadcast against it.

    Raises:
        NeuronError: it lists the faults, first those of `init`; those of `step` are looked for once `init` is right,
            and those under transformations and in gradients once a step is.

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> jsnn.testing.check_neuron(jsnn.LIF(0.9))
        >>> class Forgetful:
        ...     def init(self, shape, dtype=jnp.float32):
        ...         return jnp.zeros(shape, dtype)
        ...
        ...     def step(self, state, current):
        ...         return state.sum(), current
        >>> jsnn.testing.check_neuron(jax.tree_util.register_static(Forgetful)())
        Traceback (most recent call last):
            ...
        jsnn.testing.NeuronError: Forgetful: step turned a state float32[2,4] into float32[]
    """
    faults = dict.fromkeys(_faults(neuron, shape))  # each once
    if faults:
        raise NeuronError("\n".join(f"{type(neuron).__name__}: {fault}" for fault in faults))
    for fault in [] if isinstance(neuron, Layered) else _what_runs_away(neuron, shape):
        warnings.warn(f"{type(neuron).__name__}: {fault}", stacklevel=2)


def _faults(neuron: Any, shape: Shape) -> Iterator[str]:
    if not is_neuron(neuron):
        yield "it has no methods init(shape, dtype) and step(state, current), or is a class instead of an object"
        return
    random = np.random.default_rng(0)
    currents = random.uniform(-0.5, 1.5, (_T, _B, *shape))
    currents[random.uniform(size=currents.shape) < 0.25] = 0  # as where there are no spikes
    found = list(_faults_of_init(neuron, shape))
    if not found:
        state = neuron.init((_B, *shape), jnp.float32)
        found = list(_faults_of_a_step(neuron, state, jnp.asarray(currents[0], jnp.float32)))
    if any(leaf is neuron for leaf in jax.tree.leaves(neuron)):
        found.append(
            "it is not a pytree: make it an @nnx.dataclass of nnx.Pytree, or jax.tree_util.register_dataclass it"
        )
    if not found:
        found += _faults_of_transforms(neuron, state, jnp.asarray(currents, jnp.float32))
        found += _faults_of_gradients(neuron, state, jnp.asarray(currents, jnp.float32))
    yield from found


def _faults_of_init(neuron: Neuron, shape: Shape) -> Iterator[str]:
    try:
        state = neuron.init((_B, *shape), jnp.float32)
        before = _own(neuron)  # after a first call, which may have filled a cache
        again, wide = neuron.init((_B, *shape), jnp.float32), neuron.init((_B + 1, *shape), jnp.float32)
        low = neuron.init((_B, *shape), jnp.bfloat16)
    except Exception as error:
        yield f"init raised {_first_line(error)}"
        return
    if changed := _changes(before, _own(neuron)):
        yield f"init changed the neuron, its {changed}: what changes belongs into the state that it returns"
        return
    leaves = jax.tree.leaves(state)
    for leaf in leaves:
        if not isinstance(leaf, jax.Array | np.ndarray):
            yield f"init must return arrays, such as jnp.zeros(shape, dtype), got {leaf!r}"
            return
    if _structure(state) != _structure(wide):
        yield "the structure of the state depends on the batch size"
        return
    if not _same(again, state):
        yield "two calls of init give different states: to draw them, the neuron needs a key"
        return
    is_random = _has_key(neuron) or _has_key(state)
    for leaf, other in zip(leaves, jax.tree.leaves(wide)):
        if is_key(leaf):
            continue
        if leaf.shape[:1] != (_B,) or other.shape != (_B + 1, *leaf.shape[1:]):
            yield f"axis 0 of a state must be the batch, got shape {leaf.shape} for {_B} and {other.shape} for {_B + 1}"
        elif not is_random and not _same(leaf, other[:_B]):
            yield f"the state depends on the batch size: its numbers are others for {_B} examples than for {_B + 1}"
    if not isinstance(neuron, Layered):
        low = map_parts(low, lambda part: isinstance(part, RefractoryState), _as_given)
        for leaf, other in zip(leaves, jax.tree.leaves(low)):
            if jnp.issubdtype(leaf.dtype, jnp.floating) and (leaf.dtype, other.dtype) != (jnp.float32, jnp.bfloat16):
                yield f"a state must have the dtype given, got {leaf.dtype} for float32 and {other.dtype} for bfloat16"


def _as_given(state: RefractoryState) -> RefractoryState:
    """Return the state of a `Refractory`, which counts in float32 at least, in the dtype that it was given."""
    return state._replace(wait=state.wait.astype(jnp.bfloat16) if state.wait.dtype == jnp.float32 else state.wait)


def _faults_of_a_step(neuron: Neuron, state: State, current: Array) -> Iterator[str]:
    given = _copies(state)
    try:
        result: Any = neuron.step(state, current)
        before = _own(neuron)
        again = neuron.step(state, current)
    except Exception as error:
        yield f"step raised {_first_line(error)}"
        return
    if not _same(given, state):
        yield "step changed what it was given, its state, instead of returning a new one"
        return
    if changed := _changes(before, _own(neuron)):
        yield f"step changed what it was given, the neuron's {changed}: what changes belongs into the state"
        return
    if not isinstance(result, tuple | list) or len(result) != 2 or _structure(result) == _structure(state):
        yield f"step must return (state, output), got {type(result).__name__}({_types(result)})"
        return
    after, output = result
    if not jax.tree.leaves(output):
        yield f"step gave no output but {output!r}"
        return
    if _structure(after) != _structure(state) == _structure(output):
        yield "step returned (output, state): the order is (state, output)"
        return
    if _types(after) != _types(state) or _structure(after) != _structure(state):
        yield f"step turned a state {_types(state)} into {_types(after)}"
        return
    yield from _faults_of_values(neuron, after, output, current)
    if not _same(again, result):
        yield "two steps from one state with one current differ: randomness needs a key in the state"
        return
    yield from _faults_of_dtypes(neuron, state, current)


def _faults_of_values(neuron: Neuron, after: State, output: Any, current: Array) -> Iterator[str]:
    for leaf in jax.tree.leaves(output):
        if jnp.shape(leaf)[:1] != (_B,):
            yield f"an output of shape {jnp.shape(leaf)} has no batch axis of {_B} in front"
        elif leaf.shape != current.shape and not isinstance(neuron, Layered):
            yield f"an output must have the shape of the current, {current.shape}, got {leaf.shape}"
        if not np.isfinite(np.asarray(leaf, np.float32)).all():
            yield "an output is not finite"
    if any(np.isnan(np.asarray(_plain(leaf), np.float32)).any() for leaf in jax.tree.leaves(after)):
        yield "a state is NaN after a step"


def _faults_of_dtypes(neuron: Neuron, state: State, current: Array) -> Iterator[str]:
    low = neuron.init(current.shape, jnp.bfloat16)
    for given, dtype in ((state, jnp.bfloat16), (state, jnp.float32), (low, jnp.bfloat16)):
        try:
            after, output = jax.eval_shape(neuron.step, given, current.astype(dtype))
        except NEEDS_VALUES as error:
            yield (
                "step looks at the values of arrays (if, while, float(), a mask as an index), which jit does not have: "
                f"take jnp.where or jax.lax.cond ({_first_line(error)})"
            )
            return
        except Exception as error:
            yield f"under jit a step raised {_first_line(error)}"
            return
        if isinstance(neuron, Layered):
            continue
        if given is state and _types(after) != _types(given) == _types(output):  # in bfloat16 both would be of one type
            yield "step returned (output, state): the order is (state, output)"
            return
        found = {leaf.dtype for leaf in jax.tree.leaves(output)}
        if found != {jnp.dtype(dtype)}:
            names = ", ".join(sorted(map(str, found)))
            yield f"outputs must have the current's dtype, got {names} for {jnp.dtype(dtype)}: .astype(current.dtype)"
        if _types(after) != _types(given):
            yield (
                f"a current in {jnp.dtype(dtype)} turned a state {_types(given)} into {_types(after)}: "
                f"compute in the state's dtype, by current.astype(v.dtype) and numbers of Python, as float(np.exp(-1))"
            )


def _faults_of_transforms(neuron: Neuron, state: State, currents: Array) -> Iterator[str]:
    expected, outputs = state, []
    for current in currents:
        expected, output = neuron.step(expected, current)
        outputs.append(output)
    run = expected, jax.tree.map(lambda *steps: jnp.stack(steps), *outputs)
    step = neuron.step(state, currents[0])
    ways: dict[str, tuple[Callable[[], Any], Any, str]] = {
        "under jit": (lambda: jax.jit(neuron.step)(state, currents[0]), step, ""),
        "in an unroll": (lambda: unroll(neuron, currents), run, ""),
    }
    if isinstance(neuron, TimeParallel) and neuron.is_linear:
        ways["in an unroll by all_steps"] = (lambda: unroll(neuron, currents, method="parallel"), run, "")
    if not _has_key(state):
        alone = jax.tree.map(lambda leaf: leaf[:, None], (expected, currents[0], neuron.step(expected, currents[0])))
        cure = ": no example may see another, by a mean over axis 0, or by random numbers without a key in the state"
        ways["under vmap"] = (lambda: jax.vmap(neuron.step)(*alone[:2]), alone[2], cure)
    if not _has_key(state) and currents.ndim == 3:
        images = (
            jax.tree.map(lambda leaf: leaf[:, None, None], expected),
            jax.tree.map(lambda y: y[:, :, None, None], run[1]),
        )
        cure = ": currents may have any number of axes between the batch and the last"
        ways["after a convolution"] = (lambda: unroll(neuron, currents[:, :, None, None]), images, cure)
    for name, (way, wanted, cure) in ways.items():
        try:
            found = way()
        except Exception as error:
            yield f"{name} it raised {_first_line(error)}{cure}"
            continue
        if not _same(found, wanted, tolerance=1e-5):
            yield f"{name} it gives other numbers than step by step{cure}"


def _faults_of_gradients(neuron: Neuron, state: State, currents: Array) -> Iterator[str]:
    def loss(neuron: Neuron, state: State, currents: Array) -> Array:
        _, outputs = unroll(neuron, currents, state)
        return sum(jnp.sum(jnp.square(y.astype(jnp.float32))) for y in jax.tree.leaves(outputs))  # type: ignore[return-value]

    try:
        gradients = jax.grad(loss, (0, 1, 2), allow_int=True)(neuron, state, currents)
    except Exception as error:
        yield f"its gradient raised {_first_line(error)}"
        return
    for name, gradient in zip(("its parameters", "its state", "its currents"), gradients):
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
            if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(np.asarray(leaf, np.float32)).all():
                where = f" ({jax.tree_util.keystr(path)})" if path else ""
                yield f"a gradient for {name} is not finite{where}: mind sqrt, log and / at 0, also inside jnp.where"


def _what_runs_away(neuron: Neuron, shape: Shape) -> Iterator[str]:
    """Say under which strong currents a state or a gradient is not finite; each current is one example of a batch."""
    strong = jnp.asarray(_LEVELS, jnp.float32).reshape(1, -1, *[1] * len(shape))
    currents = jnp.broadcast_to(strong, (_LONG, len(_LEVELS), *shape))

    def total(currents: Array) -> tuple[Array, State]:
        state, outputs = unroll(neuron, currents)
        return sum(jnp.sum(y.astype(jnp.float32)) for y in jax.tree.leaves(outputs)), state  # type: ignore[return-value]

    gradient, state = jax.grad(total, has_aux=True)(currents)
    states = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    cures = {
        "state": "bound what grows, such as a square or an exponential, with jnp.clip",
        "gradient": "take a lower surrogate or detach_reset=True, if spikes multiply it, or say so in the docstring",
    }
    for name, leaves, levels in (("state", states, _LEVELS), ("gradient", [jnp.moveaxis(gradient, 1, 0)], _LEVELS[:3])):
        found = [
            f"{level:g}" for index, level in enumerate(levels) if not all(np.isfinite(x[index]).all() for x in leaves)
        ]
        if found:
            yield f"a {name} is not finite after {_LONG} steps under a current of {', '.join(found)}: {cures[name]}"


def _own(neuron: Neuron) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a neuron holds by name: its attributes, and copies of its arrays."""
    leaves = [(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(neuron) if leaf is not neuron]
    arrays = {jax.tree_util.keystr(path).lstrip("."): np.array(_plain(leaf)) for path, leaf in leaves}
    return dict(getattr(neuron, "__dict__", {})), arrays


def _changes(before: tuple[dict[str, Any], dict[str, Any]], after: tuple[dict[str, Any], dict[str, Any]]) -> str:
    """Return the names of what differs between two calls of `_own`."""
    nothing = object()
    names = {name for name in before[0] | after[0] if before[0].get(name, nothing) is not after[0].get(name, nothing)}
    return ", ".join(
        sorted(names | {name for name, array in after[1].items() if not _same(before[1].get(name), array)})
    )


def _copies(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.array(_plain(leaf)), tree)


def _has_key(tree: Any) -> bool:
    return any(map(is_key, jax.tree.leaves(tree)))


def _plain(leaf: Any) -> Any:
    """Return a key as the numbers that it stands for."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def _same(first: Any, second: Any, tolerance: float = 0.0) -> bool:
    """Return whether two pytrees hold the same numbers."""
    firsts, seconds = jax.tree.leaves(first), jax.tree.leaves(second)
    if len(firsts) != len(seconds):
        return False
    pairs = [(np.asarray(_plain(a), np.float64), np.asarray(_plain(b), np.float64)) for a, b in zip(firsts, seconds)]
    return all(a.shape == b.shape and np.allclose(a, b, tolerance, tolerance, equal_nan=True) for a, b in pairs)


def _structure(tree: Any) -> str:
    return str(jax.tree.structure(tree))


def _types(tree: Any) -> str:
    leaves = jax.tree.leaves(tree, is_leaf=lambda part: isinstance(part, nnx.Variable))
    return ", ".join(f"{jnp.result_type(leaf)}[{','.join(map(str, jnp.shape(leaf)))}]" for leaf in leaves)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
