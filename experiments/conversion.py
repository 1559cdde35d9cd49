"""Makes a trained rate network spike, as a config says, and measures what it then does on the test set."""

import csv
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import jsnn
from experiments import build, config
from experiments.loop import Run
from jsnn import conversion
from jsnn.data import Dataset
from jsnn.types import Array, State


class Outcome(NamedTuple):
    """A converted network's decisions on a data set."""

    settings: config.Conversion
    accuracy: float  # deciding on the last step's output
    mean_accuracy: float  # deciding on the mean output of the last steps
    accuracy_by_step: list[float]  # [T], deciding on each step's output
    spikes: float  # for one image, in the whole network
    rate: float  # mean over neurons, Hz

    def metrics(self) -> dict[str, float]:
        """The numbers that go into the summary."""
        return {
            "spiking_accuracy": self.accuracy,
            "spiking_mean_accuracy": self.mean_accuracy,
            "spikes_per_image": self.spikes,
            "mean_rate_hz": self.rate,
        }


def convert(run: Run, settings: config.Conversion) -> conversion.Converted:
    """The network that a run has trained, made to spike."""
    model = run.network()
    example = prepare(run, run.sets.train.images[: settings.calibration.images if settings.calibration else 1])
    neuron = {"spiking_activation": jsnn.SpikingActivation, "burst_if": jsnn.BurstIF, "if": jsnn.IF}[settings.neuron]
    network = jsnn.convert(
        model,
        example,
        swap={jax.nn.relu: neuron()},
        scale_firing_rates=settings.scale,
        synapse=settings.synapse,
        dt=settings.dt,
        v_init=jax.random.key(run.experiment.seed) if settings.v_init == "random" else settings.v_init,
    )
    if settings.calibration is None:
        return network
    return conversion.calibrate(
        network,
        example,
        percentile=settings.calibration.percentile,
        spikes_per_step=settings.calibration.spikes_per_step,
        per_channel=settings.calibration.per_channel,
        v_init=None,
        bias_steps=settings.num_steps if settings.calibration.bias_correction else None,
    )


def prepare(run: Run, images: np.ndarray) -> Array:
    """Images as the network takes them."""
    return build.prepare_images(run.experiment.data, run.key, jnp.asarray(images), training=False)


def evaluate(run: Run, settings: config.Conversion, steps: Sequence[int], console: Console) -> list[Outcome]:
    """What the converted network decides on the test set after each of these numbers of steps, simulated once."""
    network = convert(run, settings)
    steps = sorted(steps)
    dataset, batch_size = run.sets.test, settings.batch_size
    counts = [_Counts() for _ in steps]

    @jax.jit
    def first(network: conversion.Converted, images: np.ndarray) -> conversion.Response:
        return conversion.respond(network, prepare(run, images), steps[0])

    def further(network: conversion.Converted, images: np.ndarray, state: State, length: int) -> conversion.Response:
        return conversion.respond(network, prepare(run, images), length, state)

    further = jax.jit(further, static_argnums=3)
    with Progress(console=console, transient=True) as bar:
        for images, labels in bar.track(_batches(dataset, batch_size), total=-(-len(dataset) // batch_size)):
            outputs: list[np.ndarray] = []
            response = first(network, images)
            for index, count in enumerate(counts):
                if index:
                    response = further(network, images, response.state, steps[index] - steps[index - 1])
                outputs.append(np.asarray(response.outputs))
                count.add(np.concatenate(outputs), labels, response.spikes, settings.last_steps)
    return [
        count.outcome(dataclasses.replace(settings, num_steps=length), len(dataset))
        for count, length in zip(counts, steps)
    ]


def combinations(settings: config.Conversion, sweep: config.Sweep) -> list[config.Conversion]:
    """Every combination of a sweep's values, those that it does not name as they are in the settings."""
    names = [field.name for field in dataclasses.fields(sweep) if field.name != "steps" and getattr(sweep, field.name)]
    return [
        dataclasses.replace(settings, **dict(zip(names, values)))
        for values in itertools.product(*(getattr(sweep, name) for name in names))
    ]


def report(run: Run, console: Console, folder: Path) -> dict[str, float]:
    """Converts, evaluates and sweeps as the experiment says; writes `sweep.csv`; returns the conversion's metrics."""
    settings, sweep = run.experiment.conversion, run.experiment.sweep
    assert settings is not None
    console.print(str(convert(run, settings).report), highlight=False, markup=False)
    outcome = evaluate(run, settings, [settings.num_steps], console)[0]
    if any(getattr(sweep, field.name) for field in dataclasses.fields(sweep)):
        outcomes = [
            one
            for combination in combinations(settings, sweep)
            for one in evaluate(run, combination, sweep.steps or [settings.num_steps], console)
        ]
        console.print(_table(outcomes))
        _write_csv(folder / "sweep.csv", outcomes)
    return outcome.metrics()


class _Counts:
    """Sums over batches."""

    def __init__(self) -> None:
        self.correct: Any = 0
        self.mean_correct = 0
        self.spikes = 0.0
        self.neurons = 0

    def add(self, outputs: np.ndarray, labels: np.ndarray, spikes: dict[str, Array], last_steps: int) -> None:
        self.correct = self.correct + (outputs.argmax(-1) == labels).sum(1)
        self.mean_correct += int((outputs[-last_steps:].mean(0).argmax(-1) == labels).sum())
        self.spikes += sum(float(count.sum()) for count in spikes.values())
        self.neurons = sum(count[0].size for count in spikes.values())

    def outcome(self, settings: config.Conversion, images: int) -> Outcome:
        by_step = (self.correct / images).tolist()
        spikes = self.spikes / images
        rate = spikes / self.neurons / (settings.num_steps * settings.dt)
        return Outcome(settings, by_step[-1], self.mean_correct / images, by_step, spikes, rate)


def _batches(dataset: Dataset, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(dataset), batch_size):
        yield dataset.images[start : start + batch_size], dataset.labels[start : start + batch_size]


_COLUMNS = ("scale", "synapse", "dt", "num_steps")


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(*_COLUMNS, "last step", "mean of last", "spikes/image", "mean rate/Hz", title="sweep")
    for outcome in outcomes:
        table.add_row(
            *(str(getattr(outcome.settings, name)) for name in _COLUMNS),
            f"{outcome.accuracy:.2%}", f"{outcome.mean_accuracy:.2%}", f"{outcome.spikes:,.0f}", f"{outcome.rate:.2f}",
        )  # fmt: skip
    return table


def _write_csv(path: Path, outcomes: list[Outcome]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, [*_COLUMNS, *outcomes[0].metrics()])
        writer.writeheader()
        for outcome in outcomes:
            writer.writerow({name: getattr(outcome.settings, name) for name in _COLUMNS} | outcome.metrics())
