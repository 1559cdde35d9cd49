"""Settings as JSON, and back."""

from typing import Any, TypeAlias

import pydantic
import pydantic_core

from experiments.config.experiment import Experiment, Study
from experiments.config.gallery import Gallery

Config: TypeAlias = Experiment | Study | Gallery

_ADAPTERS: dict[type, pydantic.TypeAdapter[Any]] = {
    kind: pydantic.TypeAdapter(kind) for kind in (Experiment, Study, Gallery)
}


def to_json(settings: Config) -> str:
    """What a config says as JSON, which `from_json` reads."""
    return _ADAPTERS[type(settings)].dump_json(settings, indent=2).decode() + "\n"


def from_json(text: str) -> Config:
    """The experiment, study or gallery that `to_json` wrote.

    Raises:
        ValueError: if the text is not JSON, misses a field or has one that no experiment has; it names the place.
    """
    values = pydantic_core.from_json(text)
    fields = values if isinstance(values, dict) else {}
    kind = Study if "stages" in fields else Gallery if "signal" in fields else Experiment
    return _ADAPTERS[kind].validate_python(values)
