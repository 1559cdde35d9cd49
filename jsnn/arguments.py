"""One check for the arguments of public functions, read from their annotations.

    @checked
    def last(outputs: Array, *, log_softmax: bool = False) -> Array: ...

    last(None)  # TypeError: last(): outputs must be an array of numbers, got None: pass a JAX or NumPy array, ...

What is annotated as `Array` becomes one, so lists, numbers and NumPy arrays may be passed for it; an argument `key`
must be one random key, unless it is annotated as text. Other arguments keep their type. The values of arrays are not
looked at.

JAX is not imported here, so that pictures can be drawn without it: `jsnn.array_arguments` knows its types.
"""

import dataclasses
import functools
import inspect
import itertools
import math
import numbers
import operator
import reprlib
import sys
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union

import numpy as np
import psutil

from jsnn.keywords import check_keywords

if TYPE_CHECKING:
    from jsnn.types import Array, Shape

F = TypeVar("F", bound=Callable[..., Any])

_LARGEST = 2**31 - 1  # JAX counts steps and elements in int32
_BY_POSITION = inspect.Parameter.POSITIONAL_OR_KEYWORD
_SMALL = 2**28  # bytes that fit everywhere


def checked(function: F) -> F:
    """Return the function with a check of its arguments in front: each must be what its annotation says.

    Raises:
        TypeError: from the function, if an argument has another type; the message names the function and the argument.
        ValueError: from the function, if a number is NaN, or an integer does not fit into 32 bits.
    """
    signature = inspect.signature(function)
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    places = len(kinds) if inspect.Parameter.VAR_POSITIONAL in kinds else kinds.count(_BY_POSITION)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        check_keywords(function, kwargs)
        if len(args) > places:
            args, kwargs = _named(function, signature, args, kwargs, places)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            if next(iter(signature.parameters), None) == "key":  # which is what other libraries' users leave out
                first = args[0] if args else kwargs.get("key")
                _arrays().check_key(f"{function.__name__}(): key, the first argument,", first)
            return function(*args, **kwargs)  # Python says what is missing, or one too many
        for name, members in _members_of(function).items():
            if name in bound.arguments:
                where = f"{function.__qualname__.removesuffix('.__init__')}(): {name}"
                if name == "key" and str not in members:
                    _arrays().check_key(f"{where}, the first argument,", bound.arguments[name])
                else:
                    bound.arguments[name] = check(where, bound.arguments[name], members)
        if bound.arguments.get("dtype") is not None:
            _arrays().check_dtype(f"{function.__qualname__}(): dtype", bound.arguments["dtype"])
        try:
            return function(*bound.args, **bound.kwargs)
        except TypeError as error:
            rules = _arrays()
            traced = [
                name
                for name, members in _members_of(function).items()
                if is_traced(bound.arguments.get(name)) and not rules.are_arrays(members)
            ]
            if not traced or not rules.is_about_tracing(error):
                raise
            where = f"{function.__qualname__}(): {', '.join(traced)}"
            raise TypeError(f"{where} must be known when it is traced: make it static under jit") from error

    return typing.cast(F, call)


def _named(
    function: Any, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any], places: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with `num_steps` and `dt` by name, which earlier versions took by position too.

    Only if they are the next parameters: in `lif(0.02)` the next one is `tau_rc`, so 0.02 must not become `dt`.
    """
    by_name = [name for name, one in signature.parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY]
    names = itertools.takewhile(("num_steps", "dt").__contains__, by_name)
    late = dict(zip([name for name in names if name not in kwargs], args[places:]))
    if len(late) < len(args) - places:
        return args, kwargs  # Python says that there are too many
    text = f"{function.__qualname__}(): give {' and '.join(late)} by name: {', '.join(f'{name}=' for name in late)}"
    warnings.warn(text, DeprecationWarning, stacklevel=3)
    return args[:places], kwargs | late


def check_parameters(part: Any) -> None:
    """Raise TypeError or ValueError if a field of a dataclass that is for numbers or a name holds something else."""
    owner: Any = type(part)
    for name, members in _members_of(owner).items():
        is_choice = typing.get_origin(members[0]) is Literal and len(members) == 1
        if is_choice or _arrays().are_numbers(members):
            check(f"{type(part).__name__}(): {name}", getattr(part, name), members)


@functools.cache
def parameters_of(part: Any) -> tuple[str, ...]:
    """Return the names of the fields of a dataclass that are for a number, an array or an `nnx.Param`."""
    return tuple(name for name, members in _members_of(part).items() if _arrays().are_parameters(members))


def is_traced(value: Any) -> bool:
    """Return whether a value is not known yet, because JAX traces the function that it is in."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.core.Tracer)


