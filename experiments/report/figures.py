"""The figures of a page, narrow enough for a phone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.evaluation import Activation, LayerTrace
from experiments.report.page import DPI
from jsnn import plot
from jsnn.plot.canvas import INK, PALETTE, legend_beside, open_frame, percent

COSTS = ("spikes per image", "time steps")
_BINS = 50  # of a histogram of delays, at most
_WIDTH = 5.4  # inches: on a phone the text is still large enough
_STATES = {"v": "Membrane", "i": "Current"}


def panels(
    count: int = 1, columns: int = 1, *, width: float = _WIDTH, height: float = 3.2, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes; `width` and `height` are in inches, `options` those of `Figure.subplots`."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    return figure, np.ravel(figure.subplots(count // columns, columns, **options)).tolist()


def draw(function: Callable[..., Any], *values: Any, height: float = 3.2, **options: Any) -> Figure:
    """Return a figure on which a function, such as those of `jsnn.plot`, has drawn the values with these options."""
    figure, [ax] = panels(height=height)
    for name in {"class_names", "captions"} & options.keys():
        options[name] = plain(options[name])
    function(*values, ax=ax, **options)
    return figure


def plain(texts: Sequence[str]) -> list[str]:
    """Return texts as matplotlib draws them unchanged: what stands between two dollar signs would be a formula."""
    return [text.replace("$", r"\$") for text in texts]


def diagnosis(activations: Sequence[Activation]) -> Figure:
    """Draw each activation's own error, and what it alone does to the output."""
    figure, [ax] = panels(width=6, height=0.6 * len(activations) + 1.5)
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
    varied = [name for name in ("scale", "synapse", "dt") if len({row[name] for row in rows}) > 1]
    names = {"spikes_per_image": "spikes per image", "num_steps": "time steps", "last_accuracy": "accuracy"}
    named = [dict(row) | {label: row[name] for name, label in names.items()} for row in rows]
    return draw(plot.trade_off, named, height=3.6, x=cost, y="accuracy", group=varied or None, reference=reference)


def training(history: Sequence[Mapping[str, float]], metric: str, label: str) -> Figure:
    """Draw a metric after every epoch, on the training set and the others."""
    columns = {name: f"{name}_{metric}" for name in ("train", "validation", "test")}
    figure = _after_epochs(history, {name: column for name, column in columns.items() if column in history[0]}, label)
    if "%" in label:
        percent(figure.axes[0].yaxis)
    return figure


