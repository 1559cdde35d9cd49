"""The training loop: epochs, progress, what is written down, and how a run stops and goes on.

A run can be stopped at any moment. Ctrl-C and SIGTERM are taken at the next break between two portions of an epoch,
where the state is saved; a run that is killed goes on from the end of its last whole epoch. Either way it ends with
the numbers of a run that was never stopped, because the order of the data and all randomness depend on the seed, the
epoch and the step alone.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape

from experiments import build, datasets, journal, progress, system
from experiments.config import Experiment, Sets
from jsnn import train
from jsnn.checkpoint import Checkpoints
from jsnn.data import Dataset
from jsnn.files import as_path
from jsnn.sharding import Layout

_MOST_STEPS = 2**31 - 1  # they are counted in 32 bits


class NotCompiled(Exception):
    """The fused kernel could not be compiled; the message says why, and how to train without it."""


class Run(train.Trainer):
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
        sets: Sets | None = None,
    ) -> None:
        self.experiment, self.folder, self.console = experiment, folder, console
        mesh, part = experiment.mesh, experiment.train.batch_size // experiment.train.accumulate
        self.layout = Layout() if alone else Layout.over(part, mesh.data, mesh.model)
        experiment.optimizer.make(1)  # its mistakes are found before data are loaded
        if not read_only:
            experiment.logger.check()
        with console.status(f"loading {escape(experiment.data.name)}"):
            self.sets = sets or datasets.load(experiment)
        settings = experiment.train
        steps = len(self.sets.train) // settings.batch_size or 1
        if settings.epochs * steps > _MOST_STEPS:
            most = _MOST_STEPS // steps
            raise ValueError(f"train.epochs must be <= {most}, of {steps} steps, got {settings.epochs}")
        optimizer = experiment.optimizer.make(settings.epochs * steps)
        make = functools.partial(build.make_network, experiment, self.sets.train)
        build.check_weights(experiment, lambda: train.create(make(), optimizer)[1])
        network = make()
        self.graph, state = train.create(network, optimizer)
        super().__init__(
            self.layout.place(state),
            self.sets.train,
            jax.random.key(experiment.seed),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            eval_batch_size=settings.eval_batch_size,
            test=self.sets.test,
            validation=self.sets.validation,
            score=experiment.objective.loss.score,
            maximize=not experiment.objective.loss.is_error,
            patience=settings.patience,
            shuffle=experiment.data.shuffle,
        )
        schedule = build.make_schedule(experiment, settings.epochs * steps)
        self.pairs = []  # of programs that advance and evaluate: of whole epochs, and of those with fewer time steps
        classes = self.sets.train.num_classes if experiment.data.has_classes(self.sets.train) else 0
        options = {"in_time": self.sets.train.in_time, "num_classes": classes, "record": self.layout.record}
        for is_short in (False, True) if settings.short_epochs else (False,):
            one = dataclasses.replace(experiment, num_steps=settings.short_steps) if is_short else experiment
            rate_steps = experiment.num_steps if is_short and settings.short_rates else None
            loss, test_loss = (
                self.layout.share_out(build.make_loss(one, training=training, rate_steps=rate_steps, **options))
                for training in (True, False)
            )
            if sets is None:
                with _blaming_the_kernel(one):
                    build.check_batch(one, network, self.sets, (loss, test_loss))
            advance = train.make_advance(self.graph, loss, optimizer, schedule, accumulate=settings.accumulate)
            advance = self.layout.hold(advance, self.state)
            self.pairs.append((advance, train.make_evaluate(self.graph, test_loss)))
        self._read_only = read_only

    def programs(self, epoch: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
        return self.pairs[self._is_short(epoch)]

    @functools.cached_property
    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints; their folder is made when they are first asked for, after `config.json`."""
        return Checkpoints(self.folder / "checkpoints", read_only=self._read_only)

    def restore(self, step: int | None) -> dict[str, Any]:
        """Take the state of a checkpoint; returns what was saved beside it."""
        self.state, info = self.checkpoints.restore(step, self.state)
        return info

    def records(self) -> list[dict[str, Any]]:
        """Return what was written down of the epochs up to the last checkpoint.

        Raises:
            CheckpointError: if it is damaged.
        """
        if self.experiment.train.weights is not None or self.checkpoints.last is None:
            return []
        found: list[dict[str, Any]] = self.checkpoints.info(self.checkpoints.last)["records"]
        return found

    def network(self) -> train.steps.Network:
        """Return the network with its present weights, in inference mode."""
        network = train.steps.in_mode(train.network_of(self.graph, self.state), training=False)
        return self.experiment.network.for_inference(network)

    @property
    def where(self) -> str:
        """On which devices it runs."""
        batch_size = self.experiment.train.batch_size
        return str(self.layout) + f" (train.batch_size is {batch_size})" * (self.layout.size < len(jax.devices()))

    def networks(self) -> list["Run"]:
        """Return the networks that are trained here, each as a run of its own.

        There is one, this run itself, unless seeds or learning rates are several.
        """
        return [self]

    def split(self, metrics: dict[str, Any]) -> list[dict[str, float]]:
        """Return the metrics of each of the networks, after its seed and learning rate."""
        return [{"seed": self.experiment.seed, "learning_rate": self.experiment.optimizer.learning_rate} | metrics]

    def on_one_device(self) -> "Run":
        """Return the run as it is now, for what each process can do by itself; all of them ask for it, or none."""
        if self.layout.mesh is None:
            return self
        run = Run(self.experiment, self.folder, self.console, read_only=True, alone=True, sets=self.sets)
        run.state = self.layout.gather(self.state)
        return run

    def take_weights(self, folder: Path) -> None:
        """Take the weights that another run with the same network has trained, whatever its optimiser.

        Raises:
            CheckpointError: if there is none, or it does not fit.
        """
        checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
        weights = checkpoints.restore_part(_chosen_step(checkpoints), self.state._replace(optimizer=None))
        self.state = weights._replace(optimizer=self.state.optimizer)

    def check_examples(self, info: dict[str, Any]) -> None:
        """Raise ValueError if the sets have other sizes than when this was saved beside a checkpoint."""
        if info.get("examples", self._examples) != self._examples:
            name, then = self.experiment.data.name, info["examples"]
            raise ValueError(
                f"the sets of {name} have {self._examples} examples, and had {then} when the run was trained: take the "
                f"same data, or begin a new run"
            )

    def fit(self) -> tuple[list[dict[str, float]], float]:
        """Train to the end, from wherever the folder's last checkpoint is; return final metrics and seconds.

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
        self.check_examples(info)
        records = self.records()
        self._start = time.monotonic() - info["seconds"]
        with (
            progress.stop_signals() as self._stop_asked,
            progress.bar(self.console) as self._bar,
            journal.opened(self.experiment, self.folder, records) as self._write_down,
        ):
            total = self.epochs * self.steps_per_epoch
            self._task = self._bar.add_task("", total=total, completed=self.step)
            records = self.run(records, info["sums"])
        chosen = self.chosen(records)
        if chosen["step"] != self.step:
            self.restore(chosen["step"])
        final = {name: value for name, value in chosen.items() if name not in ("epoch", "step", "seconds")}
        return final.get("networks") or self.split(final), time.monotonic() - self._start

    def on_portion(self, epoch: int, metrics: dict[str, np.ndarray], examples_per_second: float) -> None:
        text = progress.describe(epoch, self.epochs, metrics, self.score, examples_per_second)
        self._bar.update(self._task, advance=metrics["loss"].shape[-1], description=text)

    def on_epoch(self, record: dict[str, Any]) -> None:
        self._write_down(record)

    def save(self, sums: dict[str, Any], records: list[dict[str, Any]], score: float | None) -> None:
        if not self._comparable(records[-1:]):
            score = None
        seconds = time.monotonic() - self._start
        info = {"sums": sums, "seconds": seconds, "records": records, "examples": self._examples}
        self.checkpoints.save(self.step, self.state, info, score)
        if not sums:
            self._bar.console.print(progress.summarise(records[-1], self.epochs, self.score))

    def is_asked_to_stop(self) -> bool:
        return system.any_of(self._stop_asked.is_set())

    def chosen(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the record of the epoch whose weights are the result."""
        step = _chosen_step(self.checkpoints)
        return next(record for record in records if record["step"] == step)

    def _should_stop_early(self, records: list[dict[str, Any]]) -> bool:
        return super()._should_stop_early(self._comparable(records))

    def _comparable(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the records whose scores count: no short epoch is the best of a training that has whole ones."""
        return [one for one in records if not self._is_short(one["epoch"] - 1) or self._is_short(self.epochs - 1)]

    @property
    def _examples(self) -> list[int]:
        return [len(one) for one in self.sets if one is not None]

    def _is_short(self, epoch: int) -> bool:
        """Return whether an epoch, counted from 0, is one of those with fewer time steps."""
        return epoch < self.experiment.train.short_epochs

    def check_memory(self, program: Any, *arguments: Any) -> None:
        """As `Trainer.check_memory`; raise NotCompiled if the fused kernel cannot be compiled."""
        with _blaming_the_kernel(self.experiment):
            super().check_memory(program, *arguments)

    def is_resident(self, dataset: Dataset) -> bool:
        residence = self.experiment.data.residence
        return super().is_resident(dataset) if residence == "auto" else residence == "device"

    def send(self, array: np.ndarray, rows: np.ndarray | None = None) -> jax.Array:
        return self.layout.examples(array, rows)

    def share(self, array: np.ndarray) -> jax.Array:
        return self.layout.everywhere(array)


def _chosen_step(checkpoints: Checkpoints) -> int | None:
    """Return the step of a training's result: of the epoch that was best on its validation set, or else the last."""
    last = checkpoints.last
    records = [] if last is None else checkpoints.info(last).get("records", [])
    is_validated = any(name.startswith("validation_") for record in records[-1:] for name in record)
    return checkpoints.best if is_validated else last


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
