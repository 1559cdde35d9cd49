"""Where the metrics of each epoch go, beside `metrics.jsonl`."""

import contextlib
import hashlib
import importlib.util
import os
import socket
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from experiments.parts.base import Part

Log: TypeAlias = Callable[[dict[str, Any]], None]


class Logger(Part):
    """Base of the loggers."""

    package: ClassVar[str] = ""  # which it needs, besides what jsnn has

    def check(self) -> None:
        """Raise ValueError if the package is missing."""
        if self.package and importlib.util.find_spec(self.package) is None:
            raise ValueError(f"logger {self.kind!r} needs its package: pip install {self.package}, or leave it out")

    @abstractmethod
    def make(self, folder: Path, settings: dict[str, Any]) -> Any:
        """Return a context manager that gives a function, which takes the record of each epoch.

        Args:
            folder: of the run.
            settings: the run's config, as in `config.json`.
        """


class Tensorboard(Logger):
    """Curves for TensorBoard, in the run's folder `tensorboard/`."""

    @contextlib.contextmanager
    def make(self, folder: Path, settings: dict[str, Any]) -> Iterator[Log]:
        from tensorboardX import summary
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import RecordWriter

        board = folder.resolve() / "tensorboard"
        board.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
        writer = RecordWriter(str(board / name))  # not SummaryWriter: an error in its thread would be lost
        writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())

        def log(record: dict[str, Any]) -> None:
            for name, value in _numbers(record).items():
                scalar = summary.scalar(name, value)
                writer.write(Event(wall_time=time.time(), step=record["step"], summary=scalar).SerializeToString())
            writer.flush()

        try:
            yield log
        except BaseException:
            with contextlib.suppress(OSError):  # it is the same full disk again
                writer.close()
            raise
        writer.close()


class Wandb(Logger):
    """Weights & Biases, where its package is installed."""

    package: ClassVar[str] = "wandb"
    project: str = "jsnn"
    """The project there."""

    @contextlib.contextmanager
    def make(self, folder: Path, settings: dict[str, Any]) -> Iterator[Log]:
        """Return the logger; a run that goes on is the same run there."""
        import wandb

        where = folder.resolve()  # whose name alone may be that of another run, such as a stage of another study
        options = {"id": hashlib.sha256(os.fsencode(where)).hexdigest()[:16], "resume": "allow"}
        with wandb.init(project=self.project, name=where.name, dir=str(folder), config=settings, **options) as run:
            yield lambda record: run.log(_numbers(record), step=record["step"])


class Mlflow(Logger):
    """MLflow, where its package is installed."""

    package: ClassVar[str] = "mlflow"
    experiment: str = "jsnn"
    """The experiment there."""

    @contextlib.contextmanager
    def make(self, folder: Path, settings: dict[str, Any]) -> Iterator[Log]:
        import mlflow

        mlflow.set_experiment(self.experiment)
        with mlflow.start_run(run_name=folder.resolve().name):
            mlflow.log_params(settings)
            yield lambda record: mlflow.log_metrics(_numbers(record), step=record["step"])


class NoLogger(Logger):
    """`metrics.jsonl` alone."""

    kind = "none"

    def make(self, folder: Path, settings: dict[str, Any]) -> contextlib.AbstractContextManager[Log]:
        return contextlib.nullcontext(lambda record: None)


def _numbers(record: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in record.items() if isinstance(value, int | float)}
