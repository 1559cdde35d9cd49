"""Shapes that fit: of a neuron's parameters, its state and its input; and what is said of a call in another form."""

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.neurons.checks import is_key
from jsnn.types import Array, Layered, Neuron, Parameter, Shape, State, as_shape


def refuse_call(network: Any, *args: Any, **kwargs: Any) -> NoReturn:
    """Raise TypeError with what to do instead: the `__call__` of neurons and networks, whose state is an argument."""
    name = type(network).__name__
    raise TypeError(
        f"{name} is not called, as its state is passed in and out: `state, outputs = jsnn.unroll(network, inputs)` runs"
        f" it over time, and `state, output = network.step(state, x)` for a step, from `state = network.init(x.shape)`;"
        f" in a jsnn.Network it is called with its input alone"
    )


def refuse_hash(part: Any) -> NoReturn:
    """Raise TypeError with what to do instead: the `__hash__` of neurons, which hold arrays."""
    name = type(part).__name__
    raise TypeError(
        f"{name} is unhashable, so no key of a dict (jsnn.record(keep=) takes names of layers, as '1_{name}') and no "
        f"branch or body of jax.lax, in which its state would be lost"
    )


def fitting_init(init: Callable[..., State]) -> Callable[..., State]:
    """Return a neuron's `init` with a check that the parameters fit neurons of the shape."""

    @functools.wraps(init)
    def checked_init(self: Any, shape: Shape, dtype: Any = jnp.float32, **options: Any) -> State:
        shape = as_shape(shape)
        check_fits(shape, **self.per_neuron())
        return init(self, shape, dtype, **options)

    return checked_init


def fitting_step(step: Callable[..., tuple[State, Any]]) -> Callable[..., tuple[State, Any]]:
    """Return a neuron's `step` with a check that parameters and state fit the input."""

    @functools.wraps(step)
    def checked_step(self: Any, state: State, current: Array) -> tuple[State, Any]:
        check_order(self, state, current)
        if not self._takes_integers:
            check_floating(current)
        check_fits(current.shape, **self.per_neuron())
        check_state(self, state, current)
        try:
            return step(self, state, current)
        except AttributeError as error:
            check_state(self, state, current, error)
            raise

    return checked_step


def described(shape: Any, dtype: Any = jnp.float32) -> Any:
    """Return the shape and dtype of an input, or of all in a pytree of shapes."""

    def is_shape(part: Any) -> bool:
        return isinstance(part, tuple | list) and not any(isinstance(size, tuple | list | dict) for size in part)

    return jax.tree.map(lambda part: jax.ShapeDtypeStruct(as_shape(part), dtype), shape, is_leaf=is_shape)


def has_shape(x: Any) -> bool:
    """Return whether something is an array, or a pytree of arrays."""
    leaves = jax.tree.leaves(x)
    return bool(leaves) and all(getattr(leaf, "shape", None) is not None for leaf in leaves)


def check_order(neuron: Neuron, state: State, current: Any) -> None:
    """Raise TypeError if the input of a step is not an array: other libraries have the state last."""
    is_array = getattr(current, "shape", None) is not None
    may_be_tree = isinstance(neuron, Layered) and has_shape(current) and getattr(state, "shape", None) is None
    if not (is_array or may_be_tree):
        raise TypeError(
            f"{type(neuron).__name__}.step takes (state, current), in this order, and the current must be an array, "
            f"got {type(state).__name__} and {type(current).__name__}"
        )


def check_floating(x: Any) -> None:
    """Raise TypeError unless an input, or each in a pytree, is floating point: of integers, spikes have no gradient."""
    for leaf in jax.tree.leaves(x):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(f"inputs must be floating point, got {leaf.dtype}: convert them with x.astype(jnp.float32)")


def check_floating_dtype(name: str, dtype: Any) -> None:
    """Raise TypeError unless a dtype is one of floating-point numbers."""
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name} must be a floating-point dtype, such as jnp.float32, got {dtype!r}")


def check_state(neuron: Neuron, state: State, x: Any, cause: Exception | None = None) -> None:
    """Raise ValueError unless a state has the shapes that `init` gives it for inputs of a shape.

    Raise TypeError if it holds integers where `init` gives floating-point numbers, which would be cut off.

    Args:
        neuron: the neuron or network.
        state: its state.
        x: the input of one step, or what has its shape and dtype; several as a pytree.
        cause: an error that may have come of the state; then its structure must be that of `init` as well.
    """
    shape = jax.tree.map(jnp.shape, x)

    def is_whole(leaf: Any) -> bool:
        return hasattr(leaf, "dtype") and not jnp.issubdtype(leaf.dtype, jnp.inexact)

    leaves = jax.tree.leaves(state)
    if cause is None and all((jnp.shape(leaf) == shape and not is_whole(leaf)) or is_key(leaf) for leaf in leaves):
        return  # as most states are; `init` need not be traced
    hint = f": num_steps={state} is passed by name" if isinstance(state, int) else ""
    expected = jax.eval_shape(lambda: neuron.init(shape, jnp.result_type(*jax.tree.leaves(x))))
    found, wanted = ([jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (leaves, expected))
    if found != wanted:
        raise ValueError(
            f"state must hold arrays of shapes {wanted}, as init gives it for inputs of shape {shape} at a step, "
            f"got {found}{hint}"
        ) from cause
    for leaf, own in zip(leaves, jax.tree.leaves(expected)):
        if is_whole(leaf) and not is_whole(own):
            raise TypeError(f"state must be floating point, got {leaf.dtype}: convert it with .astype(jnp.float32)")
    structure, wanted_structure = (str(jax.tree.structure(tree)) for tree in (state, expected))
    if cause is not None and structure != wanted_structure and type(state) is not type(expected):
        raise ValueError(
            f"state must be {type(expected).__name__}, as {type(neuron).__name__}.init gives it, "
            f"got {type(state).__name__}{hint}"
        ) from cause


def check_keeps_shape(around: Neuron, outputs: Any, current: Array) -> None:
    """Raise ValueError if the outputs of a wrapped neuron have another shape than its current."""
    if getattr(outputs, "shape", None) != current.shape:
        raise ValueError(
            f"the neuron of {type(around).__name__} must give back the shape of the current, {current.shape}, got "
            f"{jax.tree.map(jnp.shape, outputs)}"
        )


def check_fits(shape: Shape, **parameters: Parameter) -> None:
    """Raise ValueError if a parameter is an array that does not broadcast against neurons of this shape."""
    for name, parameter in parameters.items():
        own = np.shape(parameter[...] if isinstance(parameter, nnx.Variable) else parameter)
        if own and (len(own) > len(shape) or any(o not in (1, s) for o, s in zip(own[::-1], shape[::-1]))):
            raise ValueError(
                f"{name} has shape {own}, which does not fit neurons of shape {shape}: "
                f"give a number, or one for each on the last axis, {shape[-1:]}"
            )
