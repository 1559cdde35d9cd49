"""The paths that users give."""

import os
from pathlib import Path


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path as a `Path`, in which a leading ~ is the home folder, as in a shell.

    >>> as_path("~/weights.npz") == Path.home() / "weights.npz"
    True
    """
    return Path(os.path.expanduser(path))
