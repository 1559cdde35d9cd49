"""Fields of a config that are set on the command line, and mistakes in them as errors of one line."""

import contextlib
import dataclasses
import io
import re
import typing
from typing import Any

import tyro

from experiments import config
from experiments.config import Config, Part
from experiments.parts.errors import classes_in, family_in, nearest
from experiments.parts.errors import fields as fields_of

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
        arguments: such as `["--train.epochs", "3"]`; of a study, this sets all stages, and `--stages.0.` the first.
        name: of the config, as the command line gives it.
        description: what --help says before the fields.

    Raises:
        ValueError: if there is no such field, or its value is wrong.
    """
    experiment, arguments = _choose(experiment, _for_all_stages(experiment, arguments))
    boxes = io.StringIO()  # tyro's errors, drawn over several lines
    try:
        with contextlib.redirect_stderr(boxes), _RULES:
            changed, unknown = tyro.cli(
                type(experiment),
                default=experiment,
                args=arguments,
                prog=f"python -m experiments.run {name}",
                description=f"{description}\n{_kinds()}",
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


def _for_all_stages(experiment: Config, arguments: list[str]) -> list[str]:
    """Return the arguments with those that set a field of an experiment set in each stage of a study."""
    if not isinstance(experiment, config.Study):
        return arguments
    found: list[list[str]] = []
    for argument in arguments:
        if argument.startswith("--") or not found:
            found.append([])
        found[-1].append(argument)
    of_stages = fields_of([config.Experiment]).keys() - fields_of([config.Study]).keys()
    result: list[str] = []
    for flag, *values in found:
        name = re.split(r"[.=]", flag.removeprefix("--"))[0].replace("-", "_")
        every = range(len(experiment.stages)) if flag.startswith("--") and name in of_stages else ()
        flags_of = [f"--stages.{index}.{flag.removeprefix('--')}" for index in every] or [flag]
        result += [part for one in flags_of for part in (one, *values)]
    return result


def _choose(experiment: Config, arguments: list[str]) -> tuple[Config, list[str]]:
    """Return the config with parts of the kinds that the command line names, and the other arguments.

    A part of another kind has its defaults; of a part that can be left out, None leaves it out, and default puts it in.
    """
    values, rest = config.to_values(experiment), []
    waiting = list(arguments)
    while waiting:
        flag, equals, kind = waiting[0].partition("=")
        *path, name = flag.removeprefix("--").replace("-", "_").split(".")
        holder, hint = _holder(type(experiment), values, path, name) if flag.startswith("--") else (None, None)
        family = family_in(hint)
        may_be_left_out = type(None) in typing.get_args(hint) and classes_in(hint)
        if holder is None or not (family or may_be_left_out):
            rest.append(waiting.pop(0))
            continue
        del waiting[0]
        if not equals:
            if not waiting or waiting[0].startswith("--"):
                example = next(iter(family.kinds)) if family else "None"
                raise ValueError(f"{flag} needs a kind, such as {flag} {example}")
            kind = waiting.pop(0)
        if family is not None:
            if holder[name]["kind"] != kind:
                holder[name] = {"kind": kind}
        elif kind not in ("None", "default"):
            raise ValueError(f"{flag} must be None or default, got {kind!r}")
        elif kind == "None" or holder[name] is None:
            holder[name] = None if kind == "None" else {}
    return (experiment, rest) if len(rest) == len(arguments) else (config.from_values(values), rest)


def _holder(cls: type, values: Any, path: list[str], name: str) -> tuple[Any, Any]:
    """Return the dictionary in which the value of a field stands, and the field's type.

    If there is no field, return None and None.
    """
    for part in path:
        if isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        elif isinstance(values, dict) and part in values:
            values, found = values[part], classes_in(fields_of([cls]).get(part))
            cls = found[0] if found else object
        else:
            return None, None
        if isinstance(values, dict) and issubclass(cls, Part) and "kind" in values:
            cls = cls.kinds[values["kind"]]
    return (values, fields_of([cls]).get(name)) if isinstance(values, dict) and name in values else (None, None)


def _kinds() -> str:
    """Return the kinds of every family of parts, for --help."""
    rows = [
        f"    --{prefix}{name} KIND: {', '.join(family.kinds)}"
        for prefix, cls in (("", config.Experiment), ("objective.", config.Objective))
        for name, hint in fields_of([cls]).items()
        if (family := family_in(hint))
    ]
    return "\n".join(["Parts of another kind, with its defaults:", "", *rows])


def flags(settings: dict[str, Any], prefix: str = "--") -> list[str]:
    """Return the options of the command line that set the fields of a config."""
    found = []
    for name, value in settings.items():
        flag = f"{prefix}{name.replace('_', '-')}"
        if isinstance(value, tuple):
            value = {str(index): part for index, part in enumerate(value) if isinstance(part, tuple | dict)}
        is_group = isinstance(value, dict) and value.keys() != _REFERENCE
        found += (flags(value, f"{flag}.") if is_group else []) or [flag]
    return found


def _unboxed(text: str) -> str:
    """Return what tyro says in a box, as one line without the help that it adds."""
    lines = [line.strip("│| ") for line in text.splitlines()]
    rules = [index for index, line in enumerate(lines) if not re.search(r"\w", line)]  # below what is said
    said = lines[1 : next((index for index in rules if index > 1), None)]
    message = re.sub(r"^Error parsing ((Experiment|Study|Gallery): )?", "", " ".join(said).strip("- "))
    return re.sub(r"^([\w.]+): (?=[\w.]+ must )", r"\1.", message)  # train: epochs must ...
