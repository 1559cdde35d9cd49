"""What one sees of a run while it trains, and how one stops it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from experiments.summary import format_metric


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and SIGTERM set; a second Ctrl-C stops at once."""
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
    """Return a bar over all steps of the run."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def describe(epoch: int, epochs: int, metrics: dict[str, np.ndarray], score: str, examples_per_second: float) -> str:
    """Return what stands beside the bar: the means over the last portion of an epoch."""
    rates = " ".join(f"{np.mean(v):.3f}" for name, v in metrics.items() if name.startswith("rate/"))
    return (
        f"epoch {epoch + 1}/{epochs} loss {np.mean(metrics['loss']):.3f} "
        f"{score} {format_metric(score, float(np.mean(metrics[score])))} "
        f"rates {rates} {examples_per_second:,.0f} examples/s"
    )


def summarise(record: dict[str, Any], epochs: int, score: str) -> str:
    """Return the line that is printed after an epoch."""
    named = {name: record.get(f"{name}_{score}") for name in ("train", "validation", "test")}
    scores = " ".join(f"{name} {format_metric(score, value)}" for name, value in named.items() if value is not None)
    return f"epoch {record['epoch']}/{epochs}: loss {record['train_loss']:.4f} {scores} ({record['seconds']:.1f} s)"


def headed(word: str, style: str, text: str) -> Text:
    """Return a line that begins with a word in a colour; the rest is shown as it is, brackets too."""
    return Text.assemble((word, style), " ", text)


def say(console: Console, message: str, status: int) -> int:
    """Print an error as one line that any terminal can show; return the exit status."""
    console.quiet = False
    text = " ".join(message.split()).encode(console.encoding, "backslashreplace").decode(console.encoding)
    console.print(headed("error:", "red", text))
    return status
