"""The figures that a run leaves in its folder and on its page.

Those named `of_...` save a file in `figures/`; the others return what they have drawn, narrow enough for a phone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import jsnn
from experiments.page import DPI
from jsnn import plot, rounding
from jsnn.conversion import Converted, Diagnosis
from jsnn.data import Dataset
from jsnn.energy import Comparison
from jsnn.plot.canvas import INK, PALETTE
from jsnn.types import Array

COSTS = ("spikes per image", "time steps")
_NEURONS = 512  # in a raster
_SAMPLES = 4  # images whose class probabilities are drawn
_WIDTH = 5.4  # inches: on a phone the text is still large enough
_TRACES = 6  # neurons of a layer whose membranes are drawn


def of_conversion(
    folder: Path, network: Converted, images: Array, labels: np.ndarray, names: Sequence[str], num_steps: int, dt: float
) -> None:
    """A raster of the first and the last hidden layer, and class probabilities over time for a few images."""
    layers = jsnn.record(network, images[:_SAMPLES], num_steps=num_steps, keep=["outputs"])
    first, last = network.names[0], network.names[-1]
    chosen = {name: _some_neurons(np.asarray(layers[name].outputs)[:, 0] != 0) for name in dict.fromkeys((first, last))}
    of_rasters(folder, chosen, dt)
    of_probabilities(folder, np.asarray(layers["output"].outputs), labels, names, dt)


def of_rasters(folder: Path, spikes: Mapping[str, np.ndarray], dt: float) -> None:
    """One raster for each layer, [T, N]."""
    figure = Figure(figsize=(8, 3.2 * len(spikes)), layout="constrained")
    for ax, (name, train) in zip(np.atleast_1d(figure.subplots(len(spikes))), spikes.items()):
        plot.raster(train, dt=dt, ax=ax)
        ax.set_title(f"{name}: {train.shape[1]} neurons", loc="left")
    _save(figure, folder, "raster")


def of_probabilities(folder: Path, outputs: np.ndarray, labels: np.ndarray, names: Sequence[str], dt: float) -> None:
    """Class probabilities over time, [T, B, classes], of the first images."""
    count = min(_SAMPLES, outputs.shape[1])
    figure = Figure(figsize=(8, 2.8 * count), layout="constrained")
    for sample, ax in enumerate(np.atleast_1d(figure.subplots(count))):
        target, classes = int(labels[sample]), _plain(names)
        plot.class_probabilities(outputs, sample=sample, target=target, class_names=classes, dt=dt, ax=ax)
        ax.set_title(f"test image {sample}, class {classes[target]}")
    _save(figure, folder, "class_probabilities")


def of_accuracy(folder: Path, curves: Mapping[str, Sequence[float]], reference: Mapping[str, float]) -> None:
    """Accuracy against the number of steps."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    plot.accuracy_against_steps(
        {name: np.asarray(curve) for name, curve in curves.items()}, reference=reference, ax=figure.subplots()
    )
    _save(figure, folder, "accuracy")


def of_diagnosis(folder: Path, found: Diagnosis) -> None:
    """Where a conversion loses."""
    _save(diagnosis(found), folder, "diagnosis")


def energy(compared: Comparison) -> Figure:
    """What an inference might cost by device."""
    figure = Figure(figsize=(_WIDTH, 3.9), layout="constrained")
    plot.energy(compared.joules(), ax=figure.subplots())
    return figure


