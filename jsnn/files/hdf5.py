"""HDF5 files, of which only numbers and text are read, and nothing that lies outside of them."""

import io
import math
import mmap
import struct
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from jsnn.files.budget import Budget, FileError, reading

_NUMBERS = "biufc"  # kinds of dtypes
_AT_ONCE = 2**26  # bytes of text of any length, if each text were as long as the file
_HEAP = b"GCOL\1\0\0\0"  # how the heap starts that holds texts of any length
_DEEPEST = 100  # groups in each other
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}  # whose output cannot outgrow the chunk by much


class Hdf5:
    """An open HDF5 file. `open_hdf5` makes it.

    Links to other files and places are refused, and so are data kept in other files. What is left is a tree.
    """

    def __init__(self, file: h5py.File, size: int, budget: Budget) -> None:
        self._size, self._budget, self._text_left = size, budget, size
        if file.id.get_create_plist().get_sizes() != (8, 8):
            raise FileError("it is not an HDF5 file with addresses of 8 bytes, as h5py writes them")
        self._items = {"": file, **_tree(file)}

    @property
    def names(self) -> list[str]:
        """The paths of all groups and arrays, such as "node/nodes/0/tau", each after its group."""
        return list(self._items)[1:]

    def is_group(self, name: str) -> bool:
        """Return whether there is a group of this name; "" is the file itself."""
        return isinstance(self._items.get(name), h5py.Group)

    def is_array(self, name: str) -> bool:
        """Return whether there is an array of this name."""
        return isinstance(self._items.get(name), h5py.Dataset)

    def read(self, name: str) -> Any:
        """Return an array of numbers or of bytes, or one of these if the array has no axes.

        Raises:
            FileError: if it is too large (see `Budget`), something else than numbers and text, or damaged.
        """
        with reading(name):
            dataset = self._items[name]
            storage = dataset.id.get_create_plist()  # looked at first: the shape of virtual data opens their files
            if storage.get_layout() == h5py.h5d.VIRTUAL or storage.get_external_count():
                raise ValueError("its data are in other files, which are not opened: copy them into this file")
            filters = [storage.get_filter(index)[0] for index in range(storage.get_nfilters())]
            if unknown := sorted({code for code in filters if code not in _FILTERS or filters.count(code) > 1}):
                raise ValueError(f"it is compressed by filters {filters}, of which {unknown} are not read: use gzip")
            return self._values(dataset, dataset.id.get_storage_size())

    def has_attribute(self, group: str, name: str) -> bool:
        """Return whether a group has an attribute of this name."""
        with reading(group):
            return name in self._items[group].attrs

    def attribute(self, group: str, name: str) -> Any:
        """Return an attribute of a group, as `read` returns an array, with the same errors."""
        with reading(f"attribute {name!r} of {group!r}"):
            attributes = self._items[group].attrs
            found = attributes.get_id(name)
            count = self._check(found.shape, (), found.dtype, self._size)
            if _is_long_text(found.dtype) and count * self._size > _AT_ONCE:
                raise ValueError("it must be text of a fixed length")
            return attributes[name]

    def _values(self, dataset: h5py.Dataset, stored: int) -> Any:
        count = self._check(dataset.shape, dataset.chunks or (), dataset.dtype, stored)
        if not _is_long_text(dataset.dtype):
            return dataset[()]
        if count * self._size <= _AT_ONCE:
            values = dataset[()]
            self._take_text(np.ravel(values))
            return values
        values = np.empty(dataset.shape, object)  # one by one, since all may be the same long text
        for index in np.ndindex(dataset.shape):
            values[index] = dataset[index]
            self._take_text([values[index]])
        return values[()]

    def _take_text(self, texts: Iterable[Sized]) -> None:
        """Raise ValueError if all texts together are longer than the file, which does not compress them."""
        self._text_left -= sum(map(len, texts))
        if self._text_left < 0:
            raise ValueError("all its texts together are longer than the file")

    def _check(self, shape: Any, chunk: tuple[int, ...], dtype: np.dtype[Any], stored: int) -> int:
        """Take what values need from the budget, and return how many there are."""
        if shape is None:
            raise ValueError("it is empty, without a shape")
        if dtype.kind not in _NUMBERS and h5py.check_string_dtype(dtype) is None:
            raise ValueError(f"it must hold numbers or text, got {dtype}")
        count = math.prod(shape)
        size = max(count, math.prod(chunk) if chunk else 0) * dtype.itemsize
        self._budget.take(f"an array of shape {shape}", size, min(stored, self._size))
        return count


