"""What the pictures share: Axes of their own, colours, and the axis of time.

matplotlib is imported inside the functions that need it, so that `import jsnn` stays light. A picture that is given no
Axes makes a `matplotlib.figure.Figure`, which pyplot's list of open figures does not know: it needs no closing.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from jsnn.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

# Ten colours that can be told apart with any colour vision: Petroff, "Accessible color sequences for data
# visualization", arXiv:2107.02270 (2021), the greyish ones last.
PALETTE = (
    "#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#a96b59", "#e76300", "#717581", "#92dadd", "#b9ac70", "#94a4a2",
)  # fmt: skip
INK = "#1b2a41"  # spikes, and what has no class
ACCENT = "#bd1f01"  # thresholds, spikes on top of a trace, references
FAINT = "#8a8f98"  # notes, and what stands in the background
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"


def axes_or_new(ax: "Axes | None", *, width: float = 6.4, height: float = 3.6) -> "Axes":
    """Return `ax` itself, or the Axes of a new figure of this size in inches.

    Raises:
        TypeError: if `ax` is something else, such as the array that `plt.subplots` returns.
    """
    require("plot", "matplotlib")
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    if ax is None:
        return Figure(figsize=(width, height), layout="constrained").add_subplot()
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes, got {type(ax).__name__}: pass one of them, such as axes[0]")
    return ax


def short(name: object, most: int = 28) -> str:
    """Return a name without its middle where it is so long that it would take the room of the picture."""
    name = str(name)
    return name if len(name) <= most else f"{name[: most // 2]}…{name[1 - most // 2 :]}"


def rounded(value: float) -> str:
    """Return a number with three digits: 1230 for 1234.5, where ".3g" gives 1.23e+03."""
    return f"{float(f'{value:.3g}'):g}"


def colors(count: int) -> list[Any]:
    """Return colours: those of the palette, or where it is too short, colours from a map that goes from dark to
    bright and through as many hues.
    """
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    import matplotlib

    return list(matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, count)))


def time_axis(ax: "Axes", num_steps: int, dt: float | None) -> float:
    """Label the x axis as time, and return the length of a step on it: 1, or dt in ms or s.

    Raises:
        ValueError: if `dt` is not positive.
    """
    if dt is not None and not 0 < dt < 1e30:
        raise ValueError(f"dt must be > 0 s, got {dt}")
    if dt is None:
        length, label = 1.0, "Time step"
        whole_numbers(ax.xaxis)
    elif num_steps * dt < 10:
        length, label = 1e3 * dt, "Time (ms)"
    else:
        length, label = dt, "Time (s)"
    ax.set_xlabel(label)
    ax.set_xlim(-0.5 * length, (num_steps - 0.5) * length)
    return length


def enlarged(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return an image whose dots are repeated, up to so many rows and columns.

    matplotlib smooths an image of more dots than pixels, so that none is lost; large dots stay sharp then.
    """
    return image.repeat(max(1, rows // len(image)), axis=0).repeat(max(1, columns // image.shape[1]), axis=1)


def whole_numbers(axis: "Axis") -> None:
    """Set ticks at integers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def percent(axis: "Axis") -> None:
    """Show fractions as percentages."""
    axis.set_major_formatter(lambda value, _: f"{round(100 * value, 6):g}")


def open_frame(ax: "Axes") -> None:
    """Take away the upper and the right side of the frame, and lay a faint grid under lines and bars."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#e6e8eb", linewidth=0.8)
    ax.set_axisbelow(True)


def legend_beside(ax: "Axes", title: str | None = None) -> None:
    """Draw a legend to the right, where it hides nothing; long names lose their middle."""
    legend = ax.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, title=title, fontsize="small", handlelength=1.4
    )
    for text in legend.get_texts():
        text.set_text("\n".join(short(line, 44) for line in text.get_text().split("\n")))


def note(ax: "Axes", text: str) -> None:
    """Put a remark above the upper right corner, below any title.

    It is the label of an axis of its own there, because matplotlib moves titles above those.
    """
    for earlier in [child for child in ax.child_axes if child.get_label() == "note"]:
        earlier.remove()
    above = ax.secondary_xaxis("top", label="note")
    above.set_xticks([])
    above.spines["top"].set_visible(False)
    above.set_xlabel(text, loc="right", fontsize="small", color=FAINT)


def say_empty(ax: "Axes", text: str) -> None:
    """Write into a picture that it has nothing to show."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=FAINT)
