"""A griffe extension for the API reference: shows what the docstrings' house style leaves to the reader of the source.

Examples without a heading get one, comments beside a class's fields become the description of its attributes, names
that share a description get one each, and classes whose constructor is generated (`nnx.dataclass`, `NamedTuple`) get
its signature.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import griffe

_EXAMPLE = re.compile(r"(?:^>>> .*\n(?:.+\n)*)+", re.MULTILINE)
_NAMES = re.compile(r"^( +)((?:\w+, )+\w+): (.+)$", re.MULTILINE)
_COMMENT = re.compile(r"#(?!:) ?(?P<text>.+)$")


class HouseStyle(griffe.Extension):
    """Prepares docstrings and signatures for mkdocstrings."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Goes through everything in a package, once all of it is known."""
        for obj in _inside(pkg):
            if isinstance(obj, griffe.Class):
                _add_signature(pkg, obj)
                _add_attributes(obj)
            if isinstance(obj, griffe.Attribute) and isinstance(obj.parent, griffe.Module) and obj.docstring is None:
                comment = _COMMENT.search(obj.source)
                obj.docstring = griffe.Docstring(comment["text"], parent=obj) if comment else None
            if obj.docstring:
                text = _NAMES.sub(_one_for_each, obj.docstring.value + "\n")
                obj.docstring.value = _EXAMPLE.sub(_under_heading, text).rstrip()


def _under_heading(match: re.Match[str]) -> str:
    return "Examples:\n" + "".join(f"    {line}\n" for line in match[0].splitlines())


def _one_for_each(match: re.Match[str]) -> str:
    indent, names, description = match.groups()
    return "\n".join(f"{indent}{name}: {description}" for name in names.split(", "))


def _inside(obj: griffe.Object) -> Iterator[griffe.Object]:
    yield obj
    for member in list(obj.members.values()):
        if isinstance(member, griffe.Object):  # and not one that is imported from elsewhere
            yield from _inside(member)


def _add_attributes(cls: griffe.Class) -> None:
    """An `Attributes` section made of the comments beside the fields, where the docstring has none."""
    if cls.docstring is None or re.search(r"^Attributes:", cls.docstring.value, re.MULTILINE):
        return
    lines = []
    for attribute in cls.attributes.values():
        comment = None if attribute.name.startswith("_") else _COMMENT.search(attribute.source)
        if comment:
            lines.append(f"    {attribute.name}: {comment['text']}")
    if lines:
        text, mark, example = cls.docstring.value.partition("\n>>> ")
        cls.docstring.value = "\n".join([text.rstrip(), "", "Attributes:", *lines, mark + example])


def _add_signature(pkg: griffe.Module, cls: griffe.Class) -> None:
    """The constructor that a decorator or a base class has generated, as Python sees it."""
    is_generated = any("dataclass" in str(decorator.value) for decorator in cls.decorators)
    if "__init__" in cls.members or not (is_generated or "NamedTuple" in map(str, cls.bases)):
        return
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
