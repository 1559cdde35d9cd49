"""The one loop over epochs, of `jsnn.train.fit` and of the runner of experiments."""

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsnn import memory
from jsnn.data import Dataset, epoch_permutation
from jsnn.train.steps import TrainState
from jsnn.types import Array

_PORTIONS = 20  # in how many parts an epoch is taken, each one call: between them a training can stop
_DEVICE_BYTES = 2 * 2**30  # a larger data set is sent in parts
_PART_BYTES = 2**28  # of such a part, about
_EVALUATION = 2**31  # the numbers of keys that no training step has
_TRAINING = 2**31 - 1


class Interrupted(Exception):
    """The training was asked to stop, and has saved its state."""


class NotFinite(Exception):
    """The loss became NaN or infinite; the message names the step."""


class Trainer:
    """A training that goes epoch by epoch, and stops and goes on between any two portions of one, to the same numbers.

    The order of the data and all randomness depend on the key, the epoch and the step alone. A subclass gives the
    programs that advance and evaluate the state, and says what is written down: `programs`, `on_portion`, `on_epoch`,
    `save` and `is_asked_to_stop`.

    Args:
        state: before the first step, or from where the training goes on; later the state so far.
        train: the training examples.
        key: of all randomness.
        epochs: passes over the training examples.
        batch_size: examples in a step; what does not fill a last batch is left out of the epoch.
        eval_batch_size: examples at a time in evaluations.
        test: a set that is evaluated after each epoch.
        validation: as `test`; its score decides which epoch is the best one.
        score: the metric by which epochs are compared.
        maximize: whether the highest score is the best.
        patience: stop after so many epochs without a better score; None never stops early.
        shuffle: draw a new order of the examples for every epoch.

    Raises:
        ValueError: if there are fewer examples than in a batch, nothing is to be trained, or `patience` is below 1.
    """

    def __init__(
        self,
        state: TrainState,
        train: Dataset,
        key: Array,
        *,
        epochs: int,
        batch_size: int,
        eval_batch_size: int = 500,
        test: Dataset | None = None,
        validation: Dataset | None = None,
        score: str = "loss",
        maximize: bool = False,
        patience: int | None = None,
        shuffle: bool = True,
    ) -> None:
        if len(train) < batch_size:
            raise ValueError(f"batch_size must be at most the {len(train)} training examples, got {batch_size}")
        if not jax.tree.leaves(state.params):
            raise ValueError("the network has nothing to train: its weights must be nnx.Param")
        if patience is not None and patience < 1:
            raise ValueError(f"patience must be >= 1, or None to train through all epochs, got {patience}")
        self.state, self.key, self.epochs, self.batch_size = state, key, epochs, batch_size
        self.train_set, self.test_set, self.validation_set = train, test, validation
        self.eval_batch_size, self.shuffle, self.patience = eval_batch_size, shuffle, patience
        self.score, self.maximize = score, maximize
        self.steps_per_epoch = len(train) // batch_size
        self._known_to_fit: set[Any] = set()

    # What a subclass says

    def programs(self, epoch: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return what `make_advance` and `make_evaluate` made, for an epoch."""
        raise NotImplementedError

    def on_portion(self, epoch: int, metrics: dict[str, np.ndarray], examples_per_second: float) -> None:
        """Take the metrics of a part of an epoch, each `[S]`."""

    def on_epoch(self, record: dict[str, Any]) -> None:
        """Take what is known of an epoch that is done."""

    def save(self, sums: dict[str, Any], records: list[dict[str, Any]], score: float | None) -> None:
        """Save the state, the sums of metrics of the epoch that is not done, and the records of those that are."""

    def is_asked_to_stop(self) -> bool:
        """Return whether the training is to stop at the next break."""
        return False

    def is_resident(self, dataset: Dataset) -> bool:
        """Return whether a data set lies whole on the devices; of others, a part is sent when it is needed."""
        return dataset.inputs.nbytes <= _DEVICE_BYTES

    def send(self, array: np.ndarray, rows: np.ndarray | None = None) -> Array:
        """Return an array `[N, ...]` of examples on the devices, or some of its rows."""
        return jnp.asarray(array if rows is None else array[rows])

    def share(self, array: np.ndarray) -> Array:
        """Return an array that each device is to have, such as the indices of a batch."""
        return jnp.asarray(array)

    # The loop

    @property
    def step(self) -> int:
        """How many optimiser steps were taken."""
        return int(self.state.step)

    def run(self, records: list[dict[str, Any]], sums: dict[str, Any]) -> list[dict[str, Any]]:
        """Train from the present state to the end; return the records of all epochs.

        Args:
            records: those of the epochs that are done.
            sums: of the metrics of an epoch that was begun; {} at its start.

        Raises:
            Interrupted: if it was asked to stop; the state is saved.
            NotFinite: if the loss or a weight is.
            MemoryError: if a step or an evaluation takes more memory than the device has.
        """
        for epoch in range(self.step // self.steps_per_epoch, self.epochs):
            if self._should_stop_early(records):
                break
            start, first_step = time.monotonic(), self.step
            for metrics in self._portions(epoch):
                self.check_finite(metrics["loss"])
                of_portion = {name: as_float(values).sum(-1) for name, values in metrics.items()}
                sums = {name: value.tolist() for name, value in _sum(sums, of_portion).items()}
                examples = (self.step - first_step) * self.batch_size
                self.on_portion(epoch, metrics, examples / (time.monotonic() - start))
                if self.step % self.steps_per_epoch and self.is_asked_to_stop():
                    self.save(sums, records, None)
                    raise Interrupted
            if not _are_finite(self.state.params):  # neurons that get NaN are silent, which hides it from the loss
                where = f"at the end of epoch {epoch + 1} (step {self.step})"
                raise NotFinite(f"weights are NaN or infinite {where}: are there NaN or huge numbers in the inputs?")
            record = self.finish_epoch(epoch, sums, time.monotonic() - start)
            records, sums = [*records, record], {}
            self.on_epoch(record)
            self.save(sums, records, self.quality(record))
            if self.is_asked_to_stop():
                raise Interrupted
        return records

    def evaluate(self, dataset: Dataset, epoch: int | None = None) -> dict[str, Any]:
        """Return the mean of each metric over a data set, by the program of an epoch; None is after the last.

        Raises:
            MemoryError: if it takes more memory than the device has.
        """
        size = min(self.eval_batch_size, len(dataset))
        order = np.arange(len(dataset), dtype=np.int32)
        whole, rest = order[: len(order) // size * size].reshape(-1, size), order[None, len(order) // size * size :]
        parts = [whole[first:after] for first, after in self._parts(dataset, len(whole), 1)]
        _, sum_metrics = self.programs(self.epochs if epoch is None else epoch)
        sums: dict[str, Any] = {}
        for batches in [*parts, rest] if rest.size else parts:  # no filler, which a mean over a batch would count
            inputs, targets, rows = (self._sent if batches is rest else self.place)(dataset, batches)
            every, start = self.share(np.ones(batches.shape, bool)), self.share(batches[:, 0])
            arguments = (self.state, inputs, targets, rows, every, self.key_of(_EVALUATION), start)
            self.check_memory(sum_metrics, *arguments)
            sums = _sum(sums, jax.device_get(sum_metrics(*arguments)))
        count = sums.pop("count")
        return {name: (value / count).tolist() for name, value in sums.items()}

    def finish_epoch(self, epoch: int, sums: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the record of an epoch: the means of its metrics, and those of the test and validation set."""
        record: dict[str, Any] = {"epoch": epoch + 1, "step": self.step, "seconds": seconds}
        record |= {f"train_{name}": (as_float(total) / self.steps_per_epoch).tolist() for name, total in sums.items()}
        for name, dataset in {"validation": self.validation_set, "test": self.test_set}.items():
            if dataset is not None:
                metrics = self.evaluate(dataset, epoch)
                record |= {f"{name}_{metric}": value for metric, value in metrics.items()}
        return record

    def quality(self, record: dict[str, Any]) -> float:
        """Return the score of an epoch, the higher the better: one that is not finite is worse than any other."""
        names = [name for name in ("validation", "test", "train") if f"{name}_{self.score}" in record]
        if not names:
            raise ValueError(f"score must be one of the metrics of the loss, got {self.score!r}: there are {[*record]}")
        score = record[f"{names[0]}_{self.score}"]
        return (score if self.maximize else -score) if math.isfinite(score) else -math.inf

    def order(self, epoch: int) -> np.ndarray:
        """Return the batches of an epoch, indices [S, B]."""
        if not self.shuffle:
            return np.arange(self.steps_per_epoch * self.batch_size, dtype=np.int32).reshape(-1, self.batch_size)
        return np.asarray(epoch_permutation(jax.random.fold_in(self.key, epoch), len(self.train_set), self.batch_size))

    def key_of(self, number: int) -> Array:
        """Return the key of one of the training's purposes."""
        return jax.random.fold_in(self.key, number)

    def check_finite(self, losses: np.ndarray) -> None:
        """Raise NotFinite if one of the losses of the last steps is NaN or infinite."""
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            step = self.step - len(losses) + int(bad[0]) + 1
            raise NotFinite(
                f"the loss is {losses[bad[0]]} at step {step} (epoch {(step - 1) // self.steps_per_epoch + 1}): train "
                "anew with a lower learning rate, or with gradients that are clipped"
            )

    def check_memory(self, program: Any, *arguments: Any) -> None:
        """Raise MemoryError, before the first call of a program, if the device has no room for it."""
        if program not in self._known_to_fit:
            memory.check_fits(memory.of_function(program, *arguments))
            self._known_to_fit.add(program)

    def place(self, dataset: Dataset, indices: np.ndarray) -> tuple[Array, Array, Array]:
        """Return inputs, targets and the indices into them: of the whole set, or of the examples of these batches."""
        if not self.is_resident(dataset):
            return self._sent(dataset, indices)
        is_trained = dataset is self.train_set
        whole = self._resident if is_trained else jax.tree.map(self.send, (dataset.examples, dataset.targets))
        return *whole, self.share(indices)

    def _sent(self, dataset: Dataset, indices: np.ndarray) -> tuple[Array, Array, Array]:
        """Return the inputs and targets of these batches alone, and the indices into them."""
        arrays = dataset.examples, dataset.targets
        flat = indices.reshape(-1)
        local = np.arange(flat.size, dtype=np.int32).reshape(indices.shape)
        return *jax.tree.map(lambda array: self.send(array, flat), arrays), self.share(local)

    @functools.cached_property
    def _resident(self) -> tuple[Array, Array]:
        return jax.tree.map(self.send, (self.train_set.examples, self.train_set.targets))

    def _parts(self, dataset: Dataset, steps: int, count: int) -> list[tuple[int, int]]:
        """Return the first and last step of each call: `count` of them, or more of a set that is sent in parts."""
        least = 1 if self.is_resident(dataset) else -(-dataset.inputs.nbytes // _PART_BYTES)
        return _portion_bounds(steps, max(count, min(least, steps)))

    def _portions(self, epoch: int) -> Iterator[dict[str, np.ndarray]]:
        """Train through the rest of an epoch, a portion at a time; yield each portion's metrics by step."""
        order, done = self.order(epoch), self.step - epoch * self.steps_per_epoch
        advance, _ = self.programs(epoch)
        for first, after in self._parts(self.train_set, self.steps_per_epoch, _PORTIONS):
            first = max(first, done)  # a training that goes on may have other parts
            if first < after:
                placed = self.place(self.train_set, order[..., first:after, :])
                arguments = (self.state, *placed, self.key_of(_TRAINING))
                self.check_memory(advance, *arguments)
                self.state, metrics = advance(*arguments)
                yield jax.device_get(metrics)

    def _should_stop_early(self, records: list[dict[str, Any]]) -> bool:
        if self.patience is None or len(records) <= self.patience:
            return False
        scores = [self.quality(record) for record in records]
        return max(scores[-self.patience :]) <= max(scores[: -self.patience])


@jax.jit
def _are_finite(tree: Any) -> Array:
    """Return whether all numbers in a tree are."""
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))


def as_float(value: Any) -> np.ndarray:
    """Return a sum of metrics in double precision; of several networks, each has its own."""
    return np.asarray(value, np.float64)


def _sum(sums: dict[str, Any], more: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return sums of metrics with more added, in double precision."""
    return {name: as_float(sums.get(name, 0.0)) + as_float(value) for name, value in more.items()}


def _portion_bounds(steps: int, wanted: int) -> list[tuple[int, int]]:
    """Split an epoch into about so many portions; of equal length where possible, since each length is compiled."""
    counts = [n for n in range(-(-wanted // 2), 2 * wanted) if steps % n == 0]
    count = min(counts, key=lambda n: abs(n - wanted)) if counts else min(wanted, steps)
    ends = [len(part) for part in np.array_split(np.arange(steps), count)]
    bounds = np.cumsum([0, *ends]).tolist()
    return list(itertools.pairwise(bounds))
