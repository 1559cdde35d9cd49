"""Whole trainings in one call, for a script."""

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from rich.console import Console

from jsnn.arguments import check_accumulate, checked
from jsnn.data import Dataset
from jsnn.train.steps import (
    Loss,
    Network,
    TrainState,
    create,
    in_mode,
    make_advance,
    make_evaluate,
    metrics_of,
    network_of,
    unchanged,
)
from jsnn.train.trainer import Trainer
from jsnn.types import Array

if TYPE_CHECKING:
    from jsnn.checkpoint import Checkpoints


class Fitted(NamedTuple):
    """What `fit` has trained."""

    network: Any
    """In inference mode."""
    history: list[dict[str, Any]]
    """A record for each epoch, such as {"epoch": 1, "train_loss": ..., "test_loss": ...}."""


@checked
def fit(
    network: Network,
    loss: Loss,
    data: Dataset,
    *,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int = 128,
    seed: int = 0,
    test: Dataset | None = None,
    validation: Dataset | None = None,
    score: str = "loss",
    maximize: bool | None = None,
    patience: int | None = None,
    checkpoints: "Checkpoints | None" = None,
    at_step: Callable[[Any, Array], Any] = unchanged,
    truncate: int | None = None,
    accumulate: int = 1,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    show: bool = True,
) -> Fitted:
    """Train a network; return it after the last epoch, with the metrics of each epoch.

    With a `validation` set the network is that of the epoch with the best score on it. With `checkpoints` every epoch
    is saved, and a training that was stopped goes on from the last one, to the same numbers.

    Args:
        network: a Neuron, such as `jsnn.Network`, or a rate network; it stays as it is.
        loss: `(network, inputs [B, ...], targets [B, ...], key) -> (scalar, metrics)`, "loss" among the metrics, which
            are scalars or `[B]`. In training the network is in training mode, in evaluations in inference mode.
        data: the training examples.
        optimizer: of optax. What it trains is also what is evaluated and returned: for other parameters, such as those
            of `optax.contrib.schedule_free_eval_params`, take `make_advance`.
        epochs: passes over them.
        batch_size: examples in a step; what does not fill a last batch is left out of the epoch.
        seed: of the order of the examples and of the keys that `loss` gets.
        test: examples that are evaluated after each epoch.
        validation: as `test`; they decide which epoch is the best.
        score: the metric by which epochs are compared, for `validation` and `patience`.
        maximize: whether the highest score is the best; None is for scores of which the lowest is, so that an accuracy
            needs True.
        patience: stop after so many epochs without a better score; None never stops early.
        checkpoints: where to save, `jsnn.checkpoint.Checkpoints(folder)`.
        at_step: as in `make_step`: what follows a schedule.
        truncate: as in `make_step`: how many steps at most a gradient flows back in time; None for all.
        accumulate: as in `make_step`: in how many parts a batch is seen, to save memory.
        on_epoch: is called with the record of each epoch, for a logger of your own.
        show: print a line for each epoch.

    Raises:
        TypeError: if `loss` does not return `(scalar, metrics)`, or `checkpoints` is a path.
        ValueError: if `data` has fewer examples than a batch, `patience` or `truncate` is below 1, there is nothing to
            train, `loss` has no metric of the name `score`, that is an accuracy and `maximize` is None, or
            `checkpoints` hold a training with other settings.
        NotFinite: if the loss becomes NaN or infinite.
        MemoryError: if a step takes more memory than the device has.
        CheckpointError: if a checkpoint cannot be read or written.

    Examples:
        >>> import jsnn, optax
        >>> from flax import nnx
        >>> def loss(network, images, labels, key):
        ...     state, outputs = jsnn.unroll(network, images / 255, num_steps=8)
        ...     value = jsnn.losses.cross_entropy(outputs.mean(0), labels)
        ...     return value, {"loss": value, "accuracy": jsnn.metrics.is_correct(outputs.mean(0), labels)}
        >>> network = jsnn.models.feedforward([64, 32, 10], rngs=nnx.Rngs(0))
        >>> digits = jsnn.data.load("digits", "train")
        >>> fitted = fit(network, loss, digits, optimizer=optax.adam(5e-3), epochs=3, show=False)
        >>> fitted.history[-1]["train_accuracy"] > 0.8
        True
    """
    for name, number in (("epochs", epochs), ("batch_size", batch_size), ("accumulate", accumulate)):
        if number < 1:
            raise ValueError(f"{name} must be >= 1, got {number}")
    check_accumulate(batch_size, accumulate)
    graph, state = create(network, optimizer)
    if isinstance(checkpoints, (str, os.PathLike)):
        path = os.fspath(checkpoints)
        raise TypeError(f"checkpoints must be jsnn.checkpoint.Checkpoints(folder), got the path {path!r}")
    if checkpoints is not None and checkpoints.read_only:
        raise ValueError(f"checkpoints must be open for writing, {checkpoints.folder} is read_only")

    def training(network: Any, inputs: Array, targets: Array, key: Array) -> Any:
        return loss(in_mode(network, training=True), inputs, targets, key)

    def evaluation(network: Any, inputs: Array, targets: Array, key: Array) -> Any:
        return loss(in_mode(network, training=False), inputs, targets, key)

    trainer = _Script(state, data, jax.random.key(seed), epochs=epochs, batch_size=batch_size, test=test,
        validation=validation, score=score, maximize=bool(maximize), patience=patience)  # fmt: skip
    start = network_of(graph, state), state.step
    names = {*metrics_of(lambda start, *batch: training(at_step(*start), *batch), start, data, batch_size)}
    if "loss" not in names:
        raise ValueError(f"loss must have 'loss' among its metrics, got {', '.join(sorted(names)) or 'none'}")
    for dataset in (test, validation):
        names |= {*metrics_of(evaluation, start[0], dataset, batch_size)} if dataset is not None else set()
    if score not in names:
        raise ValueError(f"score must be one of the metrics of the loss, got {score!r}: there are {sorted(names)}")
    advance = make_advance(graph, training, optimizer, at_step, truncate=truncate, accumulate=accumulate)
    trainer.made = advance, make_evaluate(graph, evaluation)
    trainer.checkpoints, trainer.tell, trainer.console = checkpoints, on_epoch, Console(quiet=not show, soft_wrap=True)
    trainer.settings = {"seed": seed, "batch_size": batch_size, "score": score, "maximize": bool(maximize)}
    trainer.settings |= {"truncate": truncate, "accumulate": accumulate}
    for name, dataset in {"data": data, "validation": validation}.items():
        trainer.settings[f"len({name})"] = None if dataset is None else len(dataset)
    records: list[dict[str, Any]] = []
    if checkpoints is not None and checkpoints.last is not None:
        trainer.state, info = checkpoints.restore(checkpoints.last, state)
        _check_settings(checkpoints, info, trainer.settings)
        records = info["records"]
        if epochs < len(records):
            folder = checkpoints.folder
            raise ValueError(f"epochs must be at least {len(records)}, which {folder} has already, got {epochs}")
    if maximize is None and "accuracy" in score:
        raise ValueError(f"maximize must be given for the score {score!r}: True, as the highest is the best, or False")
    records = trainer.run(records, {})
    if validation is not None and trainer.best is not None and checkpoints is None:
        trainer.state = trainer.best
    elif validation is not None and checkpoints is not None:
        trainer.state, _ = checkpoints.restore(checkpoints.best, trainer.state)
    trained = network_of(graph, trainer.state, None if at_step is unchanged else at_step)
    if isinstance(trained, nnx.Module):
        trained.eval()
    return Fitted(trained, records)


