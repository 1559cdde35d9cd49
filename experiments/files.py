"""Files that are there whole, or not at all, and that tell when they were changed; and the lock of a run's folder."""

import csv
import io
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from jsnn import checksum

if sys.platform != "win32":
    import fcntl

LOCK = ".lock"


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Make the folder if it is missing, and keep other commands out of it until the context is left.

    The lock is the kernel's (`flock` on the file `.lock`): it goes with the process, however that ends. It holds on
    local disks, and between the machines that share an NFS; on file systems without locks (some of Lustre, FUSE), and
    on Windows, it holds nobody out. Several processes of one command (`--distributed`) count as one.

    Raises:
        BlockingIOError: if another command holds it; the message says which.
        OSError: if the folder cannot be made or written to.
    """
    from experiments import system  # JAX too, which a page is made without

    failure: OSError | None = None
    with ExitStack() as held:
        if system.is_first():
            try:
                held.enter_context(hold_alone(folder))
            except OSError as error:
                failure = error
        if system.any_of(failure is not None):
            raise failure or BlockingIOError(f"the first process cannot use {folder}")
        yield


@contextmanager
def hold_alone(folder: Path) -> Iterator[None]:
    """Keep other commands out of a folder, as `hold` does, for a command of one process."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "ab+", buffering=0) as file:
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except BlockingIOError as error:
            file.seek(0)
            who = file.read(200).decode(errors="replace").strip()
            raise BlockingIOError(
                f"{folder} is in use by another command ({who or 'which has just begun'}): wait until it has ended, "
                f"or give another --workdir"
            ) from error
        except OSError:
            pass  # a file system without locks, or a full disk: who holds the lock is nice to know, and no more
        yield


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name and rename it: one that is killed leaves what was there before.

    Raises:
        OSError: if the folder is missing or cannot be written to; nothing is left of the file then.
    """
    temporary = temporary_of(path)
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    except OSError as error:
        if temporary.is_file():
            temporary.unlink()
        raise _named(error, path) from error


def temporary_of(path: Path) -> Path:
    """Return the name that a file has while `write_whole` writes it."""
    return path.with_name(path.name + ".tmp")


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    r"""Return rows as the text of a CSV file, with the names of the first above them; None is empty.

    Examples:
        >>> as_csv([{"scale": 2.0, "synapse": None}])
        'scale,synapse\n2.0,\n'
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def append(path: Path, line: str) -> None:
    """Add a line to a file.

    Raises:
        OSError: if it cannot be written; it names the file.
    """
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise _named(error, path) from error


def write_sealed(path: Path, values: dict[str, Any]) -> None:
    """Write a dictionary as JSON with its checksum, whole or not at all.

    Raises:
        OSError: as `write_whole`.
    """
    write_whole(path, json.dumps(checksum.seal(values), indent=2) + "\n")


def read_sealed(path: Path) -> dict[str, Any]:
    """Return the dictionary that `write_sealed` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not what was written.
    """
    try:
        return checksum.unseal(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:  # of JSON and of UTF-8 too
        raise ValueError(f"{path} is damaged: {error}. Mend it from a copy, or begin a new run") from error


def _named(error: OSError, path: Path) -> OSError:
    """Return the same error with the name of the file, which writing and closing leave out."""
    return type(error)(error.errno, error.strerror or str(error), str(path))
