"""Settings as JSON, and back."""

from typing import Any, TypeAlias

import pydantic
import pydantic_core

from experiments.config.experiment import Experiment, Study
from experiments.config.gallery import Gallery
from experiments.parts.errors import in_one_line

Config: TypeAlias = Experiment | Study | Gallery

_ADAPTERS: dict[type, pydantic.TypeAdapter[Any]] = {
    kind: pydantic.TypeAdapter(kind) for kind in (Experiment, Study, Gallery)
}


def to_json(settings: Config) -> str:
    """Return what a config says as JSON, which `from_json` reads.

    Raises:
        ValueError: if `from_json` would not give the same config, which a part of one's own can cause.
    """
    text = _ADAPTERS[type(settings)].dump_json(settings, indent=2, warnings="error").decode() + "\n"
    if from_json(text) != settings:
        raise ValueError(f"a config must be made of parts that are read from JSON as they were, got {settings}")
    return text


def to_values(settings: Config) -> dict[str, Any]:
    """Return a config as the dictionary that `to_json` writes."""
    return _ADAPTERS[type(settings)].dump_python(settings, mode="json")


def from_json(text: str) -> Config:
    """Return the experiment, study or gallery that `to_json` wrote, or that a run has in its `config.json`.

    Raises:
        ValueError: if the text is not JSON, misses a field or has one that no experiment has; it names the place.
    """
    return from_values(pydantic_core.from_json(text))


def from_values(values: Any) -> Config:
    """Return the config of which `to_values` made this dictionary.

    Raises:
        ValueError: as `from_json`.
    """
    fields = values if isinstance(values, dict) else {}
    for one in (fields, *(fields["stages"] if isinstance(fields.get("stages"), list) else ())):
        if isinstance(one, dict) and "model" in one:  # as earlier versions wrote it
            one["network"] = one.pop("model")
    fields.pop("checksum", None)  # a run's own; who runs the file again may have changed it
    kind = Study if "stages" in fields else Gallery if "signal" in fields else Experiment
    try:
        return _ADAPTERS[kind].validate_python(values)
    except pydantic.ValidationError as error:
        raise ValueError(in_one_line(error, kind)) from None
