"""What a run writes down of its epochs: a line each in `metrics.jsonl`, and the curves for TensorBoard."""

import json
from pathlib import Path
from typing import Any, Self

import tensorboardX

from experiments import processes
from experiments.files import write_whole


class Journal:
    """The epochs of a run; of several processes the first alone writes. Leaving its context closes TensorBoard's file.

    Args:
        folder: the run's.
        step: what the run goes on from; epochs that ended later, of which no checkpoint is left, are taken out.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / "metrics.jsonl"
        self.records = _read(self._path, step)
        if processes.is_first() and self._path.exists():
            write_whole(self._path, "".join(json.dumps(record) + "\n" for record in self.records))
        self._board = tensorboardX.SummaryWriter(str(folder / "tensorboard")) if processes.is_first() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._board is not None:
            self._board.close()

    def add(self, record: dict[str, Any]) -> None:
        """Writes down the metrics of an epoch, "step" among them."""
        self.records.append(record)
        if self._board is None:
            return
        with open(self._path, "a") as file:
            file.write(json.dumps(record) + "\n")
        for name, value in record.items():
            if name != "networks":
                self._board.add_scalar(name, value, global_step=record["step"])


def _read(path: Path, step: int) -> list[dict[str, Any]]:
    """The lines of the epochs up to a step."""
    kept: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break  # the line at which the run was killed
        if record["step"] <= step:
            kept.append(record)
    return kept
