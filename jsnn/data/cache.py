"""Decoded data sets on disk, so that they are decoded once."""

import dataclasses
import functools
import hashlib
import inspect
import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np

from jsnn import checksum
from jsnn.arguments import check_memory
from jsnn.files import cache_folder

Allocate: TypeAlias = Callable[[tuple[int, ...], np.typing.DTypeLike], np.ndarray]  # (shape, dtype) -> zeros
_SPARE = 2**30  # bytes of the disk that are left free
_UNFINISHED = "decoding-"  # what the names of temporary folders begin with
_ABANDONED = 86_400  # s without a change after which such a folder is that of a process that was killed


def in_memory(shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
    """Return zeros; MemoryError if there is no room for them."""
    check_memory("recordings in one array", shape, copies=1, itemsize=np.dtype(dtype).itemsize)
    return np.zeros(shape, dtype)


def cached(
    title: str, identity: object, read: Callable[[Allocate], tuple[np.ndarray, ...]], names: Sequence[str], count: int
) -> tuple[np.ndarray, ...]:
    """Return what `read` makes, arrays of `count` examples each, from the disk, where they are kept.

    Decoding the PNG files of MNIST takes 10 s, opening the arrays that were kept takes no time. They are memory-mapped:
    the system reads what is used, and can drop it again, so that arrays may be larger than memory.

    Args:
        title: what the names of the files begin with.
        identity: what the arrays are made from. Its `repr` must tell it from all others.
        read: the function that makes them. It is given one that makes zeros of a shape and type, in a file of the
            cache where the disk has room, for arrays that memory may not hold.
        names: what the files of the arrays are called, one name each.
        count: how many examples each array holds.
    """
    folder = cache_folder()
    digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    files = [f"{re.sub('[/:]', '-', title)}-{digest}-{name}.npy" for name in names]
    with suppress(EOFError, OSError, TypeError, ValueError):  # what numpy raises at a damaged file
        arrays = _open(folder, files)
        if all(len(array) == count for array in arrays):
            return arrays
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        room = tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder)
    except OSError:  # a read-only home costs time at the next run, and nothing else
        return read(in_memory)
    with room as temporary:
        arrays = read(functools.partial(_on_disk, Path(temporary)))
        if all(array.dtype.isbuiltin < 2 for array in arrays):  # NumPy's own: .npy files hold no bfloat16 or float8
            with suppress(OSError):
                for file, array in zip(files, arrays):
                    _keep(array, Path(temporary), folder / file)
                return _open(folder, files)
        return arrays


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary folders of processes that were killed while they decoded, in which nothing has changed."""
    for old in folder.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):
            if time.time() - max(one.stat().st_mtime for one in (old, *old.iterdir())) > _ABANDONED:
                shutil.rmtree(old)


def _open(folder: Path, files: Sequence[str]) -> tuple[np.ndarray, ...]:
    return tuple(np.load(folder / file, mmap_mode="r", allow_pickle=False) for file in files)


def _on_disk(folder: Path, shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
    """Return zeros in a new file of a folder, or in memory where the disk has no room: a full one ends the process."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > shutil.disk_usage(folder).free - _SPARE:
        return in_memory(shape, dtype)
    return np.lib.format.open_memmap(folder / f"{len(os.listdir(folder))}.npy", "w+", dtype, shape)


def _keep(array: np.ndarray, temporary: Path, file: Path) -> None:
    """Write an array to a file, in one move from a temporary folder on the same disk."""
    made = temporary / file.name
    if isinstance(array, np.memmap):
        array.flush()
        made = Path(str(array.filename))
    else:
        np.save(made, array)
    os.replace(made, file)


def identity_of(value: Any) -> str | None:
    """Return a text for a value: the same in all processes for values that do the same, and another for others.

    Numbers, text, paths, arrays, and tuples, lists and mappings of them are known by their values. Functions, classes
    and frozen dataclasses are known by their name and the source of their module, and of those beside it in a package,
    so that a function that was edited is another one. Everything else is not known, such as a function made inside of
    another, or in a notebook.

    Returns:
        the text, or None where it is not known.
    """
    try:
        return _identity(value)
    except (AttributeError, OSError, TypeError):  # there is no source
        return None


def _identity(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | str | bytes | Path | np.dtype | np.generic):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, jax.Array) or (isinstance(value, np.ndarray) and not value.dtype.hasobject):
        return f"array {checksum.of_array(np.asarray(value))}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} {[_identity(one) for one in value]}"
    if isinstance(value, Mapping):
        return f"mapping {[(key, _identity(one)) for key, one in value.items()]!r}"
    if isinstance(value, functools.partial):
        return f"partial {_identity([value.func, value.args, value.keywords])}"
    if inspect.isfunction(value) or inspect.isclass(value):
        name, module = value.__qualname__, sys.modules.get(value.__module__)
        if module is None or getattr(module, name, None) is not value:
            raise TypeError(f"{value} is not found by its name")
        if value.__module__ in ("builtins", "numpy"):
            return name
        file = Path(str(module.__file__))
        sources = sorted(file.parent.glob("*.py")) if module.__package__ else [file]
        digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
        return f"{value.__module__}.{name} {digest}"
    if dataclasses.is_dataclass(value) and getattr(value, "__dataclass_params__").frozen:  # noqa: B009 (mypy)
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return f"{_identity(type(value))} {_identity(fields)}"
    raise TypeError(f"{value} is not known by its value")
