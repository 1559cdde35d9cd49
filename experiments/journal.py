"""What a run writes down of its epochs: a line each in `metrics.jsonl`, and the curves for TensorBoard.

Both are for people. What a run goes on from, the records of its epochs among them, is in its checkpoints, which have
checksums: `metrics.jsonl` is written anew from there when a run goes on, so that a damaged one changes no number.
"""

import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import RecordWriter

from experiments import processes
from experiments.files import append, write_whole

NAME = "metrics.jsonl"


class Journal:
    """The epochs of a run; of several processes the first alone writes. Leaving its context closes TensorBoard's file.

    Args:
        folder: the run's.
        records: the epochs that the run goes on from; others are taken out of `metrics.jsonl`.

    Raises:
        OSError: if it cannot be written (a full disk), also when an epoch is added.
    """

    def __init__(self, folder: Path, records: Sequence[dict[str, Any]]) -> None:
        self._path = folder / NAME
        self.records = list(records)
        self._board: RecordWriter | None = None  # not SummaryWriter: an error in its thread would be lost
        if processes.is_first():
            if records or self._path.exists():
                write_whole(self._path, "".join(json.dumps(record) + "\n" for record in records))
            board = folder.resolve() / "tensorboard"
            board.mkdir(exist_ok=True)
            name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
            self._board = RecordWriter(str(board / name))
            self._board.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._board is not None:
            try:
                self._board.close()
            except OSError:
                if error is None:  # otherwise it is the same full disk again
                    raise

    def add(self, record: dict[str, Any]) -> None:
        """Write down the metrics of an epoch, "step" among them."""
        self.records.append(record)
        if self._board is None:
            return
        append(self._path, json.dumps(record))
        for name, value in record.items():
            if name != "networks":
                scalar = summary.scalar(name, value)
                event = Event(wall_time=time.time(), step=record["step"], summary=scalar)
                self._board.write(event.SerializeToString())
        self._board.flush()


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
