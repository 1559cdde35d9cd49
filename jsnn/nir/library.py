"""The package `nir`, which is imported where it is needed and not before, and the error of this one."""

import math
from types import ModuleType
from typing import Any

import numpy as np

from jsnn.extras import require
from jsnn.neurons.checks import is_key
from jsnn.types import Shape, as_shape


class NIRError(ValueError):
    """A network that NIR cannot say, or a graph that cannot be read; it names the node and what is wrong with it."""


def library() -> ModuleType:
    """Return the package `nir`.

    Raises:
        ImportError: if it is not installed.
    """
    require("nir", "nir")
    import nir

    return nir


def check_dt(dt: float) -> None:
    """Raise an error if a time step is not a number, positive and finite."""
    if np.ndim(dt) or is_key(dt) or np.asarray(dt).dtype.kind not in "fiu":
        raise TypeError(f"dt must be a number, in s, got {dt!r}")
    if not 0 < dt < math.inf:
        raise ValueError(f"dt must be > 0 and finite, in s, got {dt}")


def check_shape(shape: Any) -> Shape:
    """Return the shape of an input, as a tuple of whole numbers."""
    sizes = as_shape(shape)
    if not (sizes and all(size > 0 for size in sizes)):
        raise ValueError(f"shape must be that of an input without its batch axis, such as (28, 28, 1), got {sizes}")
    return sizes


def channels_first(shape: Shape) -> Shape:
    """Return NIR's shape of what has this shape here, both without a batch axis: (H, W, C) -> (C, H, W).

    Examples:
        >>> channels_first((28, 20, 3)), channels_first((10,))
        ((3, 28, 20), (10,))
    """
    return (*shape[-1:], *shape[:-1])


def channels_last(array: np.ndarray) -> np.ndarray:
    """Return an array of NIR's, (C, H, W), as it stands here, (H, W, C)."""
    return np.moveaxis(array, 0, -1) if array.ndim > 1 else array
