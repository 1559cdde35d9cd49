"""The packages that only some parts of jsnn need, and the errors where they are missing."""

import importlib.util


def require(extra: str, *packages: str) -> None:
    """Raise ImportError if one of the packages is not installed, with the command that installs it.

    Args:
        extra: the extra of jsnn that has them, such as "plot".
        packages: as they are imported, such as "matplotlib".
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ImportError(f"this part of jsnn needs {' and '.join(missing)}: pip install 'jsnn[{extra}]'")
