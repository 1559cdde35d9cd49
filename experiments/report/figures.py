"""The figures of a run's page, narrow enough for a phone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.evaluation import Activation, LayerTrace
from experiments.report.page import DPI
from jsnn import plot
from jsnn.plot.canvas import INK, PALETTE, legend_beside, open_frame

COSTS = ("spikes per image", "time steps")
_WIDTH = 5.4  # inches: on a phone the text is still large enough


def energy(joules: Mapping[str, Mapping[str, float | None]]) -> Figure:
    """Draw what an inference might cost by device."""
    figure = Figure(figsize=(_WIDTH, 3.9), layout="constrained")
    plot.energy(joules, ax=figure.subplots())
    return figure


def diagnosis(activations: Sequence[Activation]) -> Figure:
    """Draw each activation's own error, and what it alone does to the output."""
    figure = Figure(figsize=(6, 0.6 * len(activations) + 1.5), layout="constrained")
    ax = figure.subplots()
    rows = np.arange(len(activations))
    errors = {
        "its mean output": [row.relative_error for row in activations],
        "the output, if it alone spikes": [row.output_error for row in activations],
    }
    for offset, color, (label, values) in zip((-0.2, 0.2), PALETTE, errors.items()):
        ax.barh(rows + offset, values, 0.38, color=color, label=label)
    ax.set_yticks(rows, [row.name for row in activations])
    ax.invert_yaxis()
    ax.set_xlabel("Relative error")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def sweep(rows: Sequence[Mapping[str, Any]], cost: str, reference: Mapping[str, float]) -> Figure:
    """Draw the accuracy of every setting against one of `COSTS`."""
    figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
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
    plot.trade_off(named, x=cost, y="accuracy", group=varied or None, reference=reference, ax=figure.subplots())
    return figure


def training(history: Sequence[Mapping[str, float]], metric: str, label: str) -> Figure:
    """Draw a metric after every epoch, on the training set and the others."""
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
    """Draw the mean firing rate of each layer on the training set after every epoch."""
    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    names = [name for name in history[0] if name.startswith("train_rate/")]
    curves = {name.removeprefix("train_rate/"): np.asarray([record[name] for record in history]) for name in names}
    epochs = [record["epoch"] for record in history]
    ax = plot.training_curves(curves, epochs=epochs, label="Mean output of a neuron", ax=figure.subplots())
    ax.set_ylim(bottom=0)
    return figure


def delays(layers: Mapping[str, np.ndarray], dt: float | None) -> Figure:
    """Draw how the delays of each layer's synapses, in steps, are distributed, each layer on an axis of its own."""
    figure = Figure(figsize=(_WIDTH, 1.0 + 1.6 * len(layers)), layout="constrained")
    unit, scale = ("steps", 1.0) if dt is None else ("ms", 1e3 * dt)
    for ax, (name, steps) in zip(np.atleast_1d(figure.subplots(len(layers), sharex=True)), layers.items()):
        edges = np.arange(max(float(np.max(steps)), 1.0) + 1.5) - 0.5
        ax.hist(scale * steps, scale * edges, weights=np.full(steps.shape, 100 / steps.size), color=PALETTE[0])
        ax.set_title(f"{name}: {steps.size:,} synapses", loc="left", fontsize="medium")
        ax.set_ylabel("% of them")
        open_frame(ax)
    ax.set_xlabel(f"Delay ({unit})")
    return figure


def receptive_fields(fields: np.ndarray) -> Figure:
    """Draw the weights [H, W, 1, N] of neurons as images."""
    figure = Figure(figsize=(_WIDTH, 4.4), layout="constrained")
    plot.weights(fields, limit=fields.shape[-1], ax=figure.subplots())
    return figure


def rates(layers: Mapping[str, np.ndarray], unit: str) -> Figure:
    """Draw how the firing rates [N] of each layer's neurons are distributed, each layer on an axis of its own."""
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


def score_by_step(curves: Mapping[str, np.ndarray], score: str) -> Figure:
    """Draw the score against the number of steps."""
    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    ax = figure.subplots()
    if score == "accuracy":
        plot.accuracy_against_steps(curves, ax=ax)
    else:
        plot.training_curves(curves, label=score.capitalize(), per="Time step", ax=ax)
    return figure


