"""Fields of a config that are set on the command line, and mistakes in them as errors of one line."""

import contextlib
import dataclasses
import io
import re
from typing import Any

import tyro

from experiments import config
from experiments.config import Config
from experiments.config.errors import nearest

_REFERENCE = {field.name for field in dataclasses.fields(config.Reference)}
_RULES = tyro.constructors.ConstructorRegistry()


@_RULES.primitive_rule
def _number(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Return how one option sets a reference: it is a number there, whose source is not known."""
    if info.type is not config.Reference:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT",
        instance_from_str=lambda texts: config.Reference(float(texts[0])),
        is_instance=lambda value: isinstance(value, config.Reference),
        str_from_instance=lambda reference: [str(reference.value)],
    )


def override(experiment: Config, arguments: list[str], name: str, description: str) -> Config:
    """Return the config with the fields that the command line sets.

    Args:
        experiment: the config.
        arguments: such as `["--train.epochs", "3"]`.
        name: of the config, as the command line gives it.
        description: what --help says before the fields.

    Raises:
        ValueError: if there is no such field, or its value is wrong.
    """
    boxes = io.StringIO()  # tyro's errors, drawn over several lines
    try:
        with contextlib.redirect_stderr(boxes), _RULES:
            changed, unknown = tyro.cli(
                type(experiment),
                default=experiment,
                args=arguments,
                prog=f"python -m experiments.run {name}",
                description=description,
                config=(tyro.conf.AvoidSubcommands,),
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        raise ValueError(_unboxed(boxes.getvalue())) from None
    if unknown and not unknown[0].startswith("-"):
        raise ValueError(f"{unknown[0]!r} is no field and belongs to none: fields are set as in --train.epochs 3")
    if unknown:
        flag = unknown[0].partition("=")[0]
        raise ValueError(
            f"there is no field {flag}{nearest(flag.replace('_', '-'), flags(dataclasses.asdict(experiment)))}"
        )
    config.to_json(changed)  # says what would not survive it
    return changed


def flags(settings: dict[str, Any], prefix: str = "--") -> list[str]:
    """The options of the command line that set the fields of a config."""
    found = []
    for name, value in settings.items():
        flag = f"{prefix}{name.replace('_', '-')}"
        if isinstance(value, tuple):
            value = {str(index): part for index, part in enumerate(value) if isinstance(part, tuple | dict)}
        is_group = isinstance(value, dict) and value.keys() != _REFERENCE
        found += (flags(value, f"{flag}.") if is_group else []) or [flag]
    return found


def _unboxed(text: str) -> str:
    """What tyro says in a box, as one line without the help that it adds."""
    lines = [line.strip("│| ") for line in text.splitlines()]
    rules = [index for index, line in enumerate(lines) if not re.search(r"\w", line)]  # below what is said
    said = lines[1 : next((index for index in rules if index > 1), None)]
    message = re.sub(r"^Error parsing ((Experiment|Study|Gallery): )?", "", " ".join(said).strip("- "))
    return re.sub(r"^([\w.]+): (?=[\w.]+ must )", r"\1.", message)  # train: epochs must ...
