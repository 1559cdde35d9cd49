"""Writes down the epochs of a run: a line each in `metrics.jsonl`, and by its logger.

Both are for people. What a run goes on from, the records of its epochs among them, is in its checkpoints, which have
checksums: `metrics.jsonl` is written anew from there when a run goes on, so that a damaged one changes no number.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments import processes
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
        OSError: if they cannot be written (a full disk), also when an epoch is added.
        ValueError: if the logger's package is missing.
    """
    if not processes.is_first():
        yield lambda record: None
        return
    path = folder / NAME
    if records or path.exists():
        write_whole(path, "".join(json.dumps(record) + "\n" for record in records))
    with experiment.logger.make(folder, to_values(experiment)) as log:

        def add(record: dict[str, Any]) -> None:
            append(path, json.dumps(record))
            log(record)

        yield add


def read(folder: Path, step: int) -> list[dict[str, Any]]:
    """Return the epochs up to a step as `metrics.jsonl` has them, for checkpoints of earlier versions, without records.

    A last line that is cut off is left out: there the run was killed.

    Raises:
        ValueError: if another line is damaged, or an epoch is missing; it says which.
    """
    path = folder / NAME
    lines = path.read_bytes().splitlines() if path.exists() else []
    kept: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            fits = record["epoch"] == number and record["step"] > (kept[-1]["step"] if kept else 0)
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):
                break
            raise ValueError(f"line {number} of {path} is damaged ({error}): {_CURE}") from error
        if not fits:
            raise ValueError(f"line {number} of {path} must be epoch {number}, and is {line.decode()[:40]}: {_CURE}")
        kept.append(record)
    return [record for record in kept if record["step"] <= step]


_CURE = "mend it from a copy of the file, or begin the run anew with its config.json"
