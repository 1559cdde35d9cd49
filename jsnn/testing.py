"""Checks for neurons of one's own."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.types import Array, Neuron, Shape, State
from jsnn.unroll import unroll

__all__ = ["NeuronError", "check_neuron"]

_T, _B = 6, 2


class NeuronError(Exception):
    """What is wrong with a neuron, one line for each fault."""


def check_neuron(neuron: Neuron, shape: Shape = (4,)) -> None:
    """Says what is wrong with a neuron, if anything is.

    It looks whether the neuron is a pytree with `init` and `step`; whether a state keeps its structure, shapes and
    dtypes from step to step, belongs to one example each along the batch axis, and is never changed in place; whether
    the output has the dtype of the current, bfloat16 among them; whether `step` is a function of its arguments alone,
    the same under `jit`, `vmap` and in an unroll as by itself, dense or convolutional; and whether all gradients are
    finite. A random neuron, with a key in its state, need not be the same under `vmap`.

    Args:
        neuron: what is to be checked.
        shape: that of one example's currents; parameters that are arrays must broadcast against it.

    Raises:
        NeuronError: it lists the faults; those behind a fault that nothing can be tried with are not looked for.

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
    faults = list(_faults(neuron, shape))
    if faults:
        raise NeuronError("\n".join(f"{type(neuron).__name__}: {fault}" for fault in faults))


def _faults(neuron: Any, shape: Shape) -> Iterator[str]:
    if isinstance(neuron, type) or not isinstance(neuron, Neuron):
        yield "it has no methods init(shape, dtype) and step(state, current), or is a class instead of an object"
        return
    leaves = jax.tree.leaves(neuron)
    if any(leaf is neuron for leaf in leaves):
        yield "it is no pytree: derive it with @nnx.dataclass from nnx.Pytree, or jax.tree_util.register_dataclass it"
        return
    currents = jnp.asarray(np.random.default_rng(0).uniform(-0.5, 1.5, (_T, _B, *shape)), jnp.float32)
    try:
        state = neuron.init((_B, *shape), jnp.float32)
        wide = jax.eval_shape(lambda: neuron.init((_B + 1, *shape), jnp.float32))
        low = jax.eval_shape(lambda: neuron.init((_B, *shape), jnp.bfloat16))
        before, own = _copies(state), _copies(neuron)
        after, output = neuron.step(state, currents[0])
    except Exception as error:
        yield f"init or a step raised {type(error).__name__}: {error}"
        return
    yield from _faults_of_a_state(state, wide, low)
    if _types(after) != _types(state):
        yield f"step turned a state {_types(state)} into {_types(after)}"
        return
    if not _same(before, state) or not _same(own, neuron):
        yield "step changed what it was given, its state or the neuron, instead of returning a new state"
        return
    yield from _faults_of_an_output(neuron, state, output, currents[0])
    again = neuron.step(state, currents[0])
    if not _same(again, (after, output)):
        yield "two steps from one state with one current differ: randomness needs a key in the state"
        return
    yield from _faults_of_transforms(neuron, state, currents)
    yield from _faults_of_gradients(neuron, state, currents)


def _faults_of_a_state(state: State, wide: State, low: State) -> Iterator[str]:
    if str(jax.tree.structure(state)) != str(jax.tree.structure(wide)):
        yield "the structure of the state depends on the batch size"
        return
    for leaf, other in zip(jax.tree.leaves(state), jax.tree.leaves(wide)):
        if leaf.shape != other.shape and other.shape != (_B + 1, *leaf.shape[1:]):
            yield f"axis 0 of a state must be the batch, got shape {leaf.shape} for {_B} and {other.shape} for {_B + 1}"
    for leaf, other in zip(jax.tree.leaves(state), jax.tree.leaves(low)):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and (leaf.dtype, other.dtype) != (jnp.float32, jnp.bfloat16):
            yield f"a state must have the dtype given, got {leaf.dtype} for float32 and {other.dtype} for bfloat16"


