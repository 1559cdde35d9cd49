"""What all settings share: fields that JSON and the arrays of a run can hold, and errors of one line."""

import functools
import re
from collections.abc import Iterable
from typing import Annotated, Any, TypeAlias, TypeVar, dataclass_transform

import numpy as np
import pydantic
from pydantic.dataclasses import dataclass

from experiments.config.errors import in_one_line

T = TypeVar("T")
_NAME_BYTES = 200  # most file systems take 255, with the date and time


def _check_name(name: str) -> str:
    """Return a name that can be a folder's, as the folder of a run or a stage is named after it."""
    if not name or name.startswith(".") or not name.isprintable() or re.search(r"[/\\]", name):
        raise ValueError(f"must be the name of a folder, without / and \\ and no dot in front, got {name!r}")
    if len(name.encode()) > _NAME_BYTES:
        raise ValueError(f"must have at most {_NAME_BYTES} bytes, got {len(name.encode())}: {name[:20]!r}...")
    return name


Name: TypeAlias = Annotated[str, pydantic.AfterValidator(_check_name)]
Share: TypeAlias = Annotated[float, pydantic.Field(ge=0, le=1)]
LARGEST_SEED = 2**32 - 1  # JAX would leave out further bits, so that seeds 0 and 2**32 were the same
Seed: TypeAlias = Annotated[int, pydantic.Field(ge=0)]
_LARGEST_INT = 2**31 - 1  # JAX counts and indexes with int32
_FLOAT = np.finfo(np.float32)


@dataclass_transform(frozen_default=True, kw_only_default=False, field_specifiers=(pydantic.Field,))
def settings(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass whose fields are checked when it is made.

    A field that the class does not have, a value of another type, a number that is not finite or that no array of a
    run can hold, and a text that no file can hold raise a ValueError of one line.
    """
    cls._check_range = pydantic.field_validator("*")(_check_range)  # type: ignore[attr-defined]
    made: Any = dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid", allow_inf_nan=False))(cls)
    validate = made.__init__

    @functools.wraps(validate)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            validate(self, *args, **kwargs)
        except pydantic.ValidationError as error:
            raise ValueError(in_one_line(error, made)) from None

    made.__init__ = __init__
    return made


def _check_range(cls: type, value: T, info: pydantic.ValidationInfo) -> T:
    """Return a field's value; raise ValueError if the arrays of a run or its files cannot hold a part of it."""
    largest = LARGEST_SEED if info.field_name == "seed" else _LARGEST_INT
    for part in _leaves(value):
        if isinstance(part, int) and abs(part) > largest:
            raise ValueError(f"must be at most {largest}, got {_short(part)}")
        if isinstance(part, float) and part and not float(_FLOAT.tiny) <= abs(part) <= float(_FLOAT.max):
            raise ValueError(f"must be 0 or from {_FLOAT.tiny:.3g} to {_FLOAT.max:.3g} in size, got {part}")
        if isinstance(part, str) and ("\0" in part or not part.isprintable()):
            raise ValueError(f"must be text that can be printed, got {part!r}")
    return value


def _leaves(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        value = (*value, *value.values())
    if not isinstance(value, tuple):
        return (value,)
    return (leaf for part in value for leaf in _leaves(part))


def unique(values: tuple[T, ...]) -> tuple[T, ...]:
    """Return the values; raise ValueError if one of them stands there twice."""
    if len(set(values)) < len(values):
        raise ValueError(f"must not hold a value twice, got {values}")
    return values


def _short(number: int) -> str:
    """The number, or about how large it is: Python does not print integers of more than some thousand digits."""
    return str(number) if abs(number) < 10**30 else f"a number of {number.bit_length()} bits"
