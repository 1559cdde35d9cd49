"""A griffe extension for the API reference: the constructors that `nnx.dataclass` and `NamedTuple` generate."""

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import griffe


class GeneratedConstructors(griffe.Extension):
    """Gives classes whose constructor no source has the signature that Python sees."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Go through the classes of a package, once all of it is known."""
        for cls in _classes(pkg):
            is_generated = any("dataclass" in str(decorator.value) for decorator in cls.decorators)
            if "__init__" not in cls.members and (is_generated or "NamedTuple" in map(str, cls.bases)):
                _add_constructor(pkg, cls)


def _classes(obj: griffe.Object) -> Iterator[griffe.Class]:
    for member in list(obj.members.values()):
        if isinstance(member, griffe.Class):
            yield member
        if isinstance(member, griffe.Object):  # and not one that is imported from elsewhere
            yield from _classes(member)


def _add_constructor(pkg: griffe.Module, cls: griffe.Class) -> None:
    actual = getattr(importlib.import_module(cls.module.path), cls.name)
    parameters = griffe.Parameters(griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword))
    constructor = actual.__new__ if issubclass(actual, tuple) else actual.__init__
    for parameter in list(inspect.signature(constructor).parameters.values())[1:]:
        parameters.add(
            griffe.Parameter(
                parameter.name,
                annotation=_annotation(pkg, actual, parameter.name),
                kind=griffe.ParameterKind[parameter.kind.name.lower()],
                default=None if parameter.default is parameter.empty else _name_of(parameter.default),
            )
        )
    cls.set_member("__init__", griffe.Function("__init__", parameters=parameters))


def _annotation(pkg: griffe.Module, actual: type, field: str) -> Any:
    for base in actual.__mro__:
        if base.__module__.partition(".")[0] == pkg.name:
            members = pkg.modules_collection[f"{base.__module__}.{base.__qualname__}"].members
            if field in members:
                return members[field].annotation
    return None


def _name_of(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)
