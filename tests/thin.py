"""Tables of tests of which plain `pytest` runs a part."""

from collections.abc import Iterable
from typing import Any

import pytest


def thinned(rows: Iterable[Any], every: int = 3) -> list[Any]:
    """Return the rows of a table as parameters, all but each `every`-th of which are slow tests."""
    return [
        pytest.param(*(row if isinstance(row, tuple) else (row,)), marks=[pytest.mark.slow] if index % every else [])
        for index, row in enumerate(rows)
    ]