def _arrays() -> Any:
    """Return the rules for JAX's types; None while JAX is not imported, as no value can be of them then."""
    if "jax" not in sys.modules:
        return None
    from jsnn import array_arguments

    return array_arguments


def check(where: str, value: Any, members: tuple[Any, ...]) -> Any:
    """Return the value as the first of the types that it fits.

    Args:
        where: how an error calls the value.
        value: the value.
        members: types as they stand in an annotation, such as those of `int | None`.

    Raises:
        TypeError: if the value fits none of them.
        ValueError: if it fits, but is NaN or too large; if it is a text, and none of the names that are allowed.
    """
    rules = _arrays()
    if rules is not None and rules.is_whole(value, members):
        return rules.fit_whole(where, value, members, check)
    for member in members:
        fits, found = _fit(where, value, member, members)
        if fits:
            return found
    cure = rules.cure(value, members) if rules is not None else ""
    if rules is not None and is_traced(value) and not rules.are_arrays(members):
        cure = ": it must be known when the function is traced, so make it static under jit"
    is_name = isinstance(value, str) and any(typing.get_origin(member) is Literal for member in members)
    error = ValueError if is_name else TypeError
    raise error(f"{where} must be {_describe(members)}, got {' '.join(reprlib.repr(value).split())}{cure}")


def check_dt(dt: Any) -> None:
    """Raise ValueError if the length of a step, in s, is known and not positive and finite; None is allowed."""
    if dt is not None and not is_traced(dt) and not 0 < dt < math.inf:
        raise ValueError(f"dt must be > 0 s, got {dt}")


def check_not_empty(name: str, array: "Array") -> None:
    """Raise ValueError if an array has no elements, of which there is no mean."""
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")


def check_broadcasts(name: str, value: Any, shape: "Shape", of: str) -> None:
    """Raise ValueError unless an array broadcasts against another."""
    own = np.shape(value)
    if any(size != other and 1 not in (size, other) for size, other in zip(own[::-1], shape[::-1])):
        of = f"{of} of shape {tuple(shape)}"
        raise ValueError(f"{name} must be a number, or broadcast against {of}, got shape {own}")


def check_axes(axis: int | tuple[int, ...] | None, array: "Array") -> None:
    """Raise ValueError unless `axis` names axes of an array, each once."""
    axes = () if axis is None else (axis,) if isinstance(axis, int) else axis
    if not all(-array.ndim <= one < array.ndim for one in axes) or len({one % array.ndim for one in axes}) < len(axes):
        raise ValueError(f"axis must name axes of an array of shape {array.shape}, each once, got {axis}")


def check_accumulate(batch_size: int, accumulate: int) -> None:
    """Raise ValueError if a batch cannot be seen in so many equal parts."""
    if batch_size % accumulate:
        raise ValueError(f"batch_size must be a multiple of accumulate = {accumulate}, got {batch_size}")


class TooLarge(ValueError, MemoryError):
    """A size for which the machine has not enough memory."""


def check_memory(what: str, shape: "Shape", copies: int = 2, itemsize: int = 4) -> None:
    """Raise ValueError if a size is negative, and TooLarge if an array of this shape would not fit into the memory.

    Args:
        what: the array, as the error calls it.
        shape: its shape; a size that is not known, as in an export for any batch, counts as 1.
        copies: how many arrays of this size are held at once.
        itemsize: the bytes of a number: 4 for float32.
    """
    known = [size for size in shape if isinstance(size, numbers.Real)]
    if min(known, default=0) < 0:
        raise ValueError(f"{what} must have sizes of 0 or more, got shape {tuple(shape)}")
    needed = itemsize * copies * math.prod(map(int, known))
    if needed <= _SMALL:
        return
    rules = _arrays()
    there = psutil.virtual_memory().available * (1 if rules is None else rules.processes())
    if needed > there:
        raise TooLarge(
            f"{what} of shape {tuple(shape)} would take {needed / 2**30:,.1f} GiB of memory, and there are "
            f"{there / 2**30:,.1f} GiB: take smaller sizes"
        )


