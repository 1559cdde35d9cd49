"""One command at a time writes into the folder of a run."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

NAME = ".lock"


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
    from experiments import processes  # JAX too, which a page is made without

    failure: OSError | None = None
    with ExitStack() as held:
        if processes.is_first():
            try:
                held.enter_context(hold_alone(folder))
            except OSError as error:
                failure = error
        if processes.any_of(failure is not None):
            raise failure or BlockingIOError(f"the first process cannot use {folder}")
        yield


@contextmanager
def hold_alone(folder: Path) -> Iterator[None]:
    """As `hold`, for a command of one process."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / NAME, "ab+", buffering=0) as file:
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
