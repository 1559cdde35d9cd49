"""How much memory the content of a file may take."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_DENSEST = 2000  # how many times larger than what the file holds an array may be: gzip saves at most a factor of 1,032
_SMALL = 2**20  # bytes that any file may take: small arrays of equal values are compressed further
_SHARE = 2  # one part in so many of the free memory may be taken


class FileError(ValueError):
    """A file that cannot be read: it is damaged, too large, or holds what is not read. One line says what is wrong."""


class Budget:
    """The memory that the content of one file may take, from which each array takes its part before it is read.

    An array may take 2,000 times as many bytes as the file holds of it, and 1 MiB besides. All arrays of a file
    together may take 2,000 times the size of the file, 1 MiB besides, and at most half of the memory that is free.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.file_size = path.stat().st_size
        self._free = psutil.virtual_memory().available // _SHARE
        self.left = min(_DENSEST * self.file_size + _SMALL, self._free)

    def take(self, name: str, size: int, stored: int) -> None:
        """Take `size` bytes for what is called `name`, of which the file says that it holds `stored` bytes.

        Raises:
            FileError: if that is more than is left.
        """
        stored = min(stored, self.file_size)
        if size > _DENSEST * stored + _SMALL:
            raise FileError(f"{name} of {size:,} bytes is too large to be true: the file holds {stored:,} bytes of it")
        if size > self._free:
            raise FileError(f"{name} needs {size:,} bytes, more than half of the free memory: {self._free:,} bytes")
        if size > self.left:
            raise FileError(f"{name} of {size:,} bytes is too large: {self.left:,} bytes are left for it and the rest")
        self.left -= size


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Raise FileError, which names `what`, for whatever a library raises at a damaged file."""
    try:
        yield
    except Exception as error:
        raise FileError(f"{_printable(what, 200)}: {one_line(error)}") from error


def one_line(error: BaseException, length: int = 300) -> str:
    r"""Return the message of an error as one line, with its type where the message alone says too little.

    Examples:
        >>> one_line(KeyError("tau")), one_line(ValueError("a\n b"))
        ("KeyError: 'tau'", 'a b')
    """
    text = _printable(str(error), length)
    if not isinstance(error, OSError | ValueError) or not text:
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text


def _printable(text: str, length: int) -> str:
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= length else f"{text[:length]}..."
