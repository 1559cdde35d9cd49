"""The training loop: epochs, progress, what is written down, and how a run stops and goes on.

A run can be stopped at any moment. Ctrl-C and SIGTERM are taken at the next break between two portions of an epoch,
where the state is saved; a run that is killed goes on from the end of its last whole epoch. Either way it ends with
the numbers of a run that was never stopped, because the order of the data and all randomness depend on the seed, the
epoch and the step alone.
"""

import contextlib
import functools
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape

from experiments import build, journal, processes, progress, size
from experiments.config import Experiment
from experiments.optimizer import make_optimizer
from jsnn import memory, train
from jsnn.checkpoint import Checkpoints
from jsnn.data import Dataset, epoch_permutation, pad_to_batches
from jsnn.files import as_path
from jsnn.sharding import Layout

_PORTIONS = 20  # in how many parts an epoch is taken, each one call: the progress bar moves between them
_MOST_STEPS = 2**31 - 1  # they are counted in 32 bits
_DEVICE_BYTES = 2 * 2**30  # a larger training set is streamed


class Interrupted(Exception):
    """The run was asked to stop, and has saved its state."""


class NotFinite(Exception):
    """The loss became NaN or infinite; the message names the step."""


class NotCompiled(Exception):
    """The fused kernel could not be compiled; the message says why, and how to train without it."""


