"""What all settings share."""

import re
from typing import Annotated, TypeAlias

import pydantic

_NAME_BYTES = 200  # most file systems take 255, with the date and time


def _check_name(name: str) -> str:
    """Return a name that can be a folder's, as the folder of a run or a stage is named after it."""
    if not name or name.startswith(".") or not name.isprintable() or re.search(r"[/\\]", name):
        raise ValueError(f"a name must be that of a folder, without / and \\ and no dot in front, got {name!r}")
    if len(name.encode()) > _NAME_BYTES:
        raise ValueError(f"a name must have at most {_NAME_BYTES} bytes, got {len(name.encode())}: {name[:20]!r}...")
    return name


STRICT = pydantic.ConfigDict(extra="forbid")
Name: TypeAlias = Annotated[str, pydantic.AfterValidator(_check_name)]
Share: TypeAlias = Annotated[float, pydantic.Field(ge=0, le=1)]