def errors(losses: np.ndarray) -> Figure:
    """Draw how the errors [N] of the examples are distributed."""
    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    ax = figure.subplots()
    open_frame(ax)
    ax.hist(losses[np.isfinite(losses)], 40, color=PALETTE[0])
    ax.set(xlabel="Squared error of an example", ylabel="Examples")
    return figure


def answer(target: np.ndarray, prediction: np.ndarray) -> Figure:
    """Draw an answer of the network beside the target, each a picture or a line."""
    both = {"target": np.asarray(target), "answer": np.asarray(prediction).reshape(np.shape(target))}
    if is_picture(both["target"]):
        return pictures(np.stack(list(both.values())), list(both))
    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    ax = figure.subplots()
    open_frame(ax)
    for (name, values), color in zip(both.items(), (INK, PALETTE[1])):
        lines = ax.plot(values.reshape(len(values), -1) if values.ndim > 1 else values.ravel(), ".-", color=color)
        lines[0].set_label(name)
    ax.set(xlabel="Time step" if both["target"].ndim > 1 else "Value", ylabel="Output")
    legend_beside(ax)
    return figure


def confusion(targets: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw which class is taken for which."""
    figure = Figure(figsize=(_WIDTH, 4.7), layout="constrained")
    plot.confusion_matrix(targets, predictions, class_names=_plain(names), ax=figure.subplots())
    return figure


def picture(image: np.ndarray) -> Figure:
    """Draw one image of a data set, [H, W, C]."""
    figure = Figure(figsize=(1.8, 1.8 * image.shape[0] / image.shape[1]))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.imshow(_colours(image), cmap="gray", interpolation="nearest")
    ax.set_axis_off()
    return figure


def pictures(images: np.ndarray, captions: Sequence[str]) -> Figure:
    """Draw images of a data set, [K, H, W, C], side by side."""
    rows = -(-len(images) // 5)
    figure = Figure(figsize=(_WIDTH, 0.2 + 1.5 * rows))
    plot.images(_colours(images), captions=_plain(captions), ax=figure.add_axes((0, 0, 1, 1)))
    return figure


def is_picture(example: np.ndarray) -> bool:
    """Return whether an example is an image [H, W, C], grey or in colour, and not a signal in time."""
    return example.ndim == 3 and example.shape[-1] in (1, 3)


def _plain(texts: Sequence[str]) -> list[str]:
    """Return texts as matplotlib draws them unchanged: what stands between two dollar signs would be a formula."""
    return [text.replace("$", r"\$") for text in texts]


def _colours(images: np.ndarray) -> np.ndarray:
    """Return images [..., C] as can be drawn: in colour, or else their first channel, [...]."""
    return images if images.shape[-1] == 3 else images[..., 0]


def raster(spikes: Mapping[str, np.ndarray], dt: float | None) -> Figure:
    """Draw the spikes of all layers, each [T, N], one layer above the other."""
    figure = Figure(figsize=(_WIDTH, max(3.2, 1.0 + 1.2 * len(spikes))), dpi=DPI, layout="constrained")
    plot.raster(spikes, dt=dt, ax=figure.subplots())
    return figure


def probabilities(outputs: np.ndarray, target: int, names: Sequence[str], dt: float | None) -> Figure:
    """Draw class probabilities over time, of outputs [T, classes]."""
    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    plot.class_probabilities(outputs, target=target, class_names=_plain(names), dt=dt, ax=figure.subplots())
    return figure


def outputs(values: np.ndarray, target: int, names: Sequence[str], dt: float | None) -> Figure:
    """Draw the output of each class over time, [T, classes]."""
    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    plot.output_traces(values, target=target, class_names=_plain(names), dt=dt, ax=figure.subplots())
    return figure


def traces(layer: LayerTrace, dt: float | None) -> Figure:
    """Draw the states of a few neurons of a layer over time, the busiest at the top."""
    height = (1.2 + 0.32 * len(layer.traced)) * len(layer.states)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    for ax, (name, values) in zip(np.atleast_1d(figure.subplots(len(layer.states))), layer.states.items()):
        is_membrane = name == "v"
        plot.traces(
            values,
            spikes=layer.spikes[:, layer.traced] if is_membrane else None,
            threshold=layer.threshold if is_membrane else None,
            dt=dt,
            label=_STATES.get(name, name),
            ax=ax,
        )
        if len(layer.traced) > 1:
            ax.set_yticks(ax.get_yticks(), [str(neuron) for neuron in layer.traced])
    return figure


_STATES = {"v": "Membrane", "i": "Current"}
