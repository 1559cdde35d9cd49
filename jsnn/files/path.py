"""The paths that users give, and the folder of what jsnn keeps."""

import os
from pathlib import Path


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path as a `Path`, in which a leading ~ is the home folder, as in a shell.

    Examples:
        >>> as_path("~/weights.npz") == Path.home() / "weights.npz"
        True
    """
    return Path(os.path.expanduser(path))


def cache_folder() -> Path:
    """Return the folder of what can be made again: JSNN_CACHE_DIR, or ~/.cache/jsnn where that is not set."""
    return as_path(os.environ.get("JSNN_CACHE_DIR") or "~/.cache/jsnn")
