"""What one sees of a run while it trains, and how one stops it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second Ctrl-C stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # signals reach the main thread only
        return

    def ask(signum: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    previous: dict[int, Any] = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def bar(console: Console) -> Progress:
    """A bar over all steps of the run."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def describe(epoch: int, epochs: int, metrics: dict[str, np.ndarray], images_per_second: float) -> str:
    """What stands beside the bar: the means over the last portion of an epoch."""
    mean: Callable[[str], float] = lambda name: float(np.mean(metrics[name]))  # noqa: E731
    rates = " ".join(f"{np.mean(v):.3f}" for name, v in metrics.items() if name.startswith("rate/"))
    return (
        f"epoch {epoch + 1}/{epochs} loss {mean('loss'):.3f} accuracy {mean('accuracy'):.1%} "
        f"rates {rates} {images_per_second:,.0f} images/s"
    )


def summarise(record: dict[str, Any], epochs: int) -> str:
    """The line that an epoch leaves behind."""
    validation = f" validation {record['validation_accuracy']:.2%}" if "validation_accuracy" in record else ""
    return (
        f"epoch {record['epoch']}/{epochs}: loss {record['train_loss']:.4f} train {record['train_accuracy']:.2%}"
        f"{validation} test {record['test_accuracy']:.2%} ({record['seconds']:.1f} s)"
    )
