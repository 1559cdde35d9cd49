"""Writes down the epochs of a run: a line each in `metrics.jsonl`, and by its logger.

Both are for people. What a run goes on from, the records of its epochs among them, is in its checkpoints, which have
checksums: `metrics.jsonl` is written anew from there when a run goes on, so that a damaged one changes no number.
"""

import copy
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from experiments import system
from experiments.config import Experiment, to_values
from experiments.files import append, write_whole
from experiments.parts.loggers import Log

NAME = "metrics.jsonl"


@contextmanager
def opened(experiment: Experiment, folder: Path, records: Sequence[dict[str, Any]]) -> Iterator[Log]:
    """Give a function that writes down the record of an epoch, "step" in it; of several processes the first alone does.

    Args:
        experiment: whose logger is told too.
        folder: the run's.
        records: the epochs that the run goes on from; others are taken out of `metrics.jsonl`.

    Raises:
        OSError: if they cannot be written (a full disk), or the logger fails, also when an epoch is added or
            when it ends.
    """
    if not system.is_first():
        yield lambda record: None
        return
    path = folder / NAME
    if records or path.exists():
        write_whole(path, "".join(json.dumps(record) + "\n" for record in records))
    stack, settings, make = ExitStack(), to_values(experiment), experiment.logger.make
    log = _attempt(experiment, lambda: stack.enter_context(make(folder, settings)))

    def add(record: dict[str, Any]) -> None:
        append(path, json.dumps(record))
        _attempt(experiment, log, copy.deepcopy(record))  # which may change it

    try:
        yield add
    except BaseException:
        with suppress(Exception):  # what stopped the training is raised, not what the logger makes of it
            stack.__exit__(*sys.exc_info())
        raise
    _attempt(experiment, stack.close)


def _attempt(experiment: Experiment, call: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call of a logger gives; all that it raises is an OSError, as it cannot write."""
    try:
        return call(*arguments)
    except OSError:
        raise
    except Exception as error:  # each logger's library has its own, and so have those of one's own
        raise OSError(f"logger {experiment.logger.kind!r} failed, {type(error).__name__}: {error}") from error
