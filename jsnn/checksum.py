"""Checksums, which tell whether what is read from a disk is what was written to it."""

import hashlib
import json
from typing import Any

import numpy as np

_KEY = "checksum"


def of_array(array: np.ndarray) -> str:
    """Return the checksum of an array's dtype, shape and values."""
    return _digest(f"{array.dtype.name} {array.shape} ".encode() + array.tobytes())


def seal(values: dict[str, Any]) -> dict[str, Any]:
    """Return a dictionary of JSON values with one more, the checksum of the others.

    Examples:
        >>> sealed = seal({"seed": 3})
        >>> unseal(sealed)
        {'seed': 3}
        >>> unseal(sealed | {"seed": 4})
        Traceback (most recent call last):
        ValueError: it was changed after it was written: its checksum does not fit
    """
    return values | {_KEY: _of_json(values)}


def unseal(values: Any) -> dict[str, Any]:
    """Return what `seal` was given. A dictionary without a checksum, from an earlier version, is returned as it is.

    Raises:
        ValueError: if the values are not those that were sealed, or not a dictionary.
    """
    if not isinstance(values, dict):
        raise ValueError(f"it must hold a dictionary, and holds {type(values).__name__}")
    plain = {name: value for name, value in values.items() if name != _KEY}
    if _KEY in values and values[_KEY] != _of_json(plain):
        raise ValueError("it was changed after it was written: its checksum does not fit")
    return plain


def _of_json(values: dict[str, Any]) -> str:
    return _digest(json.dumps(values, sort_keys=True).encode())


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
