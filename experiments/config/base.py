"""What all settings share."""

from typing import Annotated, TypeAlias

import pydantic

STRICT = pydantic.ConfigDict(extra="forbid")
Share: TypeAlias = Annotated[float, pydantic.Field(ge=0, le=1)]