def diagnosis(diagnosis: Diagnosis) -> Figure:
    """Each activation's own error, and what it alone does to the output."""
    figure = Figure(figsize=(6, 0.6 * len(diagnosis.activations) + 1.5), layout="constrained")
    ax = figure.subplots()
    rows = np.arange(len(diagnosis.activations))
    errors = {
        "its mean output": [row.relative_error for row in diagnosis.activations],
        "the output, if it alone spikes": [row.output_error for row in diagnosis.activations],
    }
    for offset, color, (label, values) in zip((-0.2, 0.2), PALETTE, errors.items()):
        ax.barh(rows + offset, values, 0.38, color=color, label=label)
    ax.set_yticks(rows, [row.name for row in diagnosis.activations])
    ax.invert_yaxis()
    ax.set_xlabel("Relative error")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def of_sweep(folder: Path, rows: Sequence[Mapping[str, Any]], reference: Mapping[str, float]) -> None:
    """The accuracy of every setting against what it costs: spikes, and steps."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for ax, cost in zip(figure.subplots(1, 2), COSTS):
        _draw_sweep(ax, rows, cost, reference)
    _save(figure, folder, "sweep")


def sweep(rows: Sequence[Mapping[str, Any]], cost: str, reference: Mapping[str, float]) -> Figure:
    """The accuracy of every setting against one of `COSTS`."""
    figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
    _draw_sweep(figure.subplots(), rows, cost, reference)
    return figure


def _draw_sweep(ax: Axes, rows: Sequence[Mapping[str, Any]], cost: str, reference: Mapping[str, float]) -> None:
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
    plot.trade_off(named, x=cost, y="accuracy", group=varied or None, reference=reference, ax=ax)


def of_histogram(folder: Path, spikes: Mapping[str, np.ndarray]) -> None:
    """How often neurons fire in one step, by layer, counts [T, B, ...]."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    plot.spike_histogram(dict(spikes), ax=figure.subplots())
    _save(figure, folder, "spike_histogram")


def training(history: Sequence[Mapping[str, float]], metric: str, label: str) -> Figure:
    """A metric after every epoch, on the training set and the others."""
    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    curves = {
        name: np.asarray([record[f"{name}_{metric}"] for record in history])
        for name in ("train", "validation", "test")
        if f"{name}_{metric}" in history[0]
    }
    ax = plot.training_curves(curves, epochs=[record["epoch"] for record in history], label=label, ax=figure.subplots())
    if "%" in label:
        ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
    return figure


def training_rates(history: Sequence[Mapping[str, float]]) -> Figure:
    """The mean firing rate of each layer on the training set after every epoch."""
    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    names = [name for name in history[0] if name.startswith("train_rate/")]
    curves = {name.removeprefix("train_rate/"): np.asarray([record[name] for record in history]) for name in names}
    epochs = [record["epoch"] for record in history]
    ax = plot.training_curves(curves, epochs=epochs, label="Mean output of a neuron", ax=figure.subplots())
    ax.set_ylim(bottom=0)
    return figure


def rates(layers: Mapping[str, np.ndarray], unit: str) -> Figure:
    """How the firing rates [N] of each layer's neurons are distributed, each layer on an axis of its own."""
    figure = Figure(figsize=(_WIDTH, 1.0 + 1.6 * len(layers)), layout="constrained")
    for ax, (name, rate) in zip(np.atleast_1d(figure.subplots(len(layers))), layers.items()):
        edges = np.linspace(0, float(np.max(rate)) or 1.0, 41)
        ax.hist(rate, edges, weights=np.full(rate.shape, 100 / rate.size), color=PALETTE[0])
        ax.axvline(float(rate.mean()), color=INK, linestyle="--", linewidth=1.2)
        ax.set_title(f"{name}: mean {rate.mean():.3g}", loc="left", fontsize="medium")
        ax.set_ylabel("Neurons (%)")
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_xlabel(f"Firing rate ({unit})")
    return figure


def accuracy(curves: Mapping[str, np.ndarray], reference: Mapping[str, float]) -> Figure:
    """Accuracy against the number of steps."""
    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    plot.accuracy_against_steps(curves, reference=reference, ax=figure.subplots())
    return figure


