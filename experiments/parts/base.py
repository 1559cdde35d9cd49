"""What all settings share: fields that JSON and the arrays of a run can hold, and errors of one line."""

import functools
import re
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar, dataclass_transform

import numpy as np
import pydantic
import pydantic_core
from pydantic.dataclasses import dataclass
from pydantic_core import core_schema

from experiments.parts.errors import in_one_line, nearest

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


def _short(number: int) -> str:
    """Return the number, or about how large it is: Python does not print integers of more than some thousand digits."""
    return str(number) if abs(number) < 10**30 else f"a number of {number.bit_length()} bits"


@dataclass_transform(frozen_default=True, kw_only_default=False, field_specifiers=(pydantic.Field,))
class Settings:
    """Base of all settings: each subclass is a frozen dataclass whose fields are checked when it is made.

    A field that the class does not have, a value of another type, a number that is not finite or that no array of a
    run can hold, and a text that no file can hold raise a ValueError of one line.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._check_range = pydantic.field_validator("*")(_check_range)  # type: ignore[attr-defined]
        dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid", allow_inf_nan=False))(cls)
        validate = cls.__init__

        @functools.wraps(validate)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            try:
                validate(self, *args, **kwargs)
            except pydantic.ValidationError as error:
                raise ValueError(in_one_line(error, cls)) from None

        cls.__init__ = __init__  # type: ignore[method-assign]


class Part(Settings):
    """Base of the parts of an experiment that come in several kinds; those who use jsnn may add their own.

        class MyNetwork(Network):
            hidden: int = 64  # also on the command line and in config.json

            def make(self, inputs, outputs, rngs): ...

    A direct subclass is a family, such as `Network`, and its subclasses that have all its abstract methods are its
    kinds, named as their classes: `"my_network"`.
    """

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type[Any]]]  # of the family

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if Part in cls.__bases__:
            cls.kinds = {}
        if "kind" not in vars(cls):
            cls.kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        if not _missing(cls):
            known = cls.kinds.get(cls.kind)
            if known is not None and known.__module__.startswith("experiments."):
                raise ValueError(f"there is a kind {cls.kind!r} already: give the class {cls.__name__} another name")
            cls.kinds[cls.kind] = cls


def _missing(cls: type[Part]) -> list[str]:
    """Return the names of the methods that a kind must have and this class does not."""
    return [name for name in dir(cls) if getattr(getattr(cls, name, None), "__isabstractmethod__", False)]


def has_own_parts(settings: Any) -> bool:
    """Return whether settings hold a part whose class is not one of the built-in ones."""
    if isinstance(settings, tuple):
        return any(map(has_own_parts, settings))
    if not isinstance(settings, Settings):
        return False
    is_own = isinstance(settings, Part) and not type(settings).__module__.startswith("experiments.")
    return is_own or any(map(has_own_parts, vars(settings).values()))


class OneOf:
    """Says of a field that it holds a part of any kind of a family; the name of a kind stands for its defaults."""

    def __init__(self, family: type[Part]) -> None:
        self.family = family

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        write = core_schema.plain_serializer_function_ser_schema(_write)
        return core_schema.no_info_plain_validator_function(self._read, serialization=write)

    def _read(self, value: Any) -> Part:
        if isinstance(value, self.family):
            if missing := _missing(type(value)):
                raise ValueError(f"must have the method {missing[0]}, and {type(value).__name__} does not")
            return value
        fields = {"kind": value} if isinstance(value, str) else dict(value) if isinstance(value, dict) else None
        names = ", ".join(map(repr, self.family.kinds))
        if fields is None:
            raise ValueError(f"must be one of the kinds {names}, got {value!r}")
        kind = fields.pop("kind", self.family.kind)
        if not isinstance(kind, str) or kind not in self.family.kinds:
            hint = nearest(kind, self.family.kinds) if isinstance(kind, str) else ""
            text = f"kind must be one of {names}, got {kind!r}{hint}" if kind != self.family.kind else "kind is missing"
            raise pydantic_core.PydanticCustomError("inside", "{text}", {"text": text})
        cls = self.family.kinds[kind]
        try:
            return pydantic.TypeAdapter(cls).validate_python(fields)
        except pydantic.ValidationError as error:
            raise pydantic_core.PydanticCustomError("inside", "{text}", {"text": in_one_line(error, cls)}) from None


def _write(part: Part) -> dict[str, Any]:
    return {"kind": part.kind} | pydantic.TypeAdapter(type(part)).dump_python(part, mode="json")


def unique(values: tuple[T, ...]) -> tuple[T, ...]:
    """Return the values; raise ValueError if one of them stands there twice."""
    if len(set(values)) < len(values):
        raise ValueError(f"must not hold a value twice, got {values}")
    return values
