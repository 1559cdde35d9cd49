"""Fields of a config that are set on the command line, and mistakes in them as errors of one line."""

import contextlib
import copy
import dataclasses
import io
import re
import typing
from typing import Any

import pydantic
import tyro

from experiments import config
from experiments.config import Config, Settings
from experiments.parts.errors import classes_in, family_in, in_one_line, nearest
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
    experiment, arguments = _choose(experiment, _for_all_stages(experiment, _grouped(arguments)))
    boxes = io.StringIO()  # tyro's errors, drawn over several lines
    try:
        with contextlib.redirect_stderr(boxes), _RULES:
            changed, unknown = tyro.cli(
                type(experiment),
                default=experiment,
                args=arguments,
                prog=f"python -m experiments.run {name}",
                description=f"{description}\n{_kinds()}",
                config=(tyro.conf.AvoidSubcommands, tyro.conf.EnumChoicesFromValues),  # as config.json has them
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        raise ValueError(_unboxed(boxes.getvalue())) from None
    if unknown and not unknown[0].startswith("-"):
        form = "--data.flip or --data.no-flip" if unknown[0].lower() in ("true", "false") else "--train.epochs 3"
        raise ValueError(f"{unknown[0]!r} is no field and belongs to none: fields are set as in {form}")
    if unknown:
        flag = unknown[0].partition("=")[0]
        known = {*flags(dataclasses.asdict(experiment))} - {flag}  # the runner's own field is not to be set
        parent, _, name = flag.rpartition(".")
        if isinstance(_holder(experiment, parent.removeprefix("--").replace("-", "_").split(".")), dict):
            raise ValueError(f"there is no field {flag}: {parent} takes names and values in turn: {parent} {name} 0.1")
        raise ValueError(f"there is no field {flag}{nearest(flag.replace('_', '-'), sorted(known))}")
    config.to_json(changed)  # says what would not survive it
    return changed


def _grouped(arguments: list[str]) -> list[list[str]]:
    """Return each option with its values, those of the fewest dots first: a part is chosen before what is in it."""
    groups: list[list[str]] = []
    for argument in arguments:
        if argument.startswith("--") or not groups:
            groups.append([])
        groups[-1].append(argument)
    return sorted(groups, key=lambda group: group[0].partition("=")[0].count(".") if group[0].startswith("--") else -1)


def _for_all_stages(experiment: Config, groups: list[list[str]]) -> list[list[str]]:
    """Return the options with those that set a field of an experiment set in each stage of a study."""
    if not isinstance(experiment, config.Study):
        return groups
    of_stages = fields_of([config.Experiment]).keys() - fields_of([config.Study]).keys()
    result: list[list[str]] = []
    for flag, *values in groups:
        name = re.split(r"[.=]", flag.removeprefix("--"))[0].replace("-", "_")
        every = range(len(experiment.stages)) if flag.startswith("--") and name in of_stages else ()
        flags_of = [f"--stages.{index}.{flag.removeprefix('--')}" for index in every] or [flag]
        result += [[one, *values] for one in flags_of]
    return result


def _choose(experiment: Config, groups: list[list[str]]) -> tuple[Config, list[str]]:
    """Return the config with parts of the kinds that the command line names, and the other arguments.

    A part of another kind has its defaults; of a part that can be left out, None leaves it out, and default puts it in.
    Whether the parts fit together is seen when all fields are set.
    """
    experiment, rest = copy.deepcopy(experiment), []
    for option, *given in groups:
        flag, equals, kind = option.partition("=")
        *path, name = flag.removeprefix("--").replace("-", "_").split(".")
        holder = _holder(experiment, path) if flag.startswith("--") else None
        hint: Any = fields_of([type(holder)]).get(name) if isinstance(holder, Settings) else None
        family = family_in(hint)
        if isinstance(getattr(holder, name, None), dict):  # given whole, it takes the place of the config's
            object.__setattr__(holder, name, {})
        if not (family or (type(None) in typing.get_args(hint) and classes_in(hint))):
            rest += [option, *given]
            continue
        if not equals:
            if not given:
                example = next(iter(family.kinds)) if family else "None"
                raise ValueError(f"{flag} needs a kind, such as {flag} {example}")
            kind, *given = given
        chosen = getattr(holder, name)
        if family is not None and chosen.kind != kind:
            try:
                chosen = _to_fill(family.kinds.get(kind)) or pydantic.TypeAdapter(hint).validate_python(kind)
            except pydantic.ValidationError as error:
                by_name = f". Its name is set by {flag}.name {kind}" if hasattr(chosen, "name") else ""
                raise ValueError(".".join([*path, name]) + in_one_line(error, type(holder)) + by_name) from None
        elif family is None and kind not in ("None", "default"):
            raise ValueError(f"{flag} must be None or default, got {kind!r}")
        elif family is None:
            chosen = None if kind == "None" else chosen or classes_in(hint)[0]()
        object.__setattr__(holder, name, chosen)  # it is a copy
        rest += given
    return experiment, rest


def _to_fill(cls: type[Settings] | None) -> Settings | None:
    """Return settings whose fields without a default the command line must set; None if all have one."""
    fields: dict[str, Any] = getattr(cls, "__pydantic_fields__", {})
    if cls is None or not any(field.is_required() for field in fields.values()):
        return None
    settings = object.__new__(cls)
    for name, field in fields.items():
        value = tyro.MISSING if field.is_required() else field.get_default(call_default_factory=True)
        object.__setattr__(settings, name, value)
    return settings


def _holder(value: Any, path: list[str]) -> Any:
    """Return what lies in a config at a path, such as ["objective", "loss"]; None if there is no such place.

    Raises:
        ValueError: if a part on the way is left out.
    """
    for index, part in enumerate(path):
        if isinstance(value, tuple) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
            continue
        hint = fields_of([type(value)]).get(part) if isinstance(value, Settings) else None
        value = getattr(value, part, None)
        if value is None and classes_in(hint):
            flag = f"--{'.'.join(path[: index + 1])}"
            raise ValueError(f"{flag} is None, and has no fields: put it in with {flag} default")
    return value


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
    said = [
        line.replace("Failed to parse key-value pairs!", "names and values in turn, as in x 0.1 y 2") for line in said
    ]
    if said and said[0].startswith("Missing from "):
        needed = [line.split()[0] for line in said if line.startswith("--")]
        return f"{', '.join(needed)} must be given: there is no default"
    message = re.sub(r"^Error parsing ((Experiment|Study|Gallery): )?", "", " ".join(said).strip("- "))
    return re.sub(r"^([\w.]+): (?=[\w.]+ must )", r"\1.", message)  # train: epochs must ...