def confusion(targets: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> Figure:
    """Which class is taken for which."""
    figure = Figure(figsize=(_WIDTH, 4.7), layout="constrained")
    plot.confusion_matrix(targets, predictions, class_names=_plain(names), ax=figure.subplots())
    return figure


def picture(image: np.ndarray) -> Figure:
    """One image of a data set, [H, W, C]."""
    figure = Figure(figsize=(1.8, 1.8 * image.shape[0] / image.shape[1]))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.imshow(_colours(image), cmap="gray", interpolation="nearest")
    ax.set_axis_off()
    return figure


def pictures(images: np.ndarray, captions: Sequence[str]) -> Figure:
    """Images of a data set, [K, H, W, C], side by side."""
    rows = -(-len(images) // 5)
    figure = Figure(figsize=(_WIDTH, 0.2 + 1.5 * rows))
    plot.images(_colours(images), captions=_plain(captions), ax=figure.add_axes((0, 0, 1, 1)))
    return figure


def class_names(dataset: Dataset) -> list[str]:
    """Return the names of a data set's classes, their numbers where it has none."""
    return list(dataset.class_names or map(str, range(dataset.num_classes)))


def _plain(texts: Sequence[str]) -> list[str]:
    """Return texts as matplotlib draws them unchanged: what stands between two dollar signs would be a formula."""
    return [text.replace("$", r"\$") for text in texts]


def _colours(images: np.ndarray) -> np.ndarray:
    """Images [..., C] as can be drawn: in colour, or else their first channel, [...]."""
    return images if images.shape[-1] == 3 else images[..., 0]


def raster(spikes: Mapping[str, np.ndarray], dt: float | None) -> Figure:
    """The spikes of all layers, each [T, N], one layer above the other."""
    figure = Figure(figsize=(_WIDTH, max(3.2, 1.0 + 1.2 * len(spikes))), dpi=DPI, layout="constrained")
    plot.raster(spikes, dt=dt, ax=figure.subplots())
    return figure


def probabilities(outputs: np.ndarray, target: int, names: Sequence[str], dt: float | None) -> Figure:
    """Class probabilities over time, of outputs [T, classes]."""
    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    plot.class_probabilities(outputs, target=target, class_names=_plain(names), dt=dt, ax=figure.subplots())
    return figure


def outputs(values: np.ndarray, target: int, names: Sequence[str], dt: float | None) -> Figure:
    """The output of each class over time, [T, classes]."""
    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    plot.output_traces(values, target=target, class_names=_plain(names), dt=dt, ax=figure.subplots())
    return figure


def traces(
    states: Mapping[str, np.ndarray], spikes: np.ndarray, threshold: np.ndarray | None, dt: float | None
) -> Figure:
    """The states [T, N] of a few neurons of a layer over time, the busiest at the top."""
    chosen = _from_quiet_to_busy(np.abs(spikes))
    figure = Figure(figsize=(_WIDTH, (1.2 + 0.32 * len(chosen)) * len(states)), layout="constrained")
    for ax, (name, values) in zip(np.atleast_1d(figure.subplots(len(states))), states.items()):
        is_membrane = name == "v"
        plot.traces(
            values[:, chosen],
            spikes=spikes[:, chosen] if is_membrane else None,
            threshold=threshold[chosen] if is_membrane and threshold is not None else None,
            dt=dt,
            label=_STATES.get(name, name),
            ax=ax,
        )
        if len(chosen) > 1:
            ax.set_yticks(ax.get_yticks(), [str(neuron) for neuron in chosen])
    return figure


_STATES = {"v": "Membrane", "i": "Current"}


def _from_quiet_to_busy(spikes: np.ndarray) -> np.ndarray:
    """Return a few neurons of [T, N], [K], from the quietest to the busiest.

    They are spread evenly over those that fired at some steps and not at others, as far as there are so many; then
    come those that never fired, and at last those that fired at every step.
    """
    counts, steps = spikes.sum(0), np.count_nonzero(spikes, axis=0)
    order = np.argsort(counts, kind="stable")
    silent, saturated = order[steps[order] == 0], order[steps[order] == len(spikes)]
    telling = order[~np.isin(order, [*silent, *saturated])]
    if len(telling) < _TRACES:
        rest = np.concatenate([telling, silent, saturated])[:_TRACES]
        return rest[np.argsort(counts[rest], kind="stable")]
    return telling[np.linspace(0, len(telling) - 1, _TRACES).round().astype(int)]


def _some_neurons(spikes: np.ndarray) -> np.ndarray:
    """At most 512 neurons of a layer, [T, ...] -> [T, N], evenly spread."""
    flat = spikes.reshape(len(spikes), -1)
    return flat[:, rounding.spread(min(_NEURONS, flat.shape[1]), flat.shape[1])]


def _save(figure: Figure, folder: Path, name: str) -> None:
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "figures" / f"{name}.png", dpi=100)
