"""The arrays of an .npz file, a zip archive with one .npy file for each array."""

import io
import math
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from jsnn.files.budget import Budget, reading

_LONGEST_HEADER = 2**14  # bytes; numpy itself refuses headers of more than 10,000 characters
_LONGEST = 2**62  # an axis, so that products of lengths are in the range of numpy
_NUMBERS = "biufc"  # kinds of dtypes


class Header(NamedTuple):
    """What an array is, known before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Npz:
    """An open .npz file, of which arrays are read one by one, after a look at what they say about themselves.

    Args:
        path: the file.

    Raises:
        FileError: from all methods, if the file or an array is damaged, too large (see `Budget`) or holds objects.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/a.npz", x=np.arange(3))
        ...     with Npz(Path(folder) / "a.npz") as file:
        ...         print(file.names, file.header("x").shape, file.read("x"))
        ['x'] (3,) [0 1 2]
    """

    def __init__(self, path: Path) -> None:
        self._budget = Budget(path)
        with reading("it is not an .npz file of plain arrays"):
            self._archive = zipfile.ZipFile(path)
        self._entries = {entry.filename.removesuffix(".npy"): entry for entry in self._archive.infolist()}

    def __enter__(self) -> "Npz":
        return self

    def __exit__(self, *exception: object) -> None:
        self._archive.close()

    @property
    def names(self) -> list[str]:
        """The arrays' names."""
        return list(self._entries)

    def header(self, name: str) -> Header:
        """Return the shape and dtype of an array; only the first bytes of it are read."""
        entry = self._entries[name]
        with reading(f"array {name!r}"):
            with self._archive.open(entry) as stream:
                start = io.BytesIO(stream.read(_LONGEST_HEADER))
            version = npy.read_magic(start)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(start)
            if dtype.hasobject:
                raise ValueError(
                    "Object arrays cannot be loaded, they may run code: it is not an .npz file of plain arrays"
                )
            if dtype.kind not in _NUMBERS:
                raise ValueError(f"it must hold numbers, got {dtype}")
            size, held = math.prod(shape) * dtype.itemsize, entry.file_size - start.tell()
            if not all(0 <= length < _LONGEST for length in shape) or size > held:
                raise ValueError(f"it says that its shape is {shape}, of {size:,} bytes, but {held:,} bytes are there")
        return Header(shape, dtype)

    def read(self, name: str) -> np.ndarray:
        """Return an array."""
        shape, dtype = self.header(name)
        entry = self._entries[name]
        self._budget.take(f"array {name!r}", math.prod(shape) * dtype.itemsize, entry.compress_size)
        with reading(f"array {name!r}"), self._archive.open(entry) as stream:
            array = npy.read_array(stream, allow_pickle=False)
            while stream.read(_LONGEST_HEADER):  # the checksum is compared at the end of the stream
                pass
        return array