def _faults_of_an_output(neuron: Neuron, state: State, output: Any, current: Array) -> Iterator[str]:
    for leaf in jax.tree.leaves(output):
        if leaf.shape[:1] != (_B,):
            yield f"an output of shape {leaf.shape} has no batch axis of {_B} in front"
        if not np.isfinite(np.asarray(leaf, np.float32)).all():
            yield "an output is not finite"
    for dtype in (jnp.bfloat16, jnp.float32):
        after, low = jax.eval_shape(neuron.step, state, current.astype(dtype))
        found = {leaf.dtype for leaf in jax.tree.leaves(low)}
        if found != {jnp.dtype(dtype)}:
            yield f"outputs must have the current's dtype, got {_names(found)} for {jnp.dtype(dtype)}"
        if _types(after) != _types(state):
            yield f"a current in {jnp.dtype(dtype)} turned a state {_types(state)} into {_types(after)}"


def _faults_of_transforms(neuron: Neuron, state: State, currents: Array) -> Iterator[str]:
    expected, outputs = state, []
    for current in currents:
        expected, output = neuron.step(expected, current)
        outputs.append(output)
    stacked = jax.tree.map(lambda *steps: jnp.stack(steps), *outputs)
    ways: dict[str, tuple[Callable[[], Any], Any]] = {
        "under jit": (lambda: jax.jit(neuron.step)(state, currents[0]), neuron.step(state, currents[0])),
        "in an unroll": (lambda: unroll(neuron, currents), (expected, stacked)),
    }
    if not any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state)):
        ways["under vmap"] = (lambda: jax.vmap(neuron.step)(expected, currents[0]), neuron.step(expected, currents[0]))
        spread = jax.tree.map(lambda leaf: leaf[:, None, None], (expected, currents[0]))
        images = jax.tree.map(lambda leaf: leaf[:, None, None], neuron.step(expected, currents[0]))
        ways["after a convolution"] = (lambda: neuron.step(*spread), images)
    for name, (way, wanted) in ways.items():
        try:
            found = way()
        except Exception as error:
            yield f"{name} it raised {type(error).__name__}: {error}"
            continue
        if not _same(found, wanted, tolerance=1e-5):
            yield f"{name} it gives other numbers than step by step"


def _faults_of_gradients(neuron: Neuron, state: State, currents: Array) -> Iterator[str]:
    def loss(neuron: Neuron, state: State, currents: Array) -> Array:
        _, outputs = unroll(neuron, currents, state)
        return sum(jnp.sum(jnp.square(y.astype(jnp.float32))) for y in jax.tree.leaves(outputs))  # type: ignore[return-value]

    try:
        gradients = jax.grad(loss, (0, 1, 2), allow_int=True)(neuron, state, currents)
    except Exception as error:
        yield f"its gradient raised {type(error).__name__}: {error}"
        return
    for name, gradient in zip(("its parameters", "its state", "its currents"), gradients):
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
            if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(np.asarray(leaf, np.float32)).all():
                yield f"a gradient for {name} is not finite{f' ({jax.tree_util.keystr(path)})' if path else ''}"


def _copies(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.array(_plain(leaf)), tree)


def _plain(leaf: Any) -> Any:
    """A key as the numbers that it stands for."""
    is_random_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_random_key else leaf


def _same(first: Any, second: Any, tolerance: float = 0.0) -> bool:
    """Whether two pytrees hold the same numbers."""
    firsts, seconds = jax.tree.leaves(first), jax.tree.leaves(second)
    if len(firsts) != len(seconds):
        return False
    pairs = [(np.asarray(_plain(a), np.float64), np.asarray(_plain(b), np.float64)) for a, b in zip(firsts, seconds)]
    return all(a.shape == b.shape and np.allclose(a, b, tolerance, tolerance, equal_nan=True) for a, b in pairs)


def _types(tree: Any) -> str:
    leaves = jax.tree.leaves(tree, is_leaf=lambda part: isinstance(part, nnx.Variable))
    return ", ".join(f"{jnp.result_type(leaf)}[{','.join(map(str, jnp.shape(leaf)))}]" for leaf in leaves)


def _names(dtypes: set[Any]) -> str:
    return ", ".join(sorted(map(str, dtypes)))
