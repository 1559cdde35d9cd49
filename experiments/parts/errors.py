"""What is wrong with a config, in one line: the field, what is wanted, and the value."""

import dataclasses
import difflib
import reprlib
import typing
from collections.abc import Iterable
from typing import Any

import pydantic
from pydantic_core import ErrorDetails

_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 80


def in_one_line(error: pydantic.ValidationError, cls: type) -> str:
    """Return what pydantic found wrong with the fields of `cls`: the first of them, and the names of others.

    Examples:
        >>> from experiments.config import Train
        >>> Train(epochs=0, batch_size="many")
        Traceback (most recent call last):
            ...
        ValueError: epochs must be greater than 0, got 0 (and batch_size is wrong too)
    """
    found: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        path, classes = _follow(detail, cls)
        found.setdefault(path, []).append(_message(path, detail, classes))
    (_, messages), *others = found.items()
    text = " or ".join(dict.fromkeys(messages))
    also = ", ".join(path for path, _ in others[:3]) + (", ..." if len(others) > 3 else "")
    return text + (f" (and {also} {'are' if len(others) > 1 else 'is'} wrong too)" if others else "")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error about a name that is not known: the known name that is most like it, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {found[0]!r}?" if found else ""


def fields(classes: Iterable[type]) -> dict[str, Any]:
    """Return the type of each field that one of these classes has."""
    return {name: hint for cls in classes for name, hint in typing.get_type_hints(cls, include_extras=True).items()}


def family_in(hint: Any) -> Any:
    """Return the family of parts that a field of this type holds one of; None if it holds something else."""
    return next((one.family for one in getattr(hint, "__metadata__", ()) if hasattr(one, "family")), None)


def classes_in(hint: Any) -> list[type]:
    """Return the classes of settings that a field of this type can hold, also in a tuple or as one of several."""
    if family := family_in(hint):
        return list(family.kinds.values())
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return [hint]
    return [cls for part in typing.get_args(hint) for cls in classes_in(part)]


def _follow(detail: ErrorDetails, cls: type) -> tuple[str, list[type]]:
    """Return where the error is, such as "train.epochs", and the classes whose fields it could be in."""
    names: list[str] = []
    hint: Any = cls
    classes = [cls]
    unknown = detail["loc"][-1] if detail["type"] in _UNKNOWN else None
    for part in detail["loc"]:
        known = fields(classes)
        if part in known:
            hint = known[str(part)]
            classes = classes_in(hint)
        elif part == "[key]" or not (isinstance(part, int) or part == unknown or typing.get_origin(hint) is dict):
            continue  # which of several types was tried
        names.append(str(part))
    return ".".join(names), classes


def _message(path: str, detail: ErrorDetails, classes: list[type]) -> str:
    if detail["type"] in _UNKNOWN:
        return f"there is no field {path!r}{nearest(str(detail['loc'][-1]), fields(classes))}"
    if detail["type"] in ("missing", "missing_argument"):
        return f"{path} is missing"
    if detail["type"] == "inside":  # a part of some kind, see OneOf
        text, unknown = str(detail["ctx"]["text"]), "there is no field '"
        return text.replace(unknown, f"{unknown}{path}.") if text.startswith(unknown) else f"{path}.{text}"
    if detail["type"] == "value_error":
        text = str(detail["ctx"]["error"])
        return f"{path} {text}" if text.startswith("must ") else f"{path}: {text}" if path else text
    text = detail["msg"].replace("Input should ", "must ")
    return f"{path or 'a config'} {text}, got {_SHORT.repr(detail['input'])}"
