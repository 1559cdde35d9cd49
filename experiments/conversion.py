"""Makes a trained rate network spike, as a config says, and measures what it then does on the test set."""

import csv
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import Progress

import jsnn
from experiments import build, config, figures
from experiments.loop import Run
from experiments.measure import Measures
from jsnn import conversion
from jsnn.data import Dataset
from jsnn.types import Array, State


class Outcome(NamedTuple):
    """What one conversion came to."""

    settings: config.Conversion
    metrics: dict[str, float]
    accuracy_by_step: list[float]  # [T], deciding on the output of each step

    def row(self) -> dict[str, float | None]:
        """Settings and metrics, for tables."""
        return {name: getattr(self.settings, name) for name in _SETTINGS} | self.metrics


_SETTINGS = ("scale", "synapse", "dt", "num_steps")


def convert(run: Run, settings: config.Conversion) -> conversion.Converted:
    """The network that a run has trained, made to spike."""
    model = run.network()
    assert callable(model)  # Experiment admits a conversion of rate networks only
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


def evaluate(
    run: Run, network: conversion.Converted, settings: config.Conversion, steps: Sequence[int], console: Console
) -> list[Outcome]:
    """What a converted network decides on the test set after each of these numbers of steps, simulated once."""
    steps = sorted(steps)
    dataset, batch_size = run.sets.test, settings.batch_size
    counts = [Measures(length, settings.dt, settings.last_steps) for length in steps]

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
                count.add(np.concatenate(outputs), labels, response.spikes)
    return [
        Outcome(dataclasses.replace(settings, num_steps=length), count.metrics(), count.accuracy_by_step)
        for count, length in zip(counts, steps)
    ]


def combinations(settings: config.Conversion, sweep: config.Sweep) -> list[config.Conversion]:
    """Every combination of a sweep's values, those that it does not name as they are in the settings."""
    names = [field.name for field in dataclasses.fields(sweep) if field.name != "steps" and getattr(sweep, field.name)]
    return [
        dataclasses.replace(settings, **dict(zip(names, values)))
        for values in itertools.product(*(getattr(sweep, name) for name in names))
    ]


def report(run: Run, console: Console) -> tuple[dict[str, float], list[dict[str, float | None]]]:
    """Converts, evaluates and sweeps as the experiment says; writes figures and `sweep.csv`.

    Returns:
        the metrics of the conversion, and the rows of the sweep.
    """
    settings, sweep = run.experiment.conversion, run.experiment.sweep
    assert settings is not None
    network = convert(run, settings)
    console.print(str(network.report), highlight=False, markup=False)
    outcome = evaluate(run, network, settings, [settings.num_steps], console)[0]
    test, accuracy = run.sets.test, {"rate network": run.evaluate(run.sets.test)["accuracy"]}
    some = prepare(run, test.images[: settings.batch_size])
    figures.of_conversion(
        run.folder, network, some, test.labels, figures.class_names(test), settings.num_steps, settings.dt
    )
    figures.of_accuracy(run.folder, {"output of the step": outcome.accuracy_by_step}, accuracy)
    diagnosis = conversion.diagnose(
        network, some, test.labels[: len(some)], num_steps=settings.num_steps, dt=settings.dt
    )
    figures.of_diagnosis(run.folder, diagnosis)
    console.print(f"on {len(some)} test images:\n{diagnosis}", highlight=False, markup=False)
    rows: list[dict[str, float | None]] = []
    if any(getattr(sweep, field.name) for field in dataclasses.fields(sweep)):
        for combination in combinations(settings, sweep):
            steps = sweep.steps or [settings.num_steps]
            rows += [one.row() for one in evaluate(run, convert(run, combination), combination, steps, console)]
        with open(run.folder / "sweep.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        figures.of_sweep(run.folder, rows, accuracy)
    return outcome.metrics, rows


def _batches(dataset: Dataset, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(dataset), batch_size):
        yield dataset.images[start : start + batch_size], dataset.labels[start : start + batch_size]
