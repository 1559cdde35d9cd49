"""Keeps from the user what orbax logs and its threads print beside an error that is raised, and shown in a line."""

import logging
import sys
from typing import Any


def about_orbax() -> None:
    """Hide a traceback for each array that cannot be written on a full disk, or read from a damaged checkpoint.

    Orbax closes its event loop at the first error. Its other readers and writers go on in threads, where they find the
    loop closed, or an error of their own, and nobody to tell it.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    show = sys.unraisablehook

    def show_others(unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)  # of a coroutine
        is_closed = (
            isinstance(unraisable.exc_value, RuntimeError) and str(unraisable.exc_value) == "Event loop is closed"
        )
        if not is_closed and (code is None or "orbax" not in code.co_filename):
            show(unraisable)

    sys.unraisablehook = show_others