@functools.cache
def _members_of(owner: Any) -> dict[str, tuple[Any, ...]]:
    """Return the types that each annotation of a function or dataclass admits, but for those that admit everything.

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
    """Return whether a value fits one type, and the value to take for it."""
    if member is type(None):
        return value is None, value
    if member is bool:
        is_bool = isinstance(value, bool | np.bool_) or (
            isinstance(value, int) and value in (0, 1) and int not in members
        )
        return is_bool, bool(value) if is_bool else value
    if member is int:
        return _fit_int(where, value)
    rules = _arrays()
    if member is float:
        # of a parameter, a part's own check names the range
        return _fit_float(where, value, may_be_nan=rules is not None and rules.may_be_parameter(members))
    if rules is not None and rules.knows(member):
        return rules.fit(where, value, member, members)
    origin = typing.get_origin(member)
    if origin is Literal:
        return isinstance(value, str) and value in typing.get_args(member), value
    if origin in (tuple, list, Sequence):
        return _fit_sequence(where, value, member)
    if origin is Callable:
        return callable(value) and (rules is None or not rules.is_called_otherwise(value)), value
    if origin is Iterable and getattr(value, "ndim", 1) == 0:
        return False, value
    kind = origin or member
    return not isinstance(kind, type) or getattr(kind, "_is_protocol", False) or isinstance(value, kind), value


def _fit_int(where: str, value: Any) -> tuple[bool, Any]:
    if isinstance(value, bool | np.bool_) or is_traced(value):
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
    if is_array(value):
        real = value.ndim == 0 and is_real(value)
        if not real or is_traced(value):
            return real, value
    elif not isinstance(value, numbers.Real):
        return False, value
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError(f"{where} must be a number below 1e308, got {reprlib.repr(value)}") from error
    if math.isnan(number) and not may_be_nan:
        raise ValueError(f"{where} must be a number, got NaN")
    is_plain = isinstance(value, float | np.number) or is_array(value)
    return True, value if is_plain or (isinstance(value, int) and abs(value) <= _LARGEST) else number


def is_array(value: Any) -> bool:
    """Return whether a value is an array of NumPy or JAX."""
    jax = sys.modules.get("jax")
    return isinstance(value, np.ndarray) or (jax is not None and isinstance(value, jax.Array))


def is_real(array: Any) -> bool:
    """Return whether an array holds integers or real numbers."""
    rules = _arrays()
    return array.dtype.kind in "iuf" if rules is None else rules.is_real(array)


def _fit_sequence(where: str, value: Any, member: Any) -> tuple[bool, Any]:
    kind, inside = typing.get_origin(member), typing.get_args(member)
    if isinstance(value, str) and str in inside:
        return True, value  # the function says whether one name will do
    is_sequence = isinstance(value, list | tuple) or (
        str not in inside and (isinstance(value, range) or is_array(value))
    )
    if not (isinstance(value, tuple) if kind is tuple else is_sequence) or getattr(value, "ndim", 1) == 0:
        return False, value
    if kind is tuple and Ellipsis not in inside and len(inside) != len(value):
        return False, value
    for index, part in enumerate(value):
        hint = inside[index] if kind is tuple and Ellipsis not in inside else inside[0]
        check(f"{where}[{index}]", part, _members(hint))
    return True, value


_NAMES = {str: "a name", bool: "True or False", int: "an integer", float: "a number"}


def _describe(members: tuple[Any, ...]) -> str:
    """Return the types in words, as in "an integer or a number"; None is not named."""
    rules = _arrays()
    if rules is not None and rules.may_be_parameter(members):
        words = ["a number", "an array", "an nnx.Param"]
    else:
        words = list(dict.fromkeys(word for member in members if member is not type(None) for word in _words(member)))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _words(member: Any) -> list[str]:
    if member in _NAMES:
        return [_NAMES[member]]
    rules = _arrays()
    if rules is not None and rules.knows(member):
        return [rules.NAMES[member]]
    origin = typing.get_origin(member)
    if origin is Literal:
        return list(map(repr, typing.get_args(member)))
    if origin in (tuple, list, Sequence):
        return ["a tuple" if origin is tuple else "a list or a tuple"]
    if origin is Callable:
        return ["a function"]
    return [getattr(origin or member, "__name__", str(member))]
