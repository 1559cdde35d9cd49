"""Plots of a classifier: probabilities and outputs over time, and the confusion matrix."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jsnn.arguments import checked
from jsnn.plot.arrays import labels, one_sample
from jsnn.plot.canvas import (
    FAINT,
    PALETTE,
    axes_or_new,
    colors,
    legend_beside,
    note,
    open_frame,
    percent,
    short,
    time_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NUMBERED = 20  # up to so many classes a confusion matrix has room for numbers and names


@checked
def class_probabilities(
    outputs: ArrayLike,
    *,
    sample: int | None = None,
    target: int | None = None,
    class_names: Sequence[str] | None = None,
    dt: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the probability of each class at each step.

    Outputs none of which is negative and which add up to 1 at every step are probabilities, and are drawn as they are;
    all others are logits, and go through softmax. Of more than 10 classes, the 10 that are the most probable on average
    are drawn in colour, and the others in grey.

    Args:
        outputs: [T, classes], or [T, B, classes] with a sample: logits or probabilities.
        sample: which sample of the batch.
        target: the right class, drawn with a thicker line.
        class_names: the name of each class, for the legend.
        dt: the length of a step, in s; without it time is in steps.
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: if the shape is another, the array is empty or not finite, or `target`, `sample` or `class_names`
            do not fit it.

    Examples:
        >>> import numpy as np
        >>> from jsnn import plot
        >>> ax = plot.class_probabilities(np.log([[1.0, 1.0], [1.0, 3.0]]), class_names=["cat", "dog"])
        >>> ax.lines[1].get_ydata().round(2).tolist()
        [0.5, 0.75]
    """
    outputs = one_sample("outputs", outputs, sample).astype(np.float64)
    probable = np.all(outputs >= 0) and np.allclose(outputs.sum(axis=1), 1, atol=1e-3)
    probabilities = outputs if probable else _softmax(outputs)
    ax = _class_lines(probabilities, target, class_names, dt, ax)
    ax.set_ylim(-0.02, 1.02)
    percent(ax.yaxis)
    ax.set_ylabel("Probability (%)")
    return ax


@checked
def output_traces(
    outputs: ArrayLike,
    *,
    sample: int | None = None,
    target: int | None = None,
    class_names: Sequence[str] | None = None,
    dt: float | None = None,
    label: str = "Output",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw what each output neuron of a network puts out (or the membrane of each) at each step.

    Args:
        outputs: [T, classes], or [T, B, classes] with a sample.
        sample: which sample of the batch.
        target: the right class, drawn with a thicker line.
        class_names: the name of each class, for the legend.
        dt: the length of a step, in s; without it time is in steps.
        label: what the values are, with their unit.
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: as `class_probabilities`.

    Examples:
        >>> import numpy as np
        >>> from jsnn import plot
        >>> ax = plot.output_traces(np.ones((20, 8, 10)), sample=0, target=3)
        >>> len(ax.lines), ax.lines[3].get_label()
        (10, '3 (target)')
    """
    ax = _class_lines(one_sample("outputs", outputs, sample), target, class_names, dt, ax)
    ax.set_ylabel(label)
    return ax


@checked
def confusion_matrix(
    targets: ArrayLike,
    predictions: ArrayLike,
    *,
    class_names: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how often a class (row) is taken for another (column).

    The colour is the share of the row's samples, the number in a cell their count, of up to 20 classes.

    Args:
        targets: the right classes, integers [B].
        predictions: the classes that the network chose, integers [B].
        class_names: the name of each class; without them there are as many classes as the largest label says.
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: if the shapes differ or are not [B], or a label is negative or has no name.
        TypeError: if the labels are not integers.

    Examples:
        >>> from jsnn import plot
        >>> ax = plot.confusion_matrix([0, 0, 1, 1], [0, 1, 1, 1])
        >>> ax.images[0].get_array().tolist()
        [[0.5, 0.5], [0.0, 1.0]]
    """
    targets = labels("targets", targets)
    predictions = labels("predictions", predictions, targets.shape)
    count = int(max(targets.max(), predictions.max())) + 1
    names = _names(class_names, count, "the labels")
    matrix = np.zeros((len(names), len(names)), np.int64)
    np.add.at(matrix, (targets, predictions), 1)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)

    small = len(names) <= _NUMBERED
    size = float(np.clip(2.4 + 0.36 * len(names), 3.6, 8.0)) if small else 5.6
    ax = axes_or_new(ax, width=size + 0.9, height=size)
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    bar = ax.figure.colorbar(image, ax=ax, label="Share of the class (%)", shrink=0.8)
    percent(bar.ax.yaxis)
    ax.set_xlabel("Prediction")
    ax.set_ylabel("Target")
    if small:
        long = max(map(len, names)) > 3
        ax.set_xticks(range(len(names)), names, rotation=45 if long else 0, ha="right" if long else "center")
        ax.set_yticks(range(len(names)), names)
        for row, column in np.argwhere(matrix):
            color = "white" if shares[row, column] > 0.55 else "#1b2a41"
            text = f"{matrix[row, column]}"
            size = 10 if len(names) <= 5 else 8 if len(text) < 4 else 7
            ax.text(column, row, text, ha="center", va="center", color=color, fontsize=size)
    note(ax, f"accuracy {100 * np.mean(targets == predictions):.2f}% of {targets.size:,}")
    return ax


def _class_lines(
    values: np.ndarray, target: int | None, class_names: Sequence[str] | None, dt: float | None, ax: "Axes | None"
) -> "Axes":
    """Return a line for each class, values [T, classes]."""
    num_steps, num_classes = values.shape
    names = _names(class_names, num_classes, "the outputs", exactly=True)
    if target is not None and not 0 <= target < num_classes:
        raise ValueError(f"target must be in 0..{num_classes - 1}, got {target}")
    chosen = list(range(num_classes))
    if num_classes > len(PALETTE):
        chosen = np.argsort(-values.mean(axis=0), kind="stable")[: len(PALETTE)].tolist()
        if target is not None and target not in chosen:
            chosen[-1] = target
        chosen.sort()
    ax = axes_or_new(ax)
    open_frame(ax)
    time = time_axis(ax, num_steps, dt) * np.arange(num_steps)
    marker = "o" if num_steps == 1 else None  # one step makes no line
    if num_classes > len(chosen):
        others = np.delete(values, chosen, axis=1)
        ax.plot(time, others, color=FAINT, linewidth=0.5, alpha=0.5, marker=marker, rasterized=True)
        note(ax, f"in colour: {len(chosen)} of {num_classes:,} classes")
    for index, color in zip(chosen, colors(len(chosen))):
        is_target = index == target
        name = f"{names[index]} (target)" if is_target else names[index]
        width, order = (3.0, 3.0) if is_target else (1.4, 2.0)
        ax.plot(time, values[:, index], color=color, linewidth=width, zorder=order, marker=marker, label=name)
    legend_beside(ax, "Class")
    return ax


def _names(class_names: Sequence[str] | None, count: int, of: str, *, exactly: bool = False) -> list[str]:
    if class_names is None:
        return [str(index) for index in range(count)]
    names = [short(name) for name in class_names]
    if len(names) < count or (exactly and len(names) > count):
        raise ValueError(f"class_names must name the {count} classes of {of}, got {len(names)} names")
    return names


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