def training_rates(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw the mean firing rate of each layer on the training set after every epoch."""
    names = [name for name in history[0] if name.startswith("train_rate/")]
    columns = {name.removeprefix("train_rate/"): name for name in names}
    figure = _after_epochs(history, columns, "Mean output of a neuron")
    figure.axes[0].set_ylim(bottom=0)
    return figure


def _after_epochs(history: Sequence[Mapping[str, float]], columns: Mapping[str, str], label: str) -> Figure:
    curves = {name: np.asarray([record[column] for record in history]) for name, column in columns.items()}
    return draw(plot.training_curves, curves, epochs=[record["epoch"] for record in history], label=label)


def delays(layers: Mapping[str, np.ndarray], dt: float | None) -> Figure:
    """Draw how the delays of each layer's synapses, in steps, are distributed, each layer on an axis of its own."""
    figure, axes = panels(len(layers), height=1.0 + 1.6 * len(layers), sharex=True)
    unit, scale = ("steps", 1.0) if dt is None else ("ms", 1e3 * dt)
    for ax, (name, steps) in zip(axes, layers.items()):
        longest = max(float(np.max(steps)), 1.0)
        width = 1 + longest // _BINS  # whole steps
        edges = np.arange(0, longest + 0.5 + width, width) - 0.5
        _histogram(ax, scale * steps, scale * edges, f"{name}: {steps.size:,} synapses", "% of them")
    axes[-1].set_xlabel(f"Delay ({unit})")
    return figure


def rates(layers: Mapping[str, np.ndarray], unit: str) -> Figure:
    """Draw how the firing rates [N] of each layer's neurons are distributed, each layer on an axis of its own."""
    figure, axes = panels(len(layers), height=1.0 + 1.6 * len(layers))
    for ax, (name, rate) in zip(axes, layers.items()):
        edges = np.linspace(0, float(np.max(rate)) or 1.0, 41)
        _histogram(ax, rate, edges, f"{name}: mean {rate.mean():.3g}", "Neurons (%)")
        ax.axvline(float(rate.mean()), color=INK, linestyle="--", linewidth=1.2)
        ax.set_xlabel(f"Firing rate ({unit})")
    return figure


def _histogram(ax: Axes, values: np.ndarray, edges: np.ndarray, title: str, label: str) -> None:
    """Draw the share of values between each two edges, in percent."""
    open_frame(ax)
    ax.hist(values, edges.tolist(), weights=np.full(values.shape, 100 / values.size), color=PALETTE[0])
    ax.set_title(title, loc="left", fontsize="medium")
    ax.set_ylabel(label)


def score_by_step(curves: Mapping[str, np.ndarray], score: str) -> Figure:
    """Draw the score against the number of steps."""
    if score == "accuracy":
        return draw(plot.accuracy_against_steps, curves)
    return draw(plot.training_curves, curves, label=score.capitalize(), per="Time step")


def errors(losses: np.ndarray) -> Figure:
    """Draw how the errors [N] of the examples are distributed."""
    figure, [ax] = panels()
    open_frame(ax)
    ax.hist(losses[np.isfinite(losses)], 40, color=PALETTE[0])
    ax.set(xlabel="Squared error of an example", ylabel="Examples")
    return figure


def answer(target: np.ndarray, prediction: np.ndarray) -> Figure:
    """Draw an answer of the network beside the target, each a picture or a line."""
    both = {"target": np.asarray(target), "answer": np.asarray(prediction).reshape(np.shape(target))}
    if is_picture(both["target"]):
        return pictures(np.stack(list(both.values())), list(both))
    figure, [ax] = panels()
    open_frame(ax)
    for (name, values), color in zip(both.items(), (INK, PALETTE[1])):
        lines = ax.plot(values.reshape(len(values), -1) if values.ndim > 1 else values.ravel(), ".-", color=color)
        lines[0].set_label(name)
    ax.set(xlabel="Time step" if both["target"].ndim > 1 else "Value", ylabel="Output")
    legend_beside(ax)
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
    plot.images(_colours(images), captions=plain(captions), ax=figure.add_axes((0, 0, 1, 1)))
    return figure


def is_picture(example: np.ndarray) -> bool:
    """Return whether an example is an image [H, W, C], grey or in colour, and not a signal in time."""
    return example.ndim == 3 and example.shape[-1] in (1, 3)


def _colours(images: np.ndarray) -> np.ndarray:
    """Return images [..., C] as can be drawn: in colour, scaled to [0, 1], or else their first channel, [...]."""
    if images.shape[-1] != 3:
        return images[..., 0]
    if images.dtype == np.uint8:
        return images
    low, high = min(images.min(), 0), max(images.max(), 1)
    return (images - low) / (high - low)


def traces(layer: LayerTrace, dt: float | None) -> Figure:
    """Draw the states of a few neurons of a layer over time, the busiest at the top."""
    figure, axes = panels(len(layer.states), height=(1.2 + 0.32 * len(layer.traced)) * len(layer.states))
    for ax, (name, values) in zip(axes, layer.states.items()):
        of_membrane: dict[str, Any] = (
            {"spikes": layer.spikes[:, layer.traced], "threshold": layer.threshold} if name == "v" else {}
        )
        plot.traces(values, dt=dt, label=_STATES.get(name, name), ax=ax, **of_membrane)
        if len(layer.traced) > 1:
            ax.set_yticks(ax.get_yticks(), [str(neuron) for neuron in layer.traced])
    return figure
