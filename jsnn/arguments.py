"""One check for the arguments of public functions, read from their annotations.

    @checked
    def last(outputs: Array, *, log_softmax: bool = False) -> Array: ...

    last(None)  # TypeError: last(): outputs must be an array of numbers, got None: pass a JAX or NumPy array, ...

What is annotated as `Array` becomes one, so lists, numbers and NumPy arrays may be passed for it; an argument `key`
must be one random key, unless it is annotated as text. Other arguments keep their type. The values of arrays are not
looked at.
"""

import contextlib
import dataclasses
import functools
import inspect
import math
import numbers
import operator
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar, Union

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from flax import nnx

from jsnn.keywords import check_keywords
from jsnn.types import Array, Shape, Tree, as_shape

F = TypeVar("F", bound=Callable[..., Any])

_CURE = "pass a JAX or NumPy array, or a list of numbers"
_LARGEST = 2**31 - 1  # JAX counts steps and elements in int32
_SMALL = 2**28  # bytes that fit everywhere


def checked(function: F) -> F:
    """Return the function with a check of its arguments in front: each must be what its annotation says.

    Raises:
        TypeError: from the function, if an argument has another type; the message names the function and the argument.
        ValueError: from the function, if a number is NaN, or an integer does not fit into 32 bits.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        check_keywords(function, kwargs)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            if next(iter(signature.parameters), None) == "key":  # which is what other libraries' users leave out
                first = args[0] if args else kwargs.get("key")
                check_key(f"{function.__name__}(): key, the first argument,", first)
            return function(*args, **kwargs)  # Python says what is missing, or one too many
        for name, members in _members_of(function).items():
            if name in bound.arguments:
                where = f"{function.__qualname__.removesuffix('.__init__')}(): {name}"
                if name == "key" and str not in members:
                    check_key(f"{where}, the first argument,", bound.arguments[name])
                else:
                    bound.arguments[name] = check(where, bound.arguments[name], members)
        if bound.arguments.get("dtype") is not None:
            _check_dtype(f"{function.__qualname__}(): dtype", bound.arguments["dtype"])
        try:
            return function(*bound.args, **bound.kwargs)
        except jax.errors.JAXTypeError as error:
            traced = [
                name
                for name, members in _members_of(function).items()
                if isinstance(bound.arguments.get(name), jax.core.Tracer) and not {Array, nnx.Param} & {*members}
            ]
            if not traced:
                raise
            where = f"{function.__qualname__}(): {', '.join(traced)}"
            raise TypeError(f"{where} must be known when it is traced: make it static under jit") from error

    return typing.cast(F, call)


def check_parameters(part: Any) -> None:
    """Raise TypeError or ValueError if a field of a dataclass that is for numbers or a name holds something else."""
    owner: Any = type(part)
    for name, members in _members_of(owner).items():
        is_choice = typing.get_origin(members[0]) is Literal and len(members) == 1
        is_number = all(member in _NUMBERS for member in members) and (Array not in members or nnx.Param in members)
        if is_choice or is_number:
            check(f"{type(part).__name__}(): {name}", getattr(part, name), members)


@functools.cache
def parameters_of(part: Any) -> tuple[str, ...]:
    """Return the names of the fields of a dataclass that are for a number, an array or an `nnx.Param`."""
    return tuple(name for name, members in _members_of(part).items() if {float, Array, nnx.Param} <= set(members))


def check(where: str, value: Any, members: tuple[Any, ...]) -> Any:
    """Return the value as the first of the types that it fits.

    Args:
        where: how an error calls the value.
        value: the value.
        members: types as they stand in an annotation, such as those of `int | None`.

    Raises:
        TypeError: if the value fits none of them.
        ValueError: if it fits, but is NaN or too large.
    """
    if members == (Shape,):
        return as_shape(value)
    if Tree in members and _is_tree(value):

        def is_list(part: Any) -> bool:
            return isinstance(part, list)

        return jax.tree.map(lambda part: check(where, part, (Array,)), value, is_leaf=is_list)
    for member in members:
        fits, found = _fit(where, value, member, members)
        if fits:
            return found
    cure = f": {_CURE}" if Array in members and nnx.Param not in members else ""
    if isinstance(value, jax.core.Tracer):
        cure = ": it must be known when the function is traced, so make it static under jit"
    raise TypeError(f"{where} must be {_describe(members)}, got {' '.join(reprlib.repr(value).split())}{cure}")


def check_key(where: str, key: Any) -> None:
    """Raise TypeError unless a value is one random key; those of `jax.random.PRNGKey` will do."""
    dtype = getattr(key, "dtype", None)
    is_key = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not isinstance(key, jax.Array | np.ndarray) or not (is_key or dtype == jnp.uint32) or key.ndim != (not is_key):
        raise TypeError(f"{where} must be made by jax.random.key(seed), got {reprlib.repr(key)}")


def _check_dtype(where: str, dtype: Any) -> None:
    with contextlib.suppress(TypeError, ValueError):
        if jnp.issubdtype(jnp.dtype(dtype), jnp.number) or jnp.issubdtype(jnp.dtype(dtype), jnp.bool_):
            return
    raise TypeError(f"{where} must be a dtype such as jnp.float32, got {reprlib.repr(dtype)}")


def check_dt(dt: Any) -> None:
    """Raise ValueError if the length of a step, in s, is known and not positive and finite; None is no length."""
    if dt is not None and not isinstance(dt, jax.core.Tracer) and not 0 < dt < math.inf:
        raise ValueError(f"dt must be > 0 s, got {dt}")


def check_not_empty(name: str, array: Array) -> None:
    """Raise ValueError if an array has no elements, of which there is no mean."""
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")


def check_broadcasts(name: str, value: Any, shape: Shape, of: str) -> None:
    """Raise ValueError unless an array broadcasts against another."""
    own = np.shape(value[...] if isinstance(value, nnx.Variable) else value)
    try:
        np.broadcast_shapes(own, shape)
    except ValueError as error:
        of = f"{of} of shape {tuple(shape)}"
        raise ValueError(f"{name} must be a number, or broadcast against {of}, got shape {own}") from error


def check_axes(axis: int | tuple[int, ...] | None, array: Array) -> None:
    """Raise ValueError unless `axis` names axes of an array, each once."""
    axes = () if axis is None else (axis,) if isinstance(axis, int) else axis
    if not all(-array.ndim <= one < array.ndim for one in axes) or len({one % array.ndim for one in axes}) < len(axes):
        raise ValueError(f"axis must name axes of an array of shape {array.shape}, each once, got {axis}")


class TooLarge(ValueError, MemoryError):
    """A size for which the machine has not enough memory."""


def check_memory(what: str, shape: Shape, copies: int = 2) -> None:
    """Raise ValueError if a size is negative, and TooLarge if float32 of this shape would not fit into the memory.

    Args:
        what: the array, as the error calls it.
        shape: its shape.
        copies: how many arrays of this size are held at once.
    """
    if min(shape, default=0) < 0:
        raise ValueError(f"{what} must have sizes of 0 or more, got shape {tuple(shape)}")
    needed = 4 * copies * math.prod(map(int, shape))
    if needed <= _SMALL:
        return
    there = psutil.virtual_memory().available * jax.process_count()
    if needed > there:
        raise TooLarge(
            f"{what} of shape {tuple(shape)} would take {needed / 2**30:,.1f} GiB of memory, and there are "
            f"{there / 2**30:,.1f} GiB: take smaller sizes"
        )


@functools.cache
def _members_of(owner: Any) -> dict[str, tuple[Any, ...]]:
    """The types that each annotation of a function or dataclass admits; without those that admit everything.

    Quoted annotations name what is imported for type checkers alone.
    """
    if isinstance(owner, type):
        hints = {field.name: field.type for field in dataclasses.fields(owner)}
    else:
        parameters = inspect.signature(owner).parameters.values()
        several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        hints = {parameter.name: parameter.annotation for parameter in parameters if parameter.kind not in several}
    unsaid = inspect.Parameter.empty
    members = {name: _members(hint) for name, hint in hints.items() if hint is not unsaid and not isinstance(hint, str)}
    return {name: found for name, found in members.items() if Any not in found}


def _members(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (Union, types.UnionType):
        return tuple(member for part in typing.get_args(hint) for member in _members(part))
    return (hint,)


def _fit(where: str, value: Any, member: Any, members: tuple[Any, ...]) -> tuple[bool, Any]:
    """Whether a value fits one type, and the value to take for it."""
    if member is type(None):
        return value is None, value
    if member is bool:
        is_bool = isinstance(value, bool | np.bool_) or (
            isinstance(value, int) and value in (0, 1) and int not in members
        )
        return is_bool, bool(value) if is_bool else value
    if member is int:
        return _fit_int(where, value)
    if member is float:
        return _fit_float(where, value, may_be_nan=nnx.Param in members)  # a part's own check names the range
    if member is Tree:
        return False, value
    if member is Array:
        if nnx.Param in members:
            if not isinstance(value, jax.Array | np.ndarray):
                return False, value
            # a key can draw where something starts, and nothing else
            is_key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
            return (is_key and "init" in where) or _is_real(value), value
        return _fit_array(where, value)
    if member in (nnx.Param, nnx.Variable):
        return isinstance(value, nnx.Variable), value
    origin = typing.get_origin(member)
    if origin is Literal:
        return isinstance(value, str), value  # the function says which names it knows
    if origin in (tuple, list, Sequence):
        return _fit_sequence(where, value, member)
    if origin is Callable:
        return callable(value) and not isinstance(value, nnx.Variable), value
    if origin is Iterable and getattr(value, "ndim", 1) == 0:
        return False, value
    kind = origin or member
    return not isinstance(kind, type) or getattr(kind, "_is_protocol", False) or isinstance(value, kind), value


def _fit_int(where: str, value: Any) -> tuple[bool, Any]:
    if isinstance(value, bool | np.bool_ | jax.core.Tracer):
        return False, value
    try:
        whole = operator.index(value)
    except TypeError:
        return False, value
    if abs(whole) > _LARGEST:
        raise ValueError(f"{where} must lie between -2^31 and 2^31, got {reprlib.repr(whole)}: take a smaller number")
    return True, whole


def _fit_float(where: str, value: Any, *, may_be_nan: bool) -> tuple[bool, Any]:
    if isinstance(value, bool | np.bool_ | str | bytes):
        return False, value
    if isinstance(value, jax.Array | np.ndarray):
        real = value.ndim == 0 and _is_real(value)
        if not real or isinstance(value, jax.core.Tracer):
            return real, value
    elif not isinstance(value, numbers.Real):
        return False, value
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError(f"{where} must be a number below 1e308, got {reprlib.repr(value)}") from error
    if math.isnan(number) and not may_be_nan:
        raise ValueError(f"{where} must be a number, got NaN")
    is_plain = isinstance(value, float | np.number | np.ndarray | jax.Array)
    return True, value if is_plain or (isinstance(value, int) and abs(value) <= _LARGEST) else number


def _is_tree(value: Any) -> bool:
    """Whether a value is a pytree of arrays; a list is one array, and a module or a variable is no input."""
    if isinstance(value, list | nnx.Pytree | nnx.Variable) or jax.tree_util.all_leaves([value]):
        return False
    return any(np.ndim(leaf) for leaf in jax.tree.leaves(value))


def _fit_array(where: str, value: Any) -> tuple[bool, Any]:
    parts = jax.tree.leaves(value) if isinstance(value, list | tuple) else [value]
    if value is None or any(isinstance(part, str | bytes | dict | set | type) for part in parts):
        return False, value  # JAX takes some names for dtypes
    try:
        array = value[...] if isinstance(value, nnx.Variable) else jnp.asarray(value)
    except (TypeError, ValueError, OverflowError):
        return False, value
    if not _is_real(array) and not jnp.issubdtype(array.dtype, jnp.bool_):
        return False, value
    # what does not fit into 32 bits would become another number
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.dtype != array.dtype and value.size:
        limits = jnp.iinfo(array.dtype)
        if value.min() < limits.min or value.max() > limits.max:
            raise ValueError(f"{where} must fit into {array.dtype}, got values from {value.min()} to {value.max()}")
    return True, array


def _is_real(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.number) and not jnp.issubdtype(array.dtype, jnp.complexfloating)


def _fit_sequence(where: str, value: Any, member: Any) -> tuple[bool, Any]:
    kind, inside = typing.get_origin(member), typing.get_args(member)
    if isinstance(value, str) and str in inside:
        return True, value  # the function says whether one name will do
    arrays = () if str in inside else (range, np.ndarray, jax.Array)
    allowed = (tuple,) if kind is tuple else (list, tuple, *arrays)
    if not isinstance(value, allowed) or getattr(value, "ndim", 1) == 0:
        return False, value
    if kind is tuple and Ellipsis not in inside and len(inside) != len(value):
        return False, value
    for index, part in enumerate(value):
        hint = inside[index] if kind is tuple and Ellipsis not in inside else inside[0]
        check(f"{where}[{index}]", part, _members(hint))
    return True, value


_NUMBERS = (float, int, bool, Array, nnx.Param, type(None))
_NAMES = {
    str: "a name",
    bool: "True or False",
    int: "an integer",
    float: "a number",
    Array: "an array of numbers",
    Tree: "a pytree of arrays",
}


def _describe(members: tuple[Any, ...]) -> str:
    """The types in words, as in "an integer or a number"; that None may be left out goes without saying."""
    if nnx.Param in members:
        words = ["a number", "an array", "an nnx.Param"]
    else:
        words = list(dict.fromkeys(_word(member) for member in members if member is not type(None)))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _word(member: Any) -> str:
    if member in _NAMES:
        return _NAMES[member]
    origin = typing.get_origin(member)
    if origin is Literal:
        return " or ".join(map(repr, typing.get_args(member)))
    if origin in (tuple, list, Sequence):
        return "a tuple" if origin is tuple else "a list or a tuple"
    if origin is Callable:
        return "a function"
    return getattr(origin or member, "__name__", str(member))