def _is_long_text(dtype: np.dtype[Any]) -> bool:
    """Return whether values are texts of any length, kept elsewhere in the file."""
    text = h5py.check_string_dtype(dtype)
    return text is not None and text.length is None


@contextmanager
def open_hdf5(source: Path | io.BytesIO, budget: Budget) -> Iterator[Hdf5]:
    """Open an HDF5 file for reading, whose arrays take their memory from `budget`.

    Raises:
        FileError: if it is no HDF5 file, is damaged, or has links other than those that make a tree.
    """
    with reading("it is not an HDF5 file that can be read"):
        if isinstance(source, Path):
            size = source.stat().st_size
            check_heaps(source)
        else:
            size = len(source.getbuffer())
            _check_heaps(source.getvalue())
        file = h5py.File(source, "r")
    with file:
        yield Hdf5(file, size, budget)


def check_heaps(path: Path) -> None:
    """Raise ValueError if a file has a damaged heap, which holds texts and arrays of any length."""
    with path.open("rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as content:
        _check_heaps(content)


def _check_heaps(content: bytes | mmap.mmap) -> None:
    """Raise ValueError if a heap of texts is damaged: HDF5 2.0 may then look for its end and never stop.

    A heap has a header of 16 bytes, then objects. An object has an index and a size in a header of 16 bytes, then data,
    aligned to 8 bytes. The object with the index 0 is the free space, whose size includes its header.
    """
    start = content.find(_HEAP)
    while start >= 0:
        end = start + struct.unpack_from("<8xQ", content, start)[0]
        if end > len(content):
            raise ValueError("a heap of texts is damaged")
        place = start + 16
        while place + 16 <= end:
            index, size = struct.unpack_from("<H6xQ", content, place)
            place += 16 + -(-size // 8) * 8 if index else size
            if place > end or (not index and size < 16):
                raise ValueError("a heap of texts is damaged")
        start = content.find(_HEAP, start + 1)


def _tree(file: h5py.File) -> dict[str, Any]:
    """Return all groups and datasets of a file by their paths.

    It is done in a loop, since h5py and HDF5 call themselves for each level.
    """
    found: dict[str, Any] = {}
    seen = {_address(file)}
    pending: list[tuple[tuple[str, ...], Any]] = [((), file)]
    while pending:
        path, group = pending.pop()
        with reading("/".join(path) or "the file"):
            keys = list(group)
            for key in keys:  # all before the first is opened: opening "a/b" opens a
                if group.get(key, getlink=True, getclass=True) is not h5py.HardLink:
                    raise ValueError(f"{key!r} is a link, which is not followed: copy into the file what it leads to")
                if "/" in key or key in ("", "."):
                    raise ValueError(f"{key!r} is no name of an array or a group")
            for key in keys:
                item = found["/".join((*path, key))] = group[key]
                if isinstance(item, h5py.Group):
                    if (address := _address(item)) in seen:
                        raise ValueError(f"the group {key!r} is in more than one place of the file")
                    if len(path) >= _DEEPEST:
                        raise ValueError(f"more than {_DEEPEST} groups are in each other")
                    seen.add(address)
                    pending.append(((*path, key), item))
    return found


def _address(item: Any) -> int:
    return h5py.h5o.get_info(item.id).addr
