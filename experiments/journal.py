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
