"""Keeps from the user what orbax logs and its threads print beside an error that is raised, and shown in a line."""

import logging
import sys
from typing import Any


def about_orbax() -> None:
    """Hide a traceback for each array that cannot be written on a full disk, or read from a damaged checkpoint.

    Orbax closes its event loop at the first error. Its other readers and writers go on in threads, where they find the
    loop closed, and nobody to tell it.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    show = sys.unraisablehook

    def show_others(unraisable: Any) -> None:
        if not (isinstance(unraisable.exc_value, RuntimeError) and str(unraisable.exc_value) == "Event loop is closed"):
            show(unraisable)

    sys.unraisablehook = show_others