class Run:
    """One experiment in its folder.

    Args:
        experiment: what to run.
        folder: where its checkpoints and metrics are, or will be.
        console: where progress is shown.
        read_only: for evaluation, which leaves the folder as it is.
        alone: on one device, whatever the experiment asks for, and without other processes.
        sets: its data, where they are loaded already.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        console: Console,
        *,
        read_only: bool = False,
        alone: bool = False,
        sets: build.Sets | None = None,
    ) -> None:
        self.experiment, self.folder, self.console = experiment, folder, console
        mesh = experiment.mesh
        self.layout = Layout() if alone else Layout.over(experiment.train.batch_size, mesh.data, mesh.model)
        make_optimizer(experiment.optimizer, 1)  # its mistakes are found before data are loaded
        with console.status(f"loading {escape(experiment.data.name)}"):
            self.sets = sets or build.load_data(experiment.data)
        settings = experiment.train
        count = len(self.sets.train)
        if count < settings.batch_size:
            raise ValueError(f"train.batch_size must be <= the {count} training images, got {settings.batch_size}")
        self.steps_per_epoch = count // settings.batch_size
        if settings.epochs * self.steps_per_epoch > _MOST_STEPS:
            most = _MOST_STEPS // self.steps_per_epoch
            raise ValueError(f"train.epochs must be <= {most}, of {self.steps_per_epoch} steps, got {settings.epochs}")
        optimizer = make_optimizer(experiment.optimizer, settings.epochs * self.steps_per_epoch)
        shape = build.encoded_shape(experiment.encoder, self.sets.train.images.shape[1:])
        make = functools.partial(
            build.make_network, experiment.model, shape, self.sets.train.num_classes, experiment.seed
        )
        size.check_weights(experiment, lambda: train.create(make(), optimizer)[1])
        network = make()
        self.graph, state = train.create(network, optimizer)
        self.state = self.layout.place(state)
        schedule = build.make_schedule(experiment, settings.epochs * self.steps_per_epoch)
        loss, test_loss = (
            self.layout.share_out(build.make_loss(experiment, training=training, record=self.layout.record))
            for training in (True, False)
        )
        if sets is None:
            with _blaming_the_kernel(experiment):
                size.check_batch(experiment, network, self.sets, (loss, test_loss))
        self.advance = self.layout.hold(train.make_advance(self.graph, loss, optimizer, schedule), self.state)
        self.sum_metrics = train.make_evaluate(self.graph, test_loss)
        self.key = jax.random.key(experiment.seed)
        self._read_only = read_only
        self._known_to_fit: set[Any] = set()

    @property
    def step(self) -> int:
        """How many optimiser steps were taken."""
        return int(self.state.step)

    @functools.cached_property
    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints; their folder is made when they are first asked for, after `config.json`."""
        return Checkpoints(self.folder / "checkpoints", read_only=self._read_only)

    def restore(self, step: int | None) -> dict[str, Any]:
        """Take the state of a checkpoint; returns what was saved beside it."""
        self.state, info = self.checkpoints.restore(step, self.state)
        return info

    def go_back(self, step: int | None) -> None:
        """Make the checkpoint of a step the last one, from which the training goes on.

        Raises:
            CheckpointError: if it cannot be restored; nothing is lost then.
        """
        self.checkpoints.go_back(step, self.state)

    def records(self) -> list[dict[str, Any]]:
        """Return what was written down of the epochs up to the last checkpoint.

        Raises:
            CheckpointError: if it is damaged.
            ValueError: if it is of an earlier version, which left them in `metrics.jsonl`, and that is damaged.
        """
        if self.experiment.train.weights is not None or self.checkpoints.last is None:
            return []
        step = self.checkpoints.last
        info = self.checkpoints.info(step)
        records = info["records"] if "records" in info else journal.read(self.folder, step)
        if len(records) != step // self.steps_per_epoch:
            raise ValueError(
                f"{self.folder / journal.NAME} has {len(records)} epochs, and {step // self.steps_per_epoch} are "
                f"trained: mend it from a copy of the file, or begin the run anew with its config.json"
            )
        return records

    def network(self) -> train.Network:
        """The network with its present weights, in inference mode."""
        network: Any = train.network_of(self.graph, self.state)
        network.eval()
        return network

    @property
    def where(self) -> str:
        """On which devices it runs."""
        batch_size = self.experiment.train.batch_size
        return str(self.layout) + f" (train.batch_size is {batch_size})" * (self.layout.size < len(jax.devices()))

    def networks(self) -> list["Run"]:
        """The networks that are trained here, each as a run of its own: this one alone, unless there are several."""
        return [self]

    def split(self, metrics: dict[str, Any]) -> list[dict[str, float]]:
        """The metrics of each of the networks, behind its seed and learning rate."""
        return [{"seed": self.experiment.seed, "learning_rate": self.experiment.optimizer.learning_rate} | metrics]

    def on_one_device(self) -> "Run":
        """The run as it is now, for what each process can do by itself; all of them ask for it, or none."""
        if self.layout.mesh is None:
            return self
        run = Run(self.experiment, self.folder, self.console, read_only=True, alone=True, sets=self.sets)
        run.state = self.layout.gather(self.state)
        return run

    def take_weights(self, folder: Path) -> None:
        """Take the weights of the last checkpoint of another run with the same network, whatever its optimiser.

        Raises:
            CheckpointError: if there is none, or it does not fit.
        """
        checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
        weights = checkpoints.restore_part(checkpoints.last, self.state._replace(optimizer=None))
        self.state = weights._replace(optimizer=self.state.optimizer)

    def evaluate(self, dataset: Dataset) -> dict[str, Any]:
        """The mean of each metric over a data set.

        Raises:
            MemoryError: if it takes more memory than the device has.
        """
        batch_size = min(self.experiment.train.eval_batch_size, len(dataset))
        indices, mask = pad_to_batches(len(dataset), batch_size)
        key = self._key_of(2**31)  # no training step's
        images, labels = self.layout.examples(dataset.images), self.layout.examples(dataset.labels)
        batches = self.layout.everywhere(indices), self.layout.everywhere(mask)
        arguments = (self.state, images, labels, *batches, key)
        self._check_memory(self.sum_metrics, *arguments)
        sums = self.sum_metrics(*arguments)
        count = _as_float(sums.pop("count"))
        return {name: (_as_float(value) / count).tolist() for name, value in sums.items()}

    def fit(self) -> tuple[list[dict[str, float]], float]:
        """Trains to the end, from wherever the folder's last checkpoint is; returns final metrics and seconds.

        The metrics are those of each of the networks, see `split`. Final are those of the last epoch, or, with a
        validation set, of the epoch that was best on it, whose weights the network then has.

        Raises:
            Interrupted: if a signal asked to stop; the state is saved.
            NotFinite: if the loss is; the last good checkpoint stays the last.
            MemoryError: if a step or an evaluation takes more memory than the device has.
            NotCompiled: if the fused kernel cannot be compiled.
            CheckpointError: if a checkpoint cannot be read or written.
            OSError: if the metrics cannot be written.
        """
        weights = self.experiment.train.weights
        if weights is not None:
            self.take_weights(as_path(weights))
            metrics = {f"test_{name}": value for name, value in self.evaluate(self.sets.test).items()}
            return self.split(metrics), 0.0
        info: dict[str, Any] = {"sums": {}, "seconds": 0.0}
        if self.checkpoints.best is not None:  # a damaged best one is found here, not when all is done
            info = self.restore(self.checkpoints.last)
        step = self.step
        epochs = self.experiment.train.epochs
        start = time.monotonic() - info["seconds"]
        with (
            progress.stop_signals() as stop_asked,
            progress.bar(self.console) as bar,
            journal.Journal(self.folder, self.records()) as diary,
        ):
            task = bar.add_task("", total=epochs * self.steps_per_epoch, completed=step)
            sums: dict[str, Any] = info["sums"]
            for epoch in range(step // self.steps_per_epoch, epochs):
                if self._should_stop_early(diary.records):
                    break
                epoch_start, first_step = time.monotonic(), self.step
                for metrics in self._portions(epoch):
                    steps = metrics["loss"].shape[-1]
                    self._check_finite(metrics["loss"])
                    sums = {
                        name: (_as_float(sums.get(name, 0.0)) + _as_float(values).sum(-1)).tolist()
                        for name, values in metrics.items()
                    }
                    images = (self.step - first_step) * self.experiment.train.batch_size
                    speed = images / (time.monotonic() - epoch_start)
                    bar.update(task, advance=steps, description=progress.describe(epoch, epochs, metrics, speed))
                    if self.step % self.steps_per_epoch and processes.any_of(stop_asked.is_set()):
                        self._save(sums, time.monotonic() - start, diary.records, score=None)
                        raise Interrupted
                record = self._finish_epoch(epoch, sums, time.monotonic() - epoch_start)
                sums = {}
                diary.add(record)
                self._save(sums, time.monotonic() - start, diary.records, score=record[self._score_name])
                bar.console.print(progress.summarise(record, epochs))
                if processes.any_of(stop_asked.is_set()):
                    raise Interrupted
        chosen = self.chosen(diary.records)
        if chosen["step"] != self.step:
            self.restore(chosen["step"])
        final = {name: value for name, value in chosen.items() if name not in ("epoch", "step", "seconds")}
        return final.get("networks") or self.split(final), time.monotonic() - start

    def chosen(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the record of the epoch whose weights are the result."""
        return max(records, key=self._score_of) if self.sets.validation else records[-1]

    def _key_of(self, number: int) -> jax.Array:
        """The key of one of the run's purposes."""
        return jax.random.fold_in(self.key, number)

    @property
    def _score_name(self) -> str:
        return "validation_accuracy" if self.sets.validation else "test_accuracy"

    def _score_of(self, record: dict[str, Any]) -> float:
        """By which epochs are compared: one that is not finite is worse than any other."""
        score = record[self._score_name]
        return score if math.isfinite(score) else -math.inf

    def _portions(self, epoch: int) -> Iterator[dict[str, np.ndarray]]:
        """Trains through the rest of an epoch, a portion at a time; yields each portion's metrics by step."""
        order = self.order(epoch)
        done = self.step - epoch * self.steps_per_epoch
        key = self._key_of(2**31 - 1)
        for first, after in _portion_bounds(self.steps_per_epoch):
            if first < done:
                continue
            images, labels, indices = self._place(order[..., first:after, :])
            arguments = (self.state, images, labels, indices, key)
            self._check_memory(self.advance, *arguments)
            self.state, metrics = self.advance(*arguments)
            yield jax.device_get(metrics)

    def _check_memory(self, program: Any, *arguments: Any) -> None:
        """Raise an error, before the first call of a program, if the device has no room for it or cannot compile it.

        Compiling is not done twice.
        """
        if program not in self._known_to_fit:
            with _blaming_the_kernel(self.experiment):
                needed = memory.of_function(program, *arguments)
            memory.check_fits(needed)
            self._known_to_fit.add(program)

    def order(self, epoch: int) -> np.ndarray:
        """The batches of an epoch, indices [S, B]."""
        count, batch_size = len(self.sets.train), self.experiment.train.batch_size
        if not self.experiment.data.shuffle:
            return np.arange(self.steps_per_epoch * batch_size, dtype=np.int32).reshape(-1, batch_size)
        return np.asarray(epoch_permutation(jax.random.fold_in(self.key, epoch), count, batch_size))

    @functools.cached_property
    def _resident(self) -> tuple[jax.Array, jax.Array]:
        return self.layout.examples(self.sets.train.images), self.layout.examples(self.sets.train.labels)

    def _place(self, indices: np.ndarray) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The data on the devices: the whole set, sent once, or only the images of these batches."""
        dataset, residence = self.sets.train, self.experiment.data.residence
        if residence == "device" or (residence == "auto" and dataset.images.nbytes <= _DEVICE_BYTES):
            return *self._resident, self.layout.everywhere(indices)
        flat = indices.reshape(-1)
        local = np.arange(flat.size, dtype=np.int32).reshape(indices.shape)
        images, labels = self.layout.examples(dataset.images, flat), self.layout.examples(dataset.labels, flat)
        return images, labels, self.layout.everywhere(local)

    def _finish_epoch(self, epoch: int, sums: dict[str, Any], seconds: float) -> dict[str, Any]:
        record: dict[str, Any] = {"epoch": epoch + 1, "step": self.step, "seconds": seconds}
        record |= {f"train_{name}": (_as_float(total) / self.steps_per_epoch).tolist() for name, total in sums.items()}
        named = {"validation": self.sets.validation, "test": self.sets.test}
        for name, dataset in named.items():
            if dataset is not None:
                record |= {f"{name}_{metric}": value for metric, value in self.evaluate(dataset).items()}
        return record

    def _should_stop_early(self, history: list[dict[str, Any]]) -> bool:
        patience = self.experiment.train.patience
        if patience is None or len(history) <= patience:
            return False
        scores = [self._score_of(record) for record in history]
        return max(scores[-patience:]) <= max(scores[:-patience])

    def _check_finite(self, losses: np.ndarray) -> None:
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            step = self.step - len(losses) + int(bad[0]) + 1
            raise NotFinite(
                f"the loss is {losses[bad[0]]} at step {step} (epoch {(step - 1) // self.steps_per_epoch + 1}): "
                f"lower optimizer.learning_rate or set optimizer.clip_norm. The last good checkpoint is that of "
                f"step {self.checkpoints.last} in {self.checkpoints.folder}"
            )

    def _save(self, sums: dict[str, Any], seconds: float, records: list[dict[str, Any]], score: float | None) -> None:
        info = {"sums": sums, "seconds": seconds, "records": records}
        self.checkpoints.save(self.step, self.state, info, score)


@contextlib.contextmanager
def _blaming_the_kernel(experiment: Experiment) -> Iterator[None]:
    """Raise NotCompiled for what a compiler raises, if the experiment asks for the fused kernel."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # each part of a compiler has its own
        if experiment.train.method != "fused":
            raise
        reason = next(iter(str(error).strip().splitlines()), "")
        raise NotCompiled(
            f"the fused kernel does not compile here ({type(error).__name__}: {reason}): "
            "train with --train.method scan, in a new folder"
        ) from error


def _portion_bounds(steps: int) -> list[tuple[int, int]]:
    """Splits an epoch into portions; of equal length where possible, since each length is compiled."""
    counts = [n for n in range(_PORTIONS // 2, 2 * _PORTIONS) if steps % n == 0]
    count = min(counts, key=lambda n: abs(n - _PORTIONS)) if counts else min(_PORTIONS, steps)
    ends = [len(part) for part in np.array_split(np.arange(steps), count)]
    bounds = np.cumsum([0, *ends]).tolist()
    return list(itertools.pairwise(bounds))


def _as_float(value: Any) -> np.ndarray:
    """Sums are taken in double precision; of several networks, each has its own."""
    return np.asarray(value, np.float64)
