"""Keeps what a library says about its own inside from the user, where it says nothing that an error does not."""

import logging
import sys
from types import TracebackType


def about_dropped_reads() -> None:
    """Hide what orbax's readers complain about after it has given up a damaged checkpoint, a traceback for each array.

    They run in threads that go on for a moment, and find the event loop closed. The error itself is raised, and shown.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    show = sys.excepthook

    def show_others(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            show(kind, error, trace)

    sys.excepthook = show_others
