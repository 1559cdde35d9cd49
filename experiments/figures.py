"""The figures that a run leaves in its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import jsnn
from jsnn import plot
from jsnn.conversion import Converted, Diagnosis
from jsnn.types import Array

_NEURONS = 512  # in a raster
_SAMPLES = 4  # images whose class probabilities are drawn


def of_conversion(
    folder: Path, network: Converted, images: Array, labels: np.ndarray, num_steps: int, dt: float
) -> None:
    """A raster of the first and the last hidden layer, and class probabilities over time for a few images."""
    layers = jsnn.record(network, images[:_SAMPLES], num_steps=num_steps, keep=["outputs"])
    first, last = network.names[0], network.names[-1]
    chosen = {name: _some_neurons(np.asarray(layers[name].outputs)[:, 0] != 0) for name in dict.fromkeys((first, last))}
    of_rasters(folder, chosen, dt)
    of_probabilities(folder, np.asarray(layers["output"].outputs), labels, dt)


def of_rasters(folder: Path, spikes: Mapping[str, np.ndarray], dt: float) -> None:
    """One raster for each layer, [T, N]."""
    figure = Figure(figsize=(8, 3.2 * len(spikes)), layout="constrained")
    for ax, (name, train) in zip(np.atleast_1d(figure.subplots(len(spikes))), spikes.items()):
        plot.raster(train, dt=dt, ax=ax)
        ax.set_title(f"{name}: {train.shape[1]} neurons", loc="left")
    _save(figure, folder, "raster")


def of_probabilities(folder: Path, outputs: np.ndarray, labels: np.ndarray, dt: float) -> None:
    """Class probabilities over time, [T, B, classes], of the first images."""
    count = min(_SAMPLES, outputs.shape[1])
    figure = Figure(figsize=(8, 2.8 * count), layout="constrained")
    for sample, ax in enumerate(np.atleast_1d(figure.subplots(count))):
        plot.class_probabilities(outputs, sample=sample, target=int(labels[sample]), dt=dt, ax=ax)
        ax.set_title(f"test image {sample}, class {labels[sample]}")
    _save(figure, folder, "class_probabilities")


def of_accuracy(folder: Path, curves: Mapping[str, Sequence[float]], reference: Mapping[str, float]) -> None:
    """Accuracy against the number of steps."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    plot.accuracy_against_steps(
        {name: np.asarray(curve) for name, curve in curves.items()}, reference=reference, ax=figure.subplots()
    )
    _save(figure, folder, "accuracy")


def of_diagnosis(folder: Path, diagnosis: Diagnosis) -> None:
    """Where a conversion loses: each activation's own error, and what it alone does to the output."""
    figure = Figure(figsize=(7, 0.6 * len(diagnosis.activations) + 1.5), layout="constrained")
    ax = figure.subplots()
    rows = np.arange(len(diagnosis.activations))
    ax.barh(rows - 0.2, [row.relative_error for row in diagnosis.activations], 0.38, label="its mean output")
    ax.barh(
        rows + 0.2, [row.output_error for row in diagnosis.activations], 0.38, label="the output, if it alone spikes"
    )
    ax.set_yticks(rows, [row.name for row in diagnosis.activations])
    ax.invert_yaxis()
    ax.set_xlabel("Relative error")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    _save(figure, folder, "diagnosis")


def of_sweep(folder: Path, rows: Sequence[Mapping[str, Any]], reference: Mapping[str, float]) -> None:
    """The accuracy of every setting against what it costs: spikes, and steps."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    varied = [name for name in ("scale", "synapse", "dt") if len({row[name] for row in rows}) > 1]
    named = [
        row
        | {
            "spikes per image": row["spikes_per_image"],
            "time steps": row["num_steps"],
            "accuracy": row["last_accuracy"],
        }
        for row in map(dict, rows)
    ]
    for ax, x in zip(figure.subplots(1, 2), ("spikes per image", "time steps")):
        plot.trade_off(named, x=x, y="accuracy", group=varied or None, reference=reference, ax=ax)
    _save(figure, folder, "sweep")


def of_histogram(folder: Path, spikes: Mapping[str, np.ndarray]) -> None:
    """How often neurons fire in one step, by layer, counts [T, B, ...]."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    plot.spike_histogram(dict(spikes), ax=figure.subplots())
    _save(figure, folder, "spike_histogram")


def _some_neurons(spikes: np.ndarray) -> np.ndarray:
    """At most 512 neurons of a layer, [T, ...] -> [T, N], evenly spread."""
    flat = spikes.reshape(len(spikes), -1)
    return flat[:, np.linspace(0, flat.shape[1] - 1, min(_NEURONS, flat.shape[1])).astype(int)]


def _save(figure: Figure, folder: Path, name: str) -> None:
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "figures" / f"{name}.png", dpi=100)