def _check_settings(checkpoints: "Checkpoints", info: dict[str, Any], settings: dict[str, Any]) -> None:
    """Raise ValueError unless a checkpoint was saved by `fit` with the same settings; earlier versions saved none."""
    if "records" not in info:
        raise ValueError(f"the checkpoints in {checkpoints.folder} were not saved by fit: take another folder")
    for name, value in info.get("settings", settings).items():
        if value != settings[name]:
            raise ValueError(
                f"the checkpoints in {checkpoints.folder} are of a training with {name} {value!r}, got "
                f"{settings[name]!r}: go on with {value!r}, or take another folder"
            )


class _Script(Trainer):
    """The training that `fit` does."""

    made: tuple[Callable[..., Any], Callable[..., Any]]
    checkpoints: "Checkpoints | None" = None
    tell: Callable[[dict[str, Any]], None] | None = None
    settings: dict[str, Any]  # on which the numbers depend
    console: Console
    best: TrainState | None = None  # of the epoch with the best score on the validation set
    best_quality = -math.inf

    def programs(self, epoch: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
        return self.made

    def on_epoch(self, record: dict[str, Any]) -> None:
        shown = {name: value for name, value in record.items() if name not in ("epoch", "step", "seconds")}
        values = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
        self.console.print(f"epoch {record['epoch']}/{self.epochs}: {values} ({record['seconds']:.1f} s)", markup=False)
        if self.tell is not None:
            self.tell(dict(record))  # which may change it

    def save(self, sums: dict[str, Any], records: list[dict[str, Any]], score: float | None) -> None:
        if self.checkpoints is not None:
            self.checkpoints.save(self.step, self.state, {"records": records, "settings": self.settings}, score)
        elif self.validation_set is not None and score is not None and score > self.best_quality:
            self.best, self.best_quality = jax.tree.map(jnp.copy, self.state), score
