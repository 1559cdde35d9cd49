"""The rules of `jsnn.arguments` for JAX's types: arrays, parameters, pytrees, random keys and dtypes."""

import contextlib
import reprlib
import typing
from collections.abc import Callable
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.types import Array, Neuron, Shape, Tree, as_whole

NAMES = {Array: "an array of numbers", Tree: "a pytree of arrays", nnx.Param: "an nnx.Param", nnx.Variable: "Variable"}
_NUMBERS = (float, int, bool, Array, nnx.Param, type(None))


def knows(member: Any) -> bool:
    """Return whether a type of an annotation is one of JAX's or Flax's."""
    return member in NAMES


def may_be_parameter(members: tuple[Any, ...]) -> bool:
    """Return whether an annotation admits an `nnx.Param`."""
    return nnx.Param in members


def are_arrays(members: tuple[Any, ...]) -> bool:
    """Return whether an annotation admits traced values."""
    return Array in members or nnx.Param in members


def are_numbers(members: tuple[Any, ...]) -> bool:
    """Return whether an annotation is of a number, or of a parameter, alone."""
    return all(member in _NUMBERS for member in members) and (Array not in members or nnx.Param in members)


def are_parameters(members: tuple[Any, ...]) -> bool:
    """Return whether an annotation is `Parameter`: a number, an array or an `nnx.Param`."""
    return {float, Array, nnx.Param} <= set(members)


def is_about_tracing(error: TypeError) -> bool:
    """Return whether JAX raised an error because a value is not known while it traces."""
    return isinstance(error, jax.errors.JAXTypeError)


def is_called_otherwise(value: Any) -> bool:
    """Return whether a value is a variable of Flax or a neuron, which can be called and is not a function."""
    return isinstance(value, nnx.Variable) or is_neuron(value)


def is_neuron(value: Any) -> TypeGuard[Neuron]:
    """Return whether a value is a neuron, and not the class of one."""
    return isinstance(value, Neuron) and not isinstance(value, type)


def is_real(array: Any) -> bool:
    """Return whether an array holds integers or real numbers, also those that NumPy does not know, as bfloat16."""
    return jnp.issubdtype(array.dtype, jnp.number) and not jnp.issubdtype(array.dtype, jnp.complexfloating)


def processes() -> int:
    """Return how many processes share the memory that is asked for."""
    return jax.process_count()


def cure(value: Any, members: tuple[Any, ...]) -> str:
    """Return the end of an error: what to pass in place of a value of the wrong type."""
    if is_neuron(value) and any(typing.get_origin(member) is Callable for member in members):
        return ": give what makes the neuron, as in lambda: jsnn.LIF(0.9)"
    if hasattr(value, "to_dataset"):
        return ": make arrays of the recordings by recordings.to_dataset(transform)"
    if isinstance(value, nnx.Optimizer):
        return ": pass its tx, a transformation of optax"
    if hasattr(value, "gradient_transformation"):  # such as optax.MultiSteps
        return ": pass its gradient_transformation()"
    return ": pass a JAX or NumPy array, or a list of numbers" * (Array in members and nnx.Param not in members)


def is_whole(value: Any, members: tuple[Any, ...]) -> bool:
    """Return whether a value is a shape or a pytree, and wanted as such: `fit_whole` takes it."""
    return members == (Shape,) or (Tree in members and _is_tree(value))


def fit_whole(where: str, value: Any, members: tuple[Any, ...], check: Callable[..., Any]) -> Any:
    """Return a shape or axes, or a pytree of which `jsnn.arguments.check` has checked every leaf."""
    if members == (Shape,):
        return as_whole(where, value)

    def is_list(part: Any) -> bool:
        return isinstance(part, list)

    return jax.tree.map(lambda part: check(where, part, (Array,)), value, is_leaf=is_list)


def fit(where: str, value: Any, member: Any, members: tuple[Any, ...]) -> tuple[bool, Any]:
    """Return whether a value fits a type that `knows` knows, and the value to take for it."""
    if member is Tree:
        return False, value
    if member is not Array:
        return isinstance(value, nnx.Variable), value
    if nnx.Param not in members:
        return _fit_array(where, value)
    if not isinstance(value, jax.Array | np.ndarray):
        return False, value
    # a key can draw where something starts, and nothing else
    is_key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    return (is_key and "init" in where) or is_real(value), value


def check_key(where: str, key: Any) -> None:
    """Raise TypeError unless a value is one random key; those of `jax.random.PRNGKey` will do."""
    is_array = isinstance(key, jax.Array | np.ndarray)
    is_key = is_array and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not is_array or not (is_key or key.dtype == jnp.uint32) or key.ndim != (not is_key):
        given = "nnx.Rngs: call them for a key, rngs()" if isinstance(key, nnx.Rngs) else reprlib.repr(key)
        raise TypeError(f"{where} must be made by jax.random.key(seed), got {given}")


def check_dtype(where: str, dtype: Any) -> None:
    """Raise TypeError unless a value names a type of numbers."""
    with contextlib.suppress(TypeError, ValueError):
        if jnp.issubdtype(jnp.dtype(dtype), jnp.number) or jnp.issubdtype(jnp.dtype(dtype), jnp.bool_):
            return
    raise TypeError(f"{where} must be a dtype such as jnp.float32, got {reprlib.repr(dtype)}")


def _is_tree(value: Any) -> bool:
    """Return whether a value is a pytree of arrays; a list is one array, and a module or a variable is not an input."""
    if isinstance(value, list | nnx.Pytree | nnx.Variable) or jax.tree_util.all_leaves([value]):
        return False
    return any(np.ndim(leaf) for leaf in jax.tree.leaves(value))


def _fit_array(where: str, value: Any) -> tuple[bool, Any]:
    parts = jax.tree.leaves(value) if isinstance(value, list | tuple) else [value]
    if value is None or any(isinstance(part, str | bytes | dict | set | type) for part in parts):
        return False, value  # JAX takes some names for dtypes
    if isinstance(value, np.ndarray):  # JAX takes no other order of bytes
        value = value.astype(value.dtype.newbyteorder("="), copy=False)
    try:
        array = value[...] if isinstance(value, nnx.Variable) else jnp.asarray(value)
    except (TypeError, ValueError, OverflowError):
        return False, value
    if not is_real(array) and not jnp.issubdtype(array.dtype, jnp.bool_):
        return False, value
    # what does not fit into 32 bits would become another number
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.dtype != array.dtype and value.size:
        limits = jnp.iinfo(array.dtype)
        if value.min() < limits.min or value.max() > limits.max:
            raise ValueError(f"{where} must fit into {array.dtype}, got values from {value.min()} to {value.max()}")
    return True, array
